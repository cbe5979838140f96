"""The content of a report, as plain values for the templates."""

from __future__ import annotations

import math
import platform
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from effboost._images import ImageSequence
from effboost.evaluation import EvaluationReport, LearningCurve, Metric
from effboost.evaluation._report import TITLES
from effboost.inspection._report_decisions import TrainingData, show_importance, show_mistakes
from effboost.inspection._report_labels import describe_label_issues
from effboost.inspection._report_pictures import (
    picture_curve,
    picture_history,
    picture_reliability,
    picture_subjects,
)

__all__ = ["describe"]

SECTIONS: Final = (
    ("tested", "Tested images and subjects"),
    ("numbers", "Results"),
    ("sites", "Other sites"),
    ("confusion", "Confusion matrix"),
    ("subjects", "Results by subject"),
    ("mistakes", "Most confident errors"),
    ("labels", "Labels that are probably wrong"),
    ("decides", "What decides"),
    ("calibration", "Calibration"),
    ("curve", "How many subjects are needed"),
    ("leakage", "Leakage"),
    ("settings", "Settings and versions"),
    ("limits", "Limits"),
)
_MEANINGS: Final = {
    "accuracy": "share of images classified correctly",
    "weighted_f1": "F1 of the classes, weighted by their images",
    "auroc": "how often an image of a class gets a higher probability for it than one of another; "
    "0.5 is chance",
    "log_loss": "penalty for wrong and uncertain probabilities; 0 is best",
    "calibration_error": "mean difference of confidence and accuracy; 0 is best",
    "sensitivity_at_95_specificity": "share of positive images that are detected if 95 % of the "
    "negative ones are not",
    "specificity_at_95_sensitivity": "share of negative images that are not detected if 95 % of "
    "the positive ones are",
    "subject_accuracy": "share of subjects classified correctly by the mean over their images",
    "subject_auroc": "AUROC of these means",
}
_LIMITS: Final = (
    "This is research software, not a medical device. It must not be used for a diagnosis.",
    "The results are valid for images like these: of the same microscopes, stains, laboratories "
    "and patients. For others, they may be far worse and must be measured again.",
    "The intervals describe how much the results vary with the choice of subjects. They do not "
    "account for wrong labels, other laboratories, or other kinds of subjects.",
    "Accuracy, precision and calibration depend on the frequencies of the classes in these images.",
    "Heat maps show what the model used, not what is true of the disease.",
    "If settings were chosen by these results, the results are too good.",
)
_PACKAGES: Final = (
    "effboost",
    "scikit-learn",
    "torch",
    "torchvision",
    "xgboost",
    "skorch",
    "onnxruntime",
)
_MOST_SUBJECTS: Final = 500
_LONGEST: Final = 300


def describe(
    evaluation: EvaluationReport,
    images: ImageSequence,
    training: TrainingData | None,
    n_mistakes: int,
    *,
    labels: bool,
    curve: LearningCurve | None,
) -> dict[str, Any]:
    """Collect the content of both templates, except for title, date and leakage."""
    found = evaluation
    issues = describe_label_issues(found, images) if labels else None
    optional = {"sites": bool(found.sites), "labels": labels, "curve": curve is not None}
    return {
        "sections": [pair for pair in SECTIONS if optional.get(pair[0], True)],
        "heading_of": dict(SECTIONS),
        "model": _name_model(found),
        "prefit": found.prefit,
        "n_splits": found.n_splits,
        "n_images": len(found.y_true),
        "n_subjects": found.n_subjects,
        "confidence": f"{100 * found.confidence:g} %",
        "names": [str(label) for label in found.classes],
        "classes": _count_classes(found),
        "per_subject": _count_images(found),
        "of_hundred": _of_hundred(found.metrics["accuracy"]),
        "majority": _find_majority(found),
        "columns": ["Value"] if found.cnn is None else ["Hybrid", "Network alone"],
        "metrics": _list_metrics(found),
        "gain": None if found.gain is None else _show(found.gain),
        "per_class": [
            {
                "name": name,
                "support": found.support[name],
                "numbers": [_show(scores[key]) for key in ("precision", "recall", "f1")],
            }
            for name, scores in found.per_class.items()
        ],
        "sites": _list_sites(found),
        "falls": _list_falls(found),
        "confusion": _list_confusion(found),
        "subjects": _list_subjects(found),
        "subject_picture": picture_subjects(found),
        "n_wrong": int((found.y_true != found.y_pred).sum()),
        **show_mistakes(found, images, training, n_mistakes),
        "issues": issues,
        **show_importance(found, images),
        "curve": None if curve is None else _describe_curve(curve),
        "calibration_error": _show(found.metrics.get("calibration_error")),
        "reliability_picture": picture_reliability(found),
        "history_picture": picture_history(found),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in _PACKAGES}
        | {"machine": f"{platform.system()} {platform.machine()}"},
        "settings": _list_settings(found),
        "limits": _LIMITS,
    }


def _name_model(found: EvaluationReport) -> str:
    if not found.estimators:
        return "a classifier"
    model = found.estimators[0]
    name = type(model).__name__
    if hasattr(model, "featurizer_") and hasattr(model, "classifier_"):
        spec, head = model.featurizer_.spec_, model.classifier_
        return f"{name} ({spec.name} and {type(head).__name__})"
    return name


def _show(metric: Metric | None) -> str:
    if metric is None or math.isnan(metric.value):
        return "not defined"
    if math.isnan(metric.low):
        return f"{metric.value:.3f}"
    return str(metric)


def _count_classes(found: EvaluationReport) -> list[dict[str, Any]]:
    return [
        {
            "name": str(label),
            "images": int((found.y_true == label).sum()),
            "subjects": len(np.unique(found.groups[found.y_true == label])),
        }
        for label in found.classes
    ]


def _count_images(found: EvaluationReport) -> str:
    counts = np.unique(found.groups, return_counts=True)[1]
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return f"Each subject has {low} image{'s' * (low != 1)}."
    return f"Subjects have {low} to {high} images, {int(np.median(counts))} in the median."


def _of_hundred(accuracy: Metric) -> dict[str, int | None]:
    low, high = (
        None if math.isnan(end) else round(100 * end) for end in (accuracy.low, accuracy.high)
    )
    return {"value": round(100 * accuracy.value), "low": low, "high": high}


def _find_majority(found: EvaluationReport) -> dict[str, Any]:
    name = max(found.support, key=lambda label: found.support[label])
    return {"name": name, "share": round(100 * found.support[name] / len(found.y_true))}


def _list_metrics(found: EvaluationReport) -> list[dict[str, Any]]:
    reports = [found] if found.cnn is None else [found, found.cnn]
    return [
        {
            "name": TITLES[name],
            "numbers": [_show(report.metrics.get(name)) for report in reports],
            "meaning": _MEANINGS[name],
        }
        for name in TITLES
        if name in found.metrics
    ]


def _list_sites(found: EvaluationReport) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "images": site.n_images,
            "subjects": site.n_subjects,
            "numbers": [
                _show(metric)
                for metric in (
                    site.metrics["accuracy"].within,
                    site.metrics["accuracy"].across,
                    site.metrics["accuracy"].gap,
                )
            ],
        }
        for name, site in found.sites.items()
    ]


def _list_falls(found: EvaluationReport) -> list[dict[str, str]]:
    """List the recalls of classes that fall at a site."""
    return [
        {
            "site": name,
            "label": label,
            "within": _show(site.recall[label].within),
            "across": _show(site.recall[label].across),
        }
        for name, site in found.sites.items()
        for label in site.falling
    ]


def _describe_curve(curve: LearningCurve) -> dict[str, Any]:
    rows = [
        (f"{n:.0f}", _show(metric), False)
        for n, metric in zip(curve.n_subjects, curve.accuracy, strict=True)
    ]
    twice = 2 * float(curve.n_subjects[-1])
    rows.append((f"{twice:.0f}", _show(curve.predict(twice)), True))
    return {
        "rows": [
            {"subjects": n, "accuracy": accuracy, "extrapolated": beyond}
            for n, accuracy, beyond in rows
        ],
        "picture": picture_curve(curve),
    }


def _list_confusion(found: EvaluationReport) -> list[dict[str, Any]]:
    rows = []
    for i, (label, counts) in enumerate(zip(found.classes, found.confusion_matrix, strict=True)):
        total = max(1, int(counts.sum()))
        cells = [
            {"count": int(count), "share": round(int(count) / total, 3), "right": i == j}
            for j, count in enumerate(counts)
        ]
        rows.append({"name": str(label), "cells": cells})
    return rows


def _list_subjects(found: EvaluationReport) -> list[dict[str, Any]]:
    names, codes = np.unique(found.groups, return_inverse=True)
    images = np.bincount(codes)
    right = np.bincount(codes, weights=found.y_true == found.y_pred).astype(int)
    order = np.lexsort((-images, right / images))[:_MOST_SUBJECTS]
    return [
        {
            "name": str(names[i]),
            "classes": ", ".join(str(label) for label in np.unique(found.y_true[codes == i])),
            "images": int(images[i]),
            "right": int(right[i]),
            "share": f"{100 * right[i] / images[i]:.0f} %",
        }
        for i in order
    ]


def _list_settings(found: EvaluationReport) -> list[tuple[str, str]]:
    if not found.estimators:
        return []
    parameters = found.estimators[0].get_params(deep=True)
    return [(name, _shorten(repr(value))) for name, value in sorted(parameters.items())]


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
