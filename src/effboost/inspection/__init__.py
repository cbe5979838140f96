"""Why a model decides as it does, and pictures of how well: see `hybrid_attribution`."""

from effboost.inspection._attribution import HybridAttribution, hybrid_attribution
from effboost.inspection._comparison import ExtractorComparisonDisplay
from effboost.inspection._feature_view import FeatureViewDisplay
from effboost.inspection._history import TrainingHistoryDisplay
from effboost.inspection._reliability import ReliabilityDisplay
from effboost.inspection._subjects import SubjectDisplay

__all__ = [
    "ExtractorComparisonDisplay",
    "FeatureViewDisplay",
    "HybridAttribution",
    "ReliabilityDisplay",
    "SubjectDisplay",
    "TrainingHistoryDisplay",
    "hybrid_attribution",
]
