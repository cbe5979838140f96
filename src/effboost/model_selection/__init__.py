"""Splits by subject, leakage checks and subject-level aggregation, without torch."""

from effboost.model_selection._folds import SubjectKFold
from effboost.model_selection._leakage import check_leakage
from effboost.model_selection._split import SubjectSplit, subject_folds, subject_split
from effboost.model_selection._subjects import aggregate_by_subject, one_image_per_subject

__all__ = [
    "SubjectKFold",
    "SubjectSplit",
    "aggregate_by_subject",
    "check_leakage",
    "one_image_per_subject",
    "subject_folds",
    "subject_split",
]
