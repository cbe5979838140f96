"""What holds for the doctests of modules and guide, too."""

import functools
import os
import sys
import warnings

# Pictures are drawn in memory, also where there is a screen.
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

# Examples in docstrings that train or explain a whole model.
SLOW_EXAMPLES = {
    "effboost._efficientnet_featurizer.EfficientNetFeaturizer",
    "effboost._hybrid_classifier.HybridClassifier",
    "effboost.comparators._bagged_inception_resnets.BaggedNetworks",
    "effboost.comparators._prellberg.RotationAveragedCNN",
    "effboost.dask._classifier.DaskHybridClassifier",
    "effboost.evaluation._evaluate.evaluate",
    "effboost.inspection._attribution.hybrid_attribution",
    "effboost.inspection._comparison.ExtractorComparisonDisplay",
    "effboost.inspection._heat.AttributionDisplay",
    "effboost.inspection._history.TrainingHistoryDisplay",
    "effboost.inspection._importance.feature_importance",
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


@pytest.fixture(scope="session", autouse=True)
def operators_are_parsed_once():
    """Let torch parse the sources of its 500 ONNX operators once, not for each exported network.

    That is most of the time of the export of a tiny network; the graphs are the same.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    parse = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", parse)
        yield


@pytest.fixture(autouse=True)
def close_figures():
    """Forget the figures of each test: matplotlib warns of the 21st that stays open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
