"""Explanations of decisions, displays of results, and reports."""

from effboost.inspection._attribution import Attribution, hybrid_attribution
from effboost.inspection._cam import ClassActivation, grad_cam
from effboost.inspection._comparison import ExtractorComparisonDisplay
from effboost.inspection._feature_view import FeatureViewDisplay
from effboost.inspection._heat import AttributionDisplay, CAMDisplay
from effboost.inspection._history import TrainingHistoryDisplay
from effboost.inspection._importance import FeatureImportance, feature_importance
from effboost.inspection._importance_display import FeatureImportanceDisplay
from effboost.inspection._label_issues import LabelIssues, label_issues
from effboost.inspection._learning_curve import LearningCurveDisplay
from effboost.inspection._neighbours import Neighbours, neighbours
from effboost.inspection._neighbours_display import NeighboursDisplay
from effboost.inspection._occlusion import occlusion_attribution
from effboost.inspection._reliability import ReliabilityDisplay
from effboost.inspection._report import HTMLReport, report
from effboost.inspection._subjects import SubjectDisplay

__all__ = [
    "Attribution",
    "AttributionDisplay",
    "CAMDisplay",
    "ClassActivation",
    "ExtractorComparisonDisplay",
    "FeatureImportance",
    "FeatureImportanceDisplay",
    "FeatureViewDisplay",
    "HTMLReport",
    "LabelIssues",
    "LearningCurveDisplay",
    "Neighbours",
    "NeighboursDisplay",
    "ReliabilityDisplay",
    "SubjectDisplay",
    "TrainingHistoryDisplay",
    "feature_importance",
    "grad_cam",
    "hybrid_attribution",
    "label_issues",
    "neighbours",
    "occlusion_attribution",
    "report",
]
