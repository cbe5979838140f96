import subprocess
import sys

import pytest

import effboost

HEAVY = ("torch", "torchvision", "xgboost", "skorch", "sklearn", "numpy", "pandas", "matplotlib")


def loaded_after(statement):
    code = f"import sys; {statement}; print(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.split()


def test_import_effboost_loads_nothing_heavy():
    assert loaded_after("import effboost") == []


@pytest.mark.parametrize(
    "statement",
    [
        "import effboost.datasets",
        "import effboost.model_selection",
        "import effboost.metrics",
        "from effboost import ImageSequence",
        "from effboost import ImageTransform",
        "import effboost.cli",
        "import effboost.persistence",
    ],
)
def test_reading_splitting_and_the_command_line_load_no_torch(statement):
    loaded = loaded_after(statement)
    assert "torch" not in loaded
    assert "xgboost" not in loaded


@pytest.mark.parametrize("name", effboost.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(effboost, name).__doc__
    assert name in dir(effboost)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Featurizer'"):
        effboost.Featurizer  # noqa: B018


def test_the_version_is_that_of_the_package():
    assert effboost.__version__.count(".") >= 2
