"""The fitted state of a featurizer from a file, and checks of its values."""

from __future__ import annotations

import copy
import math
import re
from typing import Any, Final

import numpy as np
import torch

from effboost._featurizer import ImageFeaturizer
from effboost._training.network_fit import FittedNetwork
from effboost._utils.refusal import RefusedError
from effboost.backbones import BackboneSpec, feature_width, renumber_stages
from effboost.persistence._tensors import Activations

__all__ = [
    "check_history",
    "check_seen",
    "check_settings",
    "renumber_extra_features",
    "set_fitted_state",
]

# Networks take gigabytes for a few images that are larger.
_MAX_IMAGE: Final = 1024
_MAX_SIDE: Final = 8192
_DEVICE: Final = re.compile(r"auto|(cpu|cuda|mps|xpu)(:[0-9]{1,2})?")


def check_settings(featurizer: ImageFeaturizer, what: str) -> None:
    """Check the parameters that predictions use and that scikit-learn's constraints do not cover.

    Raises
    ------
    RefusedError
        If a featurizer cannot be used with them.
    """
    device, shape = featurizer.device, featurizer.image_shape
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise RefusedError(f"{what}: device is {str(device)[:80]!r}, not a device of torch")
    if shape is not None and not (
        len(shape) in (2, 3) and all(type(n) is int and 1 <= n <= _MAX_SIDE for n in shape)
    ):
        raise RefusedError(f"{what}: image_shape is not height, width and channels")


def check_history(history: Any, what: str) -> None:
    """Check that a history is a list of epochs, each a dictionary of numbers.

    Raises
    ------
    RefusedError
        If it is something else.
    """
    for epoch in history:
        if not isinstance(epoch, dict) or not all(
            isinstance(name, str) and type(value) in (bool, int, float)
            for name, value in epoch.items()
        ):
            raise RefusedError(f"{what} is not a list of epochs, each with numbers by name")


def check_seen(featurizer: ImageFeaturizer, what: str) -> None:
    """Check the columns that a featurizer has seen, if it was fitted on one image per row.

    Raises
    ------
    RefusedError
        If their number or their names do not match the shape of an image.
    """
    seen = vars(featurizer)
    count, names = seen.get("n_features_in_"), seen.get("feature_names_in_")
    if count is None and names is None:
        return
    shape = featurizer.image_shape
    if shape is None or count != math.prod(shape):
        raise RefusedError(f"{what} has seen {count} columns, but its images are of shape {shape}")
    if names is not None and not (
        isinstance(names, np.ndarray)
        and names.shape == (count,)
        and all(isinstance(name, str) for name in names.tolist())
    ):
        raise RefusedError(f"{what} has names that are not those of its {count} columns")


def renumber_extra_features(
    featurizer: ImageFeaturizer, module: torch.nn.Module, what: str
) -> None:
    """Make the pairs of `extra_features` count stages; those of older files count widths.

    Parameters
    ----------
    featurizer : ImageFeaturizer
        With its parameters.
    module : torch.nn.Module
        Its network, on the device "meta" unless it is a custom one.
    what : str
        The featurizer's name in error messages.

    Raises
    ------
    RefusedError
        If the network does not have these widths.
    """
    extra: Any = featurizer.extra_features
    if not isinstance(extra, tuple | list):
        return
    spec, image_size = _check_network(featurizer, what)
    try:
        with Activations():
            featurizer.extra_features = renumber_stages(module, spec, extra, image_size)
    except RefusedError:
        raise
    except Exception as error:  # of layers whose options do not go together
        raise RefusedError(f"{what}: its extra_features are not of its network: {error}") from error


def set_fitted_state(
    featurizer: ImageFeaturizer,
    module: torch.nn.Module,
    shapes: torch.nn.Module | None,
    widths: tuple[int | None, int],
    fitted: tuple[torch.nn.Module | None, list[dict[str, float]], Any],
    what: str,
) -> None:
    """Set the fitted attributes of a featurizer, without running its network.

    Parameters
    ----------
    featurizer : ImageFeaturizer
        With its parameters.
    module : torch.nn.Module
        Its network.
    shapes : torch.nn.Module or None
        The network on the device "meta", which has shapes and no numbers; None for a custom
        network, which may need the numbers.
    widths : (int or None, int)
        The number of the network's own features, if known, and of all features.
    fitted : (torch.nn.Module or None, list of dict, ndarray or None)
        The classification layer, the history and the classes.
    what : str
        The featurizer's name in error messages.

    Raises
    ------
    RefusedError
        If the network has another number of features, does not take images of this size, or would
        need too much memory for one.
    """
    own_width, width = widths
    spec, image_size = _check_network(featurizer, what)
    if shapes is None:
        featurizer._set_fitted_state(FittedNetwork(spec, module, width, *fitted))
        return
    twin = copy.copy(featurizer)
    try:
        with Activations():
            found = feature_width(shapes, image_size)
            twin._set_fitted_state(FittedNetwork(spec, shapes, found))
    except RefusedError:
        raise
    except Exception as error:  # of layers whose options do not go together
        raise RefusedError(f"{what}: the network cannot be used ({error})") from error
    if twin._n_features_out != width or own_width not in (None, found):
        raise RefusedError(
            f"{what} has {width} features ({own_width} of them its own); its network gives "
            f"{twin._n_features_out} ({found})"
        )
    # With these, it would run the network to count its features again.
    extra, featurizer.extra_features = featurizer.extra_features, None
    featurizer._set_fitted_state(FittedNetwork(spec, module, width, *fitted))
    featurizer.extra_features = extra
    featurizer._extractor._extra = twin._extractor._extra


def _check_network(featurizer: ImageFeaturizer, what: str) -> tuple[BackboneSpec, int]:
    """Return the spec of a featurizer's network and the size of its images."""
    try:
        spec = featurizer._check_backbone()
        image_size = featurizer._child("transform").image_size
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{what} has parameters that do not fit each other ({error})") from error
    if image_size > _MAX_IMAGE:
        raise RefusedError(
            f"{what} is for images of {image_size} pixels a side; {_MAX_IMAGE} is the limit"
        )
    return spec, image_size
