"""Comparison of a model with its export with fewer bits, on images."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from effboost._images import ImageSequence
from effboost._utils.threads import count_threads, map_ordered
from effboost.exceptions import UnsupportedInputError
from effboost.model_selection._leakage import check_group_leakage
from effboost.onnx._model import OnnxModel

__all__ = ["Agreement", "choose_evenly", "compare", "split_images"]

_FEWEST: Final = 10
_HELD_OUT: Final = 0.2
_MOST_COMPARED: Final = 1000


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How often an export predicts the class that the model predicts.

    Attributes
    ----------
    calibration, held_out : float
        The share of the images with equal classes: of those that the export was made with, and of
        others.
    n_calibration, n_held_out : int
        The numbers of images.
    """

    calibration: float
    held_out: float
    n_calibration: int
    n_held_out: int

    def describe(self) -> str:
        """Describe it for the metadata of the file."""
        return json.dumps(dataclasses.asdict(self))


def split_images(
    images: ImageSequence, validation: ImageSequence | None
) -> tuple[ImageSequence, ImageSequence]:
    """Return the images for calibration, and others; without `validation`, a fifth of the subjects.

    Raises
    ------
    UnsupportedInputError
        If there are too few images or subjects.
    LeakageError
        If a subject of `images` is also in `validation`.
    """
    if len(images) < _FEWEST:
        raise UnsupportedInputError(
            f"calibration has {len(images)} images; pass {_FEWEST} or more training images"
        )
    if validation is not None:
        if not len(validation):
            raise UnsupportedInputError("validation has no images; pass some of other subjects")
        check_group_leakage(images.groups, validation.groups)
        return images, validation
    groups = np.arange(len(images)) if images.groups is None else images.groups
    if len(np.unique(groups)) < 2:
        raise UnsupportedInputError(
            "calibration has images of one subject; pass images of other subjects as validation"
        )
    split = GroupShuffleSplit(1, test_size=_HELD_OUT, random_state=0)
    ((known, others),) = split.split(groups, groups=groups)
    return images[known], images[others]


def choose_evenly(images: ImageSequence, n: int) -> ImageSequence:
    """Return up to `n` images, at equal distances."""
    if len(images) <= n:
        return images
    return images[np.linspace(0, len(images) - 1, n).round().astype(int)]


def compare(model: Any, content: bytes, known: ImageSequence, others: ImageSequence) -> Agreement:
    """Compare the classes that a model and its exported file predict."""
    exported = OnnxModel("the export", content)
    shares = []
    for images in (known, others):
        some = choose_evenly(images, _MOST_COMPARED)

        def best(index: int, some: ImageSequence = some) -> int:
            return int(exported.run(some[index]).argmax())

        found = list(map_ordered(best, range(len(some)), count_threads()))
        shares.append(
            (float((model.predict_proba(some).argmax(axis=1) == found).mean()), len(some))
        )
    (of_known, n_known), (of_others, n_others) = shares
    return Agreement(of_known, of_others, n_known, n_others)
