"""A network in training: frozen modules, batch norm statistics, outputs that are computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from effboost._training.dataset import BatchSource, TrainingDataset
from effboost._training.frozen_prefix import FrozenPrefix, PrefixedDataset, find_prefix
from effboost._training.lean_layers import LeanLayers
from effboost._transforms import ImageTransform
from effboost._utils.device import computing

__all__ = ["TrainableNetwork", "TrainingModule"]


@dataclasses.dataclass(frozen=True)
class TrainableNetwork:
    """A network to train, and how its parts are trained.

    Attributes
    ----------
    body : torch.nn.Module
        Returns features.
    head : torch.nn.Module or None
        Returns class scores from features. None uses the first `n_classes` outputs of `body`.
    n_classes : int
        Number of classes.
    frozen : sequence of torch.nn.Module
        Modules of `body` whose own parameters and statistics do not change.
    stem, top : sequence of torch.nn.Module
        First and last modules, which may have their own learning rates; the head belongs to `top`.
    stages : sequence of sequences of torch.nn.Module
        The stages that are unfrozen one after the other, from the last to the first, with gradual
        unfreezing.
    """

    body: nn.Module
    head: nn.Module | None
    n_classes: int
    frozen: Sequence[nn.Module]
    stem: Sequence[nn.Module] = ()
    top: Sequence[nn.Module] = ()
    stages: Sequence[Sequence[nn.Module]] = ()


class TrainingModule(nn.Module):
    """A body and its head as one classifier of uint8 images."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module | None,
        n_classes: int,
        transform: ImageTransform,
        mixed_precision: bool,
    ):
        super().__init__()
        self.body, self.head = body, head
        self._n_classes, self._mixed = n_classes, mixed_precision
        scale, shift = transform.scale_and_shift()
        self.register_buffer("scale", torch.from_numpy(scale).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.from_numpy(shift).view(1, 3, 1, 1))
        self._frozen: set[nn.Module] = set()
        self._not_yet_trained: set[nn.Module] = set()
        self.side = self.training_side = transform.side
        self._prefix: FrozenPrefix | None = None
        self._lean: LeanLayers | None = None

    def freeze(self, parts: Sequence[nn.Module], *, batch_norms: bool) -> None:
        """Freeze some modules: no gradients, evaluation mode."""
        for part in parts:
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
        self._frozen.update(parts)
        if batch_norms:
            self._frozen.update(m for m in self.body.modules() if isinstance(m, _BatchNorm))

    def set_frozen_stages(self, stages: Sequence[Sequence[nn.Module]]) -> None:
        """Freeze these stages until the next call, besides the modules of `freeze`."""
        held = set(chain.from_iterable(stages))
        for part in self._not_yet_trained ^ held:
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(part not in held)
        self._not_yet_trained = held

    def adapting_batch_norms(self) -> list[_BatchNorm]:
        """List the batch norms whose statistics are estimated from the training images."""
        still = self._frozen | self._not_yet_trained
        return [
            part
            for part in self.body.modules()
            if isinstance(part, _BatchNorm) and part.track_running_stats and part not in still
        ]

    def reset_statistics(self) -> None:
        """Reset the statistics of these batch norms; they become averages over the next batches."""
        for norm in self.adapting_batch_norms():
            norm.reset_running_stats()
            norm.momentum = None

    def split(
        self, seed: int, *, cutmix_alpha: float = 0.0
    ) -> Callable[[TrainingDataset], BatchSource]:
        """Detach frozen first stages, and return a function that computes their output.

        Parameters
        ----------
        seed : int
            Seed of `PrefixedDataset`.
        cutmix_alpha : float, default=0.0
            That of `Regularization`. Above 0, the output must be maps, to cut rectangles from.

        Returns
        -------
        callable
            Converts a data set of images to one of inputs of the rest of the network.

        Raises
        ------
        ValueError
            If the output is not a map and `cutmix_alpha` is above 0.
        """
        shape = (2, self.side, self.side, 3)
        noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        self._prefix = find_prefix(self.body, self._frozen, self.normalize(noise))
        if self._prefix is None:
            return lambda data: data
        stages = self._prefix.as_network()
        self._prefix.detach()

        def run(pixels: torch.Tensor) -> torch.Tensor:
            with computing(), torch.inference_mode():
                out: torch.Tensor = stages(self.normalize(pixels))
            return out.cpu()

        given = run(noise).shape[1:]
        if cutmix_alpha and (len(given) != 3 or min(given[1:]) < 2):
            raise ValueError(
                f"cutmix_alpha={cutmix_alpha!r} needs maps, but the output of the frozen "
                f"first stages for an image has shape {tuple(given)}; use mixup_alpha, or train "
                "more stages (trainable)"
            )
        return lambda data: PrefixedDataset(data, run, given, seed)

    def make_lean(self) -> None:
        """Change layers so that training them is faster; see `LeanLayers`."""
        self._lean = LeanLayers(self.train().body, self._frozen)

    def restore(self) -> None:
        """Undo `make_lean`, and attach the stages that `split` has detached."""
        if self._lean is not None:
            self._lean.restore()
            self._lean = None
        if self._prefix is not None:
            self._prefix.reattach()
            self._prefix = None

    def to_inference(self) -> TrainingModule:
        """Prepare for use: in evaluation mode, on the CPU, in the original memory layout."""
        self.restore()
        self.eval().to("cpu").to(memory_format=torch.contiguous_format).requires_grad_(True)
        # The last gradients are as large as the weights, and of no use to anybody.
        self.zero_grad(set_to_none=True)
        return self

    def train(self, mode: bool = True) -> TrainingModule:
        super().train(mode)
        for part in self._frozen | self._not_yet_trained:
            part.training = False
        return self

    def check_size(self, side: int) -> None:
        """Refuse a smaller size of training images that the network cannot take."""
        if side >= self.side:
            raise ValueError(
                f"initial_image_size={side!r} is not smaller than the images ({self.side} pixels)"
            )
        example = torch.zeros(1, 3, side, side, device=self.scale.device)
        self.eval()
        try:
            with computing(), torch.inference_mode():
                self.body(example)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ValueError(
                f"initial_image_size={side!r}, but the network does not take images of this size "
                f"({error})"
            ) from error

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convert pixels (b, h, w, 3), uint8, to inputs of the network."""
        pixels = pixels.to(self.scale.device)
        return pixels.permute(0, 3, 1, 2).float().mul_(self.scale).add_(self.shift)

    def forward(self, x: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        batch = self.normalize(self._shrink(x)) if x.dtype == torch.uint8 else x
        with computing(), torch.autocast(batch.device.type, torch.bfloat16, enabled=self._mixed):
            out = self.body(batch)
            if self.head is not None:
                out = self.head(out)
        scores: torch.Tensor = out.float()[:, : self._n_classes]
        return scores

    def _shrink(self, pixels: torch.Tensor) -> torch.Tensor:
        """Reduce training images (b, h, w, 3) to the size of this epoch."""
        if not self.training or self.training_side == pixels.shape[1]:
            return pixels
        side = (self.training_side, self.training_side)
        maps = pixels.permute(0, 3, 1, 2)
        smaller = functional.interpolate(maps, side, mode="bilinear", antialias=True)
        return smaller.permute(0, 2, 3, 1)
