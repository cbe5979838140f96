"""LabelledImages images as batches of tensors, epoch by epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset

from effboost._images import ImageSequence
from effboost._training.config import FineTuning
from effboost._training.mixup import mix
from effboost._training.row_cache import RowCache
from effboost._transforms import Augmentation, ImageTransform

__all__ = ["Batch", "BatchIterator", "BatchSource", "TrainingDataset"]

_Positions = npt.NDArray[np.intp]
# Inputs by name, and classes.
Batch = tuple[dict[str, torch.Tensor], torch.Tensor]


class BatchSource(Protocol):
    """What batches are read from."""

    def __len__(self) -> int: ...

    def draw(self, rng: np.random.Generator) -> _Positions:
        """Draw the items of an epoch, in their order."""
        ...

    def read(self, items: _Positions, epoch: int, rng: np.random.Generator | None) -> Batch:
        """Read some of the items of an epoch; without `rng`, as they are."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingDataset(Dataset):
    """Images with classes 0 to k - 1 and weights.

    Attributes
    ----------
    images : ImageSequence
        The images.
    target : ndarray of shape (n_samples,), int64
        The classes.
    weight : ndarray of shape (n_samples,), float32
        Weights in the loss, above 0.
    transform : ImageTransform
        Applied to each.
    views : tuple of (Augmentation or None), one for each class, default=()
        How to augment images of each class; empty to augment none.
    row_cache : RowCache or None, default=None
        Keeps pictures as they are before augmentation.
    sampling_weight : ndarray of shape (n_samples,), float64, or None, default=None
        The share of each image in an epoch that is drawn with replacement; None to show each.
    """

    images: ImageSequence
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    transform: ImageTransform
    views: tuple[Augmentation | None, ...] = ()
    row_cache: RowCache | None = None
    sampling_weight: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.order())

    def with_row_cache(self) -> TrainingDataset:
        """Give the same, with each image decoded once."""
        side = self.transform.image_size
        row_cache = RowCache((len(self.images), side, side, 3), np.uint8)
        return dataclasses.replace(self, row_cache=row_cache)

    def order(self) -> _Positions:
        """Positions of the images of one epoch; an image of several views stands there often."""
        positions = np.arange(len(self.images))
        if not self.views:
            return positions
        counts = np.array([1 if view is None else view.views for view in self.views])
        return np.repeat(positions, counts[self.target])

    def draw(self, rng: np.random.Generator) -> _Positions:
        """Draw the items of an epoch: each once, or as many by chance."""
        order = self.order()
        if self.sampling_weight is None:
            return rng.permutation(np.arange(len(order)))
        # An image of several views stands there often, and has its chance but once.
        sampling_weight = (self.sampling_weight / np.bincount(order))[order]
        return rng.choice(len(order), len(order), p=sampling_weight / sampling_weight.sum())

    def read(self, items: _Positions, epoch: int, rng: np.random.Generator | None) -> Batch:
        """Read one batch: "x", pixels of shape (b, h, w, 3), uint8; "weight"; and classes."""
        positions = self.order()[items]
        pixels = self.pictures(positions)
        if rng is not None:
            for picture, i in zip(pixels, positions.tolist(), strict=True):
                self.augment(picture, i, rng)
        return self.label(torch.from_numpy(pixels), positions)

    def pictures(self, positions: _Positions) -> npt.NDArray[np.uint8]:
        """Give resized pictures of shape (b, h, w, 3), not augmented."""

        def decode(places: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
            chosen = (self.images.decode(int(positions[place])) for place in places)
            return [np.asarray(self.transform.resize(picture)) for picture in chosen]

        if self.row_cache is None:
            return np.stack(decode(range(len(positions))))
        return self.row_cache.take(positions, decode)

    def augment(
        self, picture: npt.NDArray[np.uint8], position: int, rng: np.random.Generator
    ) -> None:
        """Turn a picture into a random view of it, in place."""
        view = self.views[self.target[position]] if self.views else None
        if view is not None:
            picture[...] = np.asarray(view.apply(Image.fromarray(picture), rng))

    def label(self, x: torch.Tensor, positions: _Positions) -> Batch:
        """Give inputs together with weights and classes."""
        inputs = {"x": x, "weight": torch.from_numpy(self.weight[positions])}
        return inputs, torch.from_numpy(self.target[positions])


class BatchIterator:
    """The batches of each epoch; drawn, augmented and mixed if there is a seed."""

    def __init__(
        self,
        data: BatchSource,
        batch_size: int,
        seed: int | None = None,
        recipe: FineTuning | None = None,
    ):
        self._data, self._batch_size, self._seed = data, batch_size, seed
        mixes = recipe is not None and (recipe.mixup_alpha > 0 or recipe.cutmix_alpha > 0)
        self._recipe = recipe if mixes else None
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
        if self._recipe is not None and rng is not None:
            inputs = mix(inputs, target, self._recipe, rng)
        return inputs, target
