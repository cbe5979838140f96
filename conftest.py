"""What holds for the doctests of modules and guide, too."""

import os
import sys
import warnings

# Pictures are drawn in memory, also where there is a screen.
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

# Examples in docstrings that train or explain a whole model.
SLOW_EXAMPLES = {
    "effboost._hybrid_classifier.HybridClassifier",
    "effboost.comparators._bagged_inception_resnets.BaggedNetworks",
    "effboost.comparators._prellberg.RotationAveragedCNN",
    "effboost.evaluation._evaluate.evaluate",
    "effboost.inspection._attribution.hybrid_attribution",
    "effboost.inspection._comparison.ExtractorComparisonDisplay",
    "effboost.inspection._heat.AttributionDisplay",
    "effboost.inspection._history.TrainingHistoryDisplay",
    "effboost.inspection._report.report",
    "effboost.reproduction._reproduce.reproduce",
}


def pytest_collection_modifyitems(items):
    """Mark the pages of the guide, and the longest examples, as slow."""
    for item in items:
        if item.path.suffix == ".md" or item.name in SLOW_EXAMPLES:
            item.add_marker(pytest.mark.slow)
    if any("dask" in item.nodeid for item in items):
        _find_own_address()


def _find_own_address():
    """Let Dask find the address of this machine, and keep it: in a test, it could not ask."""
    from distributed.utils import get_ip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without a network
        get_ip()


@pytest.fixture(autouse=True)
def close_figures():
    """Forget the figures of each test: matplotlib warns of the 21st that stays open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
