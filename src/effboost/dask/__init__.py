"""Features, heads and predictions on a Dask cluster, shaped like `xgboost.dask`."""

# First, for an error that names the extra.
import effboost.dask._extra  # noqa: F401
from effboost.dask._classifier import DaskHybridClassifier
from effboost.dask._featurizer import DaskImageFeaturizer
from effboost.dask._stream import iter_predictions

__all__ = ["DaskHybridClassifier", "DaskImageFeaturizer", "iter_predictions"]
