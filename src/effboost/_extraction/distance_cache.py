"""Distances to the training images that are learnt once for the same features."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from effboost._extraction.cache import Cache, digest_of
from effboost._heads.feature_distance import DISTANCE_VERSION, FeatureDistance
from effboost._utils.versions import find_versions

__all__ = ["learn_distance_cached"]


def learn_distance_cached(
    cache: Cache | None, features: npt.NDArray[Any], target: npt.NDArray[Any], groups: Any
) -> FeatureDistance | None:
    """Return what `FeatureDistance.learn` does, or what it returned for the same arguments.

    In a search, the heads of a fold have the same features.

    Parameters
    ----------
    cache : Cache or None
        Where distances are stored. None stores nothing.
    features, target, groups
        See `FeatureDistance.learn`.
    """
    if cache is None:
        return FeatureDistance.learn(features, target, groups)
    key = _key(features, target, groups)
    known = cache.get([key]).get(key)
    distance = None if known is None else _read(known, features.shape, len(np.unique(target)))
    if distance is None:
        distance = FeatureDistance.learn(features, target, groups)
        if distance is not None:
            cache.put({key: save({name: getattr(distance, name) for name in distance.NAMES})})
    return distance


def _key(features: npt.NDArray[Any], target: npt.NDArray[Any], groups: Any) -> bytes:
    # Only which images are of one subject counts, not what the subject is called.
    subjects = np.arange(len(target)) if groups is None else groups
    numbers = np.unique(subjects, return_inverse=True)[1]
    arrays = np.asarray(features, "<f8"), np.asarray(target, "<i8"), np.asarray(numbers, "<i8")
    return digest_of(
        {
            "distance": DISTANCE_VERSION,
            "shape": features.shape,
            "arrays": [hashlib.sha256(np.ascontiguousarray(a).data).hexdigest() for a in arrays],
            "versions": find_versions("effboost", "numpy", "scipy", "scikit-learn"),
        }
    )


def _read(entry: bytes, shape: tuple[int, ...], n_classes: int) -> FeatureDistance | None:
    """Return the distance of an entry; None if it cannot be one of features of this shape."""
    try:
        arrays = load(entry)
    except SafetensorError:
        return None
    n_components = arrays.get("weights", np.empty(0)).size
    right = FeatureDistance.shapes(shape[1], n_classes, n_components, n_scores=shape[0])
    if {name: array.shape for name, array in arrays.items()} != right:
        return None
    usable = all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays.values())
    return FeatureDistance(**arrays) if usable else None
