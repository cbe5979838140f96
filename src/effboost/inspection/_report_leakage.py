"""What stands on both sides of a split, in words for a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from effboost._images import ImageSequence
from effboost.evaluation import EvaluationReport
from effboost.exceptions import LeakageError
from effboost.model_selection import check_leakage

__all__ = ["compare_with_training", "find_leakage"]


def find_leakage(
    found: EvaluationReport,
    images: ImageSequence,
    comparison: list[dict[str, Any]] | None,
) -> list[dict[str, Any]]:
    """Say what stands on both sides of the split, and what stands twice among the images."""
    findings = []
    # What evaluate takes for subjects where none are named.
    unknown = np.array_equal(found.groups, np.arange(len(found.groups)))
    if unknown:
        findings.append(
            _finding(
                "Subjects are not known.",
                "Each image counts as a subject of its own. If several images come from one "
                "subject, the intervals are too narrow, and nobody can say who stands on both "
                "sides.",
            )
        )
    if comparison is not None:
        findings += comparison
    elif found.prefit:
        findings.append(
            _finding(
                "Not compared with the training images.",
                "They were not handed over (X_train), so that nobody looked whether a subject or "
                "an image was trained on.",
            )
        )
    elif found.shared_subjects:
        findings.append(
            _finding(
                f"{found.shared_subjects} subjects stand on both sides.",
                "They were tested by models that had been fitted on other images of theirs: the "
                "numbers flatter.",
                alarm=True,
            )
        )
    elif not unknown:
        findings.append(
            _finding(
                "No subject stands on both sides.",
                "Each was tested by a model that was fitted without it.",
            )
        )
    return findings + _find_copies(found, images)


def compare_with_training(
    training: ImageSequence,
    images: ImageSequence,
    groups_train: npt.ArrayLike | None,
    evaluation: EvaluationReport,
) -> list[dict[str, Any]]:
    """Say whether something that the model was fitted on was tested."""
    known = training.groups if groups_train is None else groups_train
    tested = evaluation.groups if known is not None else None
    try:
        check_leakage(training, images, groups_train=known, groups_test=tested)
    except LeakageError as error:
        return [_finding("Training and test images are not apart.", f"{error}.", alarm=True)]
    compared = "The training images and these were compared by "
    if known is None:
        return [
            _finding(
                "No image stands on both sides.",
                f"{compared}the bytes of their files. Whose training images they are is not known "
                "(groups_train).",
            )
        ]
    return [
        _finding(
            "No subject and no image stands on both sides.",
            f"{compared}subject, and by the bytes of their files.",
        )
    ]


def _find_copies(found: EvaluationReport, images: ImageSequence) -> list[dict[str, Any]]:
    """Look for one image under two names."""
    seen: dict[str, int] = {}
    copies, at_odds = [], 0
    for i in range(len(images)):
        first = seen.setdefault(images.fingerprint(i), i)
        if first != i:
            copies.append((first, i))
            at_odds += int(found.y_true[first] != found.y_true[i])
    if not copies:
        return [
            _finding("No image stands twice.", "They were compared by the bytes of their files.")
        ]
    one, other = (images.name(i) for i in copies[0])
    text = f"Such as {one} and {other}."
    if at_odds:
        text += f" {at_odds} of them are labelled in two ways."
    apart = [pair for pair in copies if found.fold[pair[0]] != found.fold[pair[1]]]
    if apart:
        text += f" {len(apart)} of them were trained on in another round: the numbers flatter."
    plural = "image stands" if len(copies) == 1 else "images stand"
    return [_finding(f"{len(copies)} {plural} twice.", text, alarm=bool(at_odds or apart))]


def _finding(heading: str, text: str, *, alarm: bool = False) -> dict[str, Any]:
    return {"heading": heading, "text": text, "alarm": alarm}
