"""What a classifier has learnt about its training images, in files."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from effboost._familiarity import TrainingRange
from effboost._heads.feature_distance import Familiarity, FeatureDistance
from effboost._transforms.colours import N_COLOURS
from effboost._utils.refusal import RefusedError
from effboost.persistence._json import check_fields

__all__ = ["build_familiarity", "describe_familiarity", "list_familiarity_tensors"]

_WHAT: Final = "manifest.json: familiarity"
_PREFIX: Final = "familiarity."
_PARTS: Final = ("features", "colours")
_FIELDS: Final = {"classes": int, "components": list, "images": int, "ranges": list}
_MAX_CLASSES: Final = 2**16
_MAX_IMAGES: Final = 2**20
_POSITIVE: Final = ("offset", "scale", "rest")


def describe_familiarity(learnt: Familiarity) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what a classifier has learnt as values of JSON and tensors."""
    parts = {part: getattr(learnt, part) for part in _PARTS}
    described = {
        "classes": len(learnt.features.class_means),
        "components": [len(distance.weights) for distance in parts.values()],
        **learnt.usual.to_plain(),
    }
    # Copies, since torch takes no arrays that are read-only.
    tensors = {
        f"{_PREFIX}{part}.{name}": torch.from_numpy(np.array(getattr(distance, name)))
        for part, distance in parts.items()
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
    n_classes, n_images = described["classes"], described["images"]
    numbers, widths = described["components"], (width, N_COLOURS)
    if (
        not (1 <= n_classes <= _MAX_CLASSES and 1 <= n_images <= _MAX_IMAGES)
        or len(numbers) != len(widths)
        or not all(type(n) is int and 1 <= n <= d for n, d in zip(numbers, widths, strict=True))
    ):
        raise RefusedError(f"{_WHAT} has impossible numbers of classes, components or images")
    found = {}
    for part, d, n_components in zip(_PARTS, widths, numbers, strict=True):
        shapes = FeatureDistance.shapes(d, n_classes, n_components, n_images)
        for name, shape in shapes.items():
            found[f"{_PREFIX}{part}.{name}"] = torch.float32, shape
    return found


def build_familiarity(described: Any, tensors: dict[str, torch.Tensor]) -> Familiarity | None:
    """Build what was described from checked tensors; None for None.

    Raises
    ------
    RefusedError
        If the numbers are not what `fit` can have learnt.
    """
    if described is None:
        return None
    features, colours = (_build_distance(part, tensors) for part in _PARTS)
    try:
        usual = TrainingRange.from_plain(described)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{_WHAT} is damaged ({error})") from error
    return Familiarity(features, colours, usual)


def _build_distance(part: str, tensors: dict[str, torch.Tensor]) -> FeatureDistance:
    arrays = {name: tensors[f"{_PREFIX}{part}.{name}"].numpy() for name in FeatureDistance.NAMES}
    if not all((arrays[name] > 0).all() for name in _POSITIVE):
        raise RefusedError(f"{_WHAT}: {', '.join(_POSITIVE)} are not all positive")
    if (arrays["scores"] < 0).any() or (np.diff(arrays["scores"]) < 0).any():
        raise RefusedError(f"{_WHAT}: scores are not distances in ascending order")
    return FeatureDistance(**arrays)
