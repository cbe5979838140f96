"""Why a model decides as it does, and pictures of how well: see `hybrid_attribution`."""

from effboost.inspection._attribution import HybridAttribution, hybrid_attribution
from effboost.inspection._history import TrainingHistoryDisplay

__all__ = [
    "HybridAttribution",
    "TrainingHistoryDisplay",
    "hybrid_attribution",
]
