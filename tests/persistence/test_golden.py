"""Files of every version of the format load, and predict what they did when they were made."""

import json
from pathlib import Path

import numpy as np
import pytest

import effboost
from effboost.datasets import make_blood_cells
from effboost.persistence._manifest import VERSION

HERE = Path(__file__).parent / "golden"
CELLS = {"n_subjects": 4, "images_per_subject": 4, "image_size": 48, "random_state": 0}
EXPECTED = {
    name: entry
    for path in sorted(HERE.glob("expected-*.json"))
    for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
}


@pytest.mark.slow
def test_there_is_a_golden_file_of_each_kind():
    kinds = {type(effboost.load(HERE / name)).__name__ for name in EXPECTED}
    assert kinds == {"CNNClassifier", "HybridClassifier"}
    assert {path.name for path in HERE.glob("*.effboost")} == EXPECTED.keys()


def test_the_present_format_has_golden_files():
    kinds = {name.partition("-")[2].partition("-")[2] for name in EXPECTED}
    present = {name for name in EXPECTED if name.startswith(f"format-{VERSION}-")}
    assert present == {f"format-{VERSION}-{kind}" for kind in kinds}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_golden_files_predict_as_before(name):
    model = effboost.load(HERE / name)
    images = make_blood_cells(**CELLS).images
    assert model.classes_.tolist() == EXPECTED[name]["classes"]
    # Sums in another order, on another machine or by another torch, differ by far less.
    np.testing.assert_allclose(
        model.predict_proba(images), EXPECTED[name]["probabilities"], rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.endswith("-hybrid.effboost")])
def test_parameters_of_a_loaded_booster_can_be_set(name):
    model = effboost.load(HERE / name)
    images = make_blood_cells(**CELLS).images
    expected = model.predict_proba(images)
    model.classifier_.set_params(n_jobs=1)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-6)
