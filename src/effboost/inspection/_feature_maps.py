"""The feature maps whose spatial means are the features."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from effboost._device import resolve_device
from effboost._featurizer import ImageFeaturizer
from effboost._images import ImageSequence
from effboost.exceptions import UnsupportedInputError
from effboost.runtime import TorchRuntime

__all__ = ["FeatureMaps"]

_Floats = npt.NDArray[np.float32]
# How far a feature may be from a mean to be taken for it, of the largest feature.
_TOLERANCE = 1e-3


class FeatureMaps:
    """Reads features of images together with the feature maps that they are the means of.

    Parameters
    ----------
    featurizer : ImageFeaturizer
        Fitted.
    """

    def __init__(self, featurizer: ImageFeaturizer):
        self._featurizer = featurizer
        # Not the featurizer's own runtime: others may run it while its layers are watched here.
        self._runtime = TorchRuntime(
            featurizer.module_,
            featurizer.transform_,
            resolve_device(featurizer.device, or_cpu=True),
        )
        self._watched: list[nn.Module] = list(self._runtime.module.modules())

    def read(self, images: ImageSequence) -> tuple[_Floats, _Floats]:
        """Carry images through the network.

        Parameters
        ----------
        images : ImageSequence
            The images, one or more.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32
            Those that the torch runtime computes, to the bit.
        maps : ndarray of shape (n_samples, n_features, h, w), float32
            Their mean over h and w are the features.

        Raises
        ------
        UnsupportedInputError
            If the features are no such means.
        """
        size = self._runtime.batch_size
        parts = [
            self._run(images, range(start, min(start + size, len(images))))
            for start in range(0, len(images), size)
        ]
        features, maps = (np.concatenate(column) for column in zip(*parts, strict=True))
        return features, maps

    def _run(self, images: ImageSequence, part: range) -> tuple[_Floats, _Floats]:
        transform = self._featurizer.transform_
        side = transform.image_size
        # A batch of one fixed size, as in the extraction of features.
        pixels = np.zeros((self._runtime.batch_size, side, side, 3), dtype=np.uint8)
        for row, i in enumerate(part):
            pixels[row] = np.asarray(transform.resize(images.decode(i)))
        features, maps = self._watch(pixels)
        return features[: len(part)], maps[: len(part)]

    def _watch(self, pixels: npt.NDArray[np.uint8]) -> tuple[_Floats, _Floats]:
        """Run one batch, and find the last feature map whose means come out."""
        seen: list[tuple[nn.Module, torch.Tensor]] = []
        width = self._featurizer._n_features_out

        def look(module: nn.Module, given: Any, out: Any) -> None:
            for value in (*given, out):
                if not isinstance(value, torch.Tensor) or value.ndim != 4:
                    continue
                if value.shape[1] == width and value[0, 0].numel() > 1:
                    # Copied, since what follows may change it in place.
                    seen.append((module, value.clone()))

        with ExitStack() as stack:
            for module in self._watched:
                stack.callback(module.register_forward_hook(look).remove)
            features = self._runtime.run(pixels)
        tolerance = _TOLERANCE * np.abs(features).max()
        for module, value in reversed(seen):
            maps: _Floats = value.float().cpu().numpy()
            if np.abs(maps.mean(axis=(2, 3)) - features).max() <= tolerance:
                # From now on, the other layers need not be watched.
                self._watched = [module]
                return features, maps
        raise UnsupportedInputError(
            f"the features of {self._featurizer.spec_.name!r} are not the spatial means of a "
            "feature map, so their contributions have no place in the picture; "
            "effboost.inspection.occlusion_attribution asks for no such thing"
        )
