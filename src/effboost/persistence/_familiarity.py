"""What a classifier has learnt about its training images, in files."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from effboost._familiarity import TrainingRange
from effboost._heads.feature_distance import Familiarity, FeatureDistance
from effboost._utils.refusal import RefusedError
from effboost.persistence._json import check_fields

__all__ = ["build_familiarity", "describe_familiarity", "list_familiarity_tensors"]

_WHAT: Final = "manifest.json: familiarity"
_PREFIX: Final = "familiarity."
_FIELDS: Final = {"classes": int, "components": int, "images": int, "ranges": list}
_MAX_CLASSES: Final = 2**16
_MAX_IMAGES: Final = 2**20
_POSITIVE: Final = ("offset", "scale", "rest")


def describe_familiarity(learnt: Familiarity) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what a classifier has learnt as values of JSON and tensors."""
    distance = learnt.distance
    n_classes, n_components = len(distance.class_means), distance.components.shape[1]
    described = {"classes": n_classes, "components": n_components, **learnt.usual.to_plain()}
    # Copies, since torch takes no arrays that are read-only.
    tensors = {
        f"{_PREFIX}{name}": torch.from_numpy(np.array(getattr(distance, name)))
        for name in FeatureDistance.NAMES
    }
    return described, tensors


def list_familiarity_tensors(
    described: Any, width: int
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return type and shape of each tensor, by its name in the file, for `width` features.

    Raises
    ------
    RefusedError
        If the description is not one of `describe_familiarity`.
    """
    if described is None:
        return {}
    check_fields(described, _WHAT, _FIELDS)
    n_classes, n_components = described["classes"], described["components"]
    n_images = described["images"]
    limits = (n_classes, _MAX_CLASSES), (n_components, width), (n_images, _MAX_IMAGES)
    if not all(1 <= number <= limit for number, limit in limits):
        raise RefusedError(f"{_WHAT} has impossible numbers of classes, components or images")
    shapes = {
        "class_means": (n_classes, width),
        "components": (width, n_components),
        "weights": (n_components,),
        "rest": (1,),
        "scores": (n_images,),
    }
    return {
        f"{_PREFIX}{name}": (
            torch.from_numpy(np.empty(0, FeatureDistance.dtype(name))).dtype,
            shapes.get(name, (width,)),
        )
        for name in FeatureDistance.NAMES
    }


def build_familiarity(described: Any, tensors: dict[str, torch.Tensor]) -> Familiarity | None:
    """Build what was described from checked tensors; None for None.

    Raises
    ------
    RefusedError
        If the numbers are not what `fit` can have learnt.
    """
    if described is None:
        return None
    arrays = {name: tensors[f"{_PREFIX}{name}"].numpy() for name in FeatureDistance.NAMES}
    if not all((arrays[name] > 0).all() for name in _POSITIVE):
        raise RefusedError(f"{_WHAT}: {', '.join(_POSITIVE)} are not all positive")
    if (arrays["scores"] < 0).any() or (np.diff(arrays["scores"]) < 0).any():
        raise RefusedError(f"{_WHAT}: scores are not distances in ascending order")
    try:
        usual = TrainingRange.from_plain(described)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{_WHAT} is damaged ({error})") from error
    return Familiarity(FeatureDistance(**arrays), usual)
