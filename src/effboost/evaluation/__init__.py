"""Cross-validated, subject-wise evaluation: numbers with intervals, as a table and as JSON."""

from effboost.evaluation._evaluate import evaluate
from effboost.evaluation._learning_curve import LearningCurve, learning_curve
from effboost.evaluation._report import EvaluationReport
from effboost.evaluation._scores import Metric
from effboost.evaluation._sites import SiteComparison, SiteResult

__all__ = [
    "EvaluationReport",
    "LearningCurve",
    "Metric",
    "SiteComparison",
    "SiteResult",
    "evaluate",
    "learning_curve",
]
