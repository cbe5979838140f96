"""The section of a report on labels that are probably wrong."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from effboost._images import ImageSequence
from effboost.evaluation import EvaluationReport
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._label_issues import label_issues

__all__ = ["describe_label_issues"]

_MOST: Final = 100


def describe_label_issues(found: EvaluationReport, images: ImageSequence) -> dict[str, Any]:
    """Describe the images and subjects whose label is probably wrong.

    Raises
    ------
    MissingDependencyError
        If cleanlab is not installed.
    UnsupportedInputError
        If the classifier has no probabilities.
    """
    if found.probabilities is None:
        raise UnsupportedInputError(
            "labels=True needs a classifier with probabilities; this one has none"
        )
    # The subjects that evaluate assumes if none are given are no subjects.
    known = not np.array_equal(found.groups, np.arange(len(found.groups)))
    groups = found.groups if known else None
    issues = label_issues(found.y_true, found.probabilities, groups, classes=found.classes)
    return {
        "n_images": len(issues.images),
        "of_subjects": issues.labels_of_subjects,
        "images": [
            {
                "name": images.name(i),
                "subject": str(found.groups[i]) if known else "",
                "label": str(found.y_true[i]),
                "suggested": str(issues.suggested[i]),
                "quality": f"{issues.quality[i]:.3f}",
            }
            for i in issues.images[:_MOST].tolist()
        ],
        "subjects": [
            {"name": str(name), "quality": f"{issues.subject_quality[name]:.3f}"}
            for name in issues.subjects.tolist()
        ],
    }
