"""The findings on leakage in a report."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from effboost._images import ImageSequence, identify
from effboost.evaluation import EvaluationReport
from effboost.exceptions import LeakageError
from effboost.model_selection import check_leakage

__all__ = ["compare_with_training", "find_leakage"]


def find_leakage(
    found: EvaluationReport,
    images: ImageSequence,
    comparison: list[dict[str, Any]] | None,
) -> list[dict[str, Any]]:
    """Report subjects and images in both training and test data, and repeated images."""
    findings = []
    if not found.groups_known:
        findings.append(
            _finding(
                "Subjects are not known.",
                "Each image is treated as its own subject. If several images are of one subject, "
                "the intervals are too narrow, and subjects in both training and test data are "
                "not found.",
            )
        )
    if comparison is not None:
        findings += comparison
    elif found.prefit:
        findings.append(
            _finding(
                "Not compared with the training images.",
                "The training images were not given (X_train), so it is not known whether the "
                "model was fitted on a subject or an image of the test data.",
            )
        )
    elif found.shared_subjects:
        findings.append(
            _finding(
                f"{found.shared_subjects} subjects are in both training and test data.",
                "They were tested by models fitted on other images of the same subjects: the "
                "results are too good.",
                alarm=True,
            )
        )
    elif found.groups_known:
        findings.append(
            _finding(
                "No subject is in both training and test data.",
                "Each subject was tested by a model fitted without it.",
            )
        )
    return findings + _find_copies(found, images)


def compare_with_training(
    training: ImageSequence,
    images: ImageSequence,
    groups_train: npt.ArrayLike | None,
    evaluation: EvaluationReport,
) -> list[dict[str, Any]]:
    """Report whether the model was tested on subjects or images that it was fitted on."""
    known = training.groups if groups_train is None else groups_train
    tested = evaluation.groups if evaluation.groups_known else None
    try:
        check_leakage(training, images, groups_train=known, groups_test=tested)
    except LeakageError as error:
        return [_finding("Training and test data overlap.", f"{error}.", alarm=True)]
    compared = "Training and test images were compared by "
    if known is None or tested is None:
        which = "training images are not known (groups_train)"
        if known is not None:
            which = "test images are not known (groups)"
        return [
            _finding(
                "No image is in both training and test data.",
                f"{compared}the bytes of their files. The subjects of the {which}.",
            )
        ]
    return [
        _finding(
            "No subject and no image is in both training and test data.",
            f"{compared}subject, and by the bytes of their files.",
        )
    ]


def _find_copies(found: EvaluationReport, images: ImageSequence) -> list[dict[str, Any]]:
    """Find images that occur under two names."""
    seen: dict[str, int] = {}
    copies, at_odds = [], 0
    for i in range(len(images)):
        first = seen.setdefault(identify(images, i), i)
        if first != i:
            copies.append((first, i))
            at_odds += int(found.y_true[first] != found.y_true[i])
    if not copies:
        return [
            _finding("No image is repeated.", "Images were compared by the bytes of their files.")
        ]
    one, other = (images.name(i) for i in copies[0])
    text = f"Such as {one} and {other}."
    if at_odds:
        text += f" {at_odds} of them have two different labels."
    apart = [pair for pair in copies if found.fold[pair[0]] != found.fold[pair[1]]]
    if apart:
        text += f" {len(apart)} of them were trained on in another fold: the results are too good."
    plural = "image is" if len(copies) == 1 else "images are"
    return [_finding(f"{len(copies)} {plural} repeated.", text, alarm=bool(at_odds or apart))]


def _finding(heading: str, text: str, *, alarm: bool = False) -> dict[str, Any]:
    return {"heading": heading, "text": text, "alarm": alarm}
