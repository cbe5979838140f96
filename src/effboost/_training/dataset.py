"""Labelled images as batches of tensors, epoch by epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset

from effboost._extraction.prepared_images import PreparedImages
from effboost._training.config import Regularization
from effboost._training.mixup import mix
from effboost._transforms import Augmentation, ImageTransform

__all__ = ["Batch", "BatchIterator", "BatchSource", "TrainingDataset"]

_Positions = npt.NDArray[np.intp]
# Inputs by name, and classes.
Batch = tuple[dict[str, torch.Tensor], torch.Tensor]


class BatchSource(Protocol):
    """Interface of data sets that batches are read from."""

    def __len__(self) -> int: ...

    def draw(self, rng: np.random.Generator) -> _Positions:
        """Draw the items of an epoch, in their order."""
        ...

    def read(self, items: _Positions, epoch: int, rng: np.random.Generator | None) -> Batch:
        """Read some of the items of an epoch; without `rng`, they are not augmented."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingDataset(Dataset):
    """Images with classes 0 to k - 1 and weights.

    Attributes
    ----------
    images : PreparedImages
        The images.
    target : ndarray of shape (n_samples,), int64
        The classes.
    weight : ndarray of shape (n_samples,), float32
        Weights in the loss, above 0.
    augmentations : tuple of (Augmentation or None), one for each class, default=()
        How to augment the images of each class; empty for no augmentation.
    sampling_weight : ndarray of shape (n_samples,), float64, or None, default=None
        Probability of each image if epochs are drawn with replacement; None uses each image once.
    """

    images: PreparedImages
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    augmentations: tuple[Augmentation | None, ...] = ()
    sampling_weight: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.order())

    @property
    def transform(self) -> ImageTransform:
        """The transform that prepared the images."""
        return self.images.transform

    @property
    def frozen_views(self) -> int:
        """Number of random views of each image for frozen first stages."""
        return max((view.frozen_views for view in self.augmentations if view), default=1)

    def order(self) -> _Positions:
        """Return the positions of the images of one epoch; each as often as it has views."""
        positions = np.arange(len(self.images))
        if not self.augmentations:
            return positions
        counts = np.array([1 if view is None else view.n_views for view in self.augmentations])
        return np.repeat(positions, counts[self.target])

    def draw(self, rng: np.random.Generator) -> _Positions:
        """Draw the items of an epoch: each once, or as many with replacement."""
        order = self.order()
        if self.sampling_weight is None:
            return rng.permutation(np.arange(len(order)))
        # The views of one image share its probability.
        probability = (self.sampling_weight / np.bincount(order))[order]
        return rng.choice(len(order), len(order), p=probability / probability.sum())

    def read(self, items: _Positions, epoch: int, rng: np.random.Generator | None) -> Batch:
        """Read one batch: "x", pixels of shape (b, h, w, 3), uint8; "weight"; and classes."""
        positions = self.order()[items]
        pixels = self.images.pixels(positions)
        if rng is not None:
            for picture, i in zip(pixels, positions.tolist(), strict=True):
                self.augment(picture, i, rng)
        return self.label(torch.from_numpy(pixels), positions)

    def augment(
        self, picture: npt.NDArray[np.uint8], position: int, rng: np.random.Generator
    ) -> None:
        """Replace an image by a random view of it, in place."""
        view = self.augmentations[self.target[position]] if self.augmentations else None
        if view is not None:
            picture[...] = np.asarray(view.apply(Image.fromarray(picture), rng))

    def label(self, x: torch.Tensor, positions: _Positions) -> Batch:
        """Return inputs together with weights and classes."""
        inputs = {"x": x, "weight": torch.from_numpy(self.weight[positions])}
        return inputs, torch.from_numpy(self.target[positions])


class BatchIterator:
    """The batches of each epoch; drawn, augmented and mixed if there is a seed."""

    def __init__(
        self,
        data: BatchSource,
        batch_size: int,
        seed: int | None = None,
        regularization: Regularization | None = None,
    ):
        self._data, self._batch_size, self._seed = data, batch_size, seed
        mixes = regularization is not None and (
            regularization.mixup_alpha > 0 or regularization.cutmix_alpha > 0
        )
        self._mixing = regularization if mixes else None
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._cut(np.arange(len(self._data))))

    def __iter__(self) -> Iterator[Batch]:
        epoch, rng = self._epoch, None
        items = np.arange(len(self._data))
        if self._seed is not None:
            rng = np.random.default_rng([self._seed, epoch])
            items = self._data.draw(rng)
            self._epoch += 1
        return (self._read(batch, epoch, rng) for batch in self._cut(items))

    def _cut(self, items: _Positions) -> list[_Positions]:
        batches = np.split(items, range(self._batch_size, len(items), self._batch_size))
        # A batch norm cannot be trained on a single image: it joins the batch before.
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [np.concatenate(batches[-2:])]
        return batches

    def _read(self, items: _Positions, epoch: int, rng: np.random.Generator | None) -> Batch:
        inputs, target = self._data.read(items, epoch, rng)
        if self._mixing is not None and rng is not None:
            inputs = mix(inputs, target, self._mixing, rng)
        return inputs, target
