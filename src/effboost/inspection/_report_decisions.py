"""What a report shows of decisions: errors with heat maps and neighbours, and what decides."""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from effboost._images import ImageSequence
from effboost.evaluation import EvaluationReport
from effboost.exceptions import EffboostError, UnsupportedInputError
from effboost.inspection._heat import AttributionDisplay, explain
from effboost.inspection._importance import feature_importance, find_patches
from effboost.inspection._importance_display import FeatureImportanceDisplay
from effboost.inspection._neighbours import TrainingImages
from effboost.inspection._neighbours_display import NeighboursDisplay, find_and_picture
from effboost.inspection._report_pictures import picture_importance, picture_mistake

__all__ = ["TrainingData", "show_importance", "show_mistakes"]

_EXPLAINED: Final = {
    "exact": "Red supports the class on the scale, blue contradicts it: the contribution of each "
    "position to the decision of the model ({method}); the line outlines the largest ones.",
    "occlusion": "Red supports the class on the scale, blue contradicts it: the change of the "
    "margin when that part of the picture is hidden (occlusion).",
}
_NEAREST: Final = (
    "Below are the training images of each class, of other subjects, that the model decides on "
    "most alike: for the same reasons, and therefore at a small distance. The predicted class is "
    "in bold."
)
_BACKGROUND: Final = 32
_N_NEIGHBORS: Final = 4
# Images whose features are computed once more: to search neighbours, and for what decides.
_MOST_TRAINING: Final = 500
_MOST_EXPLAINED: Final = 300


class TrainingData(NamedTuple):
    """The images that a model was fitted on, and what is known of them."""

    images: ImageSequence
    labels: npt.NDArray[Any] | None
    groups: npt.NDArray[Any] | None


def show_mistakes(
    found: EvaluationReport,
    images: ImageSequence,
    training: TrainingData | None,
    n_mistakes: int,
) -> dict[str, Any]:
    """Describe the most confident errors with images, and how these are explained."""
    wrong = np.flatnonzero(found.y_true != found.y_pred)
    sure = None if found.probabilities is None else found.probabilities.max(axis=1)
    if sure is not None:
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    chosen = wrong[:n_mistakes]
    displays, near, said = _explain_mistakes(found, images, training, chosen)
    folder, names = _shorten_names(images, chosen)
    mistakes = []
    for i, name in zip(chosen.tolist(), names, strict=True):
        mistakes.append(
            {
                "source": picture_mistake(images, i, displays.get(i), near.get(i)),
                "alt": f"Image of {found.groups[i]}, true {found.y_true[i]}, predicted "
                f"{found.y_pred[i]}; as it is"
                + (" and with heat" if i in displays else "")
                + (", above the most similar training images." if i in near else "."),
                "name": name,
                "subject": str(found.groups[i]),
                "true": str(found.y_true[i]),
                "predicted": str(found.y_pred[i]),
                "probability": None if sure is None else f"{100 * sure[i]:.0f} %",
            }
        )
    return {"mistakes": mistakes, "explained": said, "folder": folder}


def _shorten_names(
    images: ImageSequence, chosen: npt.NDArray[np.intp]
) -> tuple[str | None, list[str]]:
    """Find the common folder of all images, and the names of some below it."""
    paths = [images.path(i) for i in range(len(images))]
    names = [images.name(i) for i in chosen.tolist()]
    folders = {os.path.dirname(path) for path in paths if path is not None}  # noqa: PTH120
    try:
        # Files of two drives, or relative and absolute paths, have no common folder.
        folder = os.path.commonpath(folders) if None not in paths else ""
    except ValueError:
        folder = ""
    if not folder:
        return None, names
    return folder, [os.path.relpath(name, folder) for name in names]


def _explain_mistakes(
    found: EvaluationReport,
    images: ImageSequence,
    training: TrainingData | None,
    chosen: npt.NDArray[np.intp],
) -> tuple[dict[int, AttributionDisplay], dict[int, NeighboursDisplay], str]:
    """Explain images by the models that were tested on them; describe how, or why not."""
    if not found.estimators:
        reason = "this evaluation did not keep the fitted models"
        return {}, {}, f"There are no heat maps, since {reason}."
    displays: dict[int, AttributionDisplay] = {}
    near: dict[int, NeighboursDisplay] = {}
    said = ""
    for fold in np.unique(found.fold[chosen]):
        own = chosen[found.fold[chosen] == fold]
        clf, pool = found.estimators[fold], _find_training(found, images, training, fold)
        background = None if pool is None else _choose_background(pool.images)
        try:
            pictures, attribution = explain(clf, images[own], background=background)
        except EffboostError as error:
            return {}, {}, f"There are no heat maps: {error}."
        kind = "occlusion" if attribution.method == "occlusion" else "exact"
        said = _EXPLAINED[kind].format(method=attribution.method)
        for row, i in enumerate(own.tolist()):
            displays[i] = AttributionDisplay(pictures[row : row + 1], attribution.take(row))
        if pool is not None and kind == "exact":
            near |= _find_near(clf, images[own], found.groups[own], own, pool, pictures)
    if near:
        said += " " + _NEAREST
    return displays, near, said


def _find_training(
    found: EvaluationReport, images: ImageSequence, training: TrainingData | None, fold: int
) -> TrainingData | None:
    """Find what the model of a fold was fitted on; None if it is not known."""
    if training is not None or found.prefit:
        return training
    rows = np.flatnonzero(found.fold != fold)
    return TrainingData(images[rows], found.y_true[rows], found.groups[rows])


def _find_near(
    clf: Any,
    images: ImageSequence,
    groups: npt.NDArray[Any],
    own: npt.NDArray[np.intp],
    pool: TrainingData,
    pictures: npt.NDArray[np.uint8],
) -> dict[int, NeighboursDisplay]:
    """Find the training images of other subjects that are decided on most like some images."""
    if pool.labels is None:
        return {}
    some = np.arange(len(pool.images))
    if len(some) > _MOST_TRAINING:
        # Of all classes in proportion.
        order = np.argsort(pool.labels, kind="stable")
        some = np.sort(order[np.linspace(0, len(order) - 1, _MOST_TRAINING).astype(int)])
    images, among = images[:], pool.images[some]
    # What is passed decides, also for images that carry subjects.
    images.groups = among.groups = None
    training = TrainingImages(
        clf, among, pool.labels[some], None if pool.groups is None else pool.groups[some]
    )
    subjects = None if pool.groups is None else groups
    neighbours, nearest = find_and_picture(training, images, subjects, _N_NEIGHBORS)
    display = NeighboursDisplay(pictures, nearest, neighbours)
    return {i: display.take(row) for row, i in enumerate(own.tolist())}


def _choose_background(pool: ImageSequence) -> ImageSequence | None:
    """Choose some of the images that a model was fitted on."""
    if len(pool) < _BACKGROUND:
        return None
    return pool[np.linspace(0, len(pool) - 1, _BACKGROUND).astype(int)]


def show_importance(found: EvaluationReport, images: ImageSequence) -> dict[str, Any]:
    """Describe what decides over the tested images; of several models, by the first one."""
    nothing: dict[str, Any] = {"importance_picture": None, "stages": [], "n_importance": 0}
    if not found.estimators:
        return nothing | {"no_importance": "This evaluation did not keep the fitted models."}
    clf = found.estimators[0]
    rows = np.flatnonzero((found.fold == 0) & np.isin(found.y_true, clf.classes_))
    if len(rows) > _MOST_EXPLAINED:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_EXPLAINED).astype(int)]
    groups = found.groups[rows]
    # Each image is its own subject if none are known.
    known = None if len(np.unique(found.groups)) == len(found.groups) else groups
    try:
        importance = feature_importance(clf, images[rows], found.y_true[rows], groups=known)
    except EffboostError as error:
        return nothing | {"no_importance": f"It cannot be told for this model: {error}."}
    try:
        patches = find_patches(clf, images[rows], importance)
    except UnsupportedInputError:  # features without positions
        patches = []
    names, shares = importance.by_stage(importance.y)
    _, overall = importance.by_stage()
    stages = [
        {
            "name": stage or "last map",
            "shares": [f"{100 * share:.0f} %" for share in (overall[0, i], *shares[:, i])],
        }
        for i, stage in enumerate(importance.stages)
    ]
    return {
        "no_importance": None,
        "importance_picture": picture_importance(FeatureImportanceDisplay(importance, patches)),
        "stages": stages,
        "stage_columns": ["all images", *(str(name) for name in names)],
        "n_importance": len(rows),
    }
