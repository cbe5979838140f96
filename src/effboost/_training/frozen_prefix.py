"""Frozen first stages, whose output for each view is computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import Dataset

from effboost._extraction.row_cache import RowCache
from effboost._training.dataset import Batch, TrainingDataset
from effboost._utils.compat import load_torchvision
from effboost._utils.device import computing
from effboost.backbones import list_children
from effboost.runtime import fused

__all__ = ["FrozenPrefix", "PrefixedDataset", "find_prefix"]

_CHUNK = 8  # as many images as the runtime of torch takes at a time, for the same reason


class FrozenPrefix:
    """The first children of a network, which can be detached from it.

    While they are detached, the network takes their output as its input.
    """

    def __init__(self, body: nn.Module, parts: dict[str, nn.Module]):
        self._body, self._parts = body, parts

    def detach(self) -> None:
        """Detach the children from the network."""
        for name in self._parts:
            self._body.set_submodule(name, nn.Identity())

    def reattach(self) -> None:
        """Attach the children to the network again."""
        for name, part in self._parts.items():
            self._body.set_submodule(name, part)

    def as_network(self) -> nn.Module:
        """Return a copy of the children as a network."""
        return fused(self._as_chain()).to(memory_format=torch.channels_last)

    def gives(self, example: torch.Tensor, expected: torch.Tensor) -> bool:
        """Return whether the network is a chain of these children and the rest."""
        try:
            with computing(), torch.inference_mode():
                middle = self._as_chain()(example)
                self.detach()
                return torch.equal(self._body(middle), expected)
        except (RuntimeError, ValueError, TypeError):
            return False  # shapes that do not fit, for one
        finally:
            self.reattach()

    def _as_chain(self) -> nn.Sequential:
        return nn.Sequential(*self._parts.values()).eval()


def find_prefix(
    body: nn.Module, resting: Collection[nn.Module], example: torch.Tensor
) -> FrozenPrefix | None:
    """Find the first children that training never changes, and that are not random.

    This assumes that the network is a chain of its children, and checks that on an example, in
    evaluation mode.

    Parameters
    ----------
    body : torch.nn.Module
        The network.
    resting : collection of torch.nn.Module
        Modules that are not trained.
    example : tensor of shape (b, 3, h, w)
        Any input.

    Returns
    -------
    FrozenPrefix or None
        None if there are no such children, or the network is not a chain.
    """
    resting = set(resting)
    parts: dict[str, nn.Module] = {}
    for name, child in list_children(body).items():
        if any(_is_alive(part, resting) for part in child.modules()):
            break
        parts[name] = child
    if not any(True for part in parts.values() for _ in part.parameters()):
        return None
    prefix = FrozenPrefix(body, parts)
    with computing(), torch.inference_mode():
        expected = body.eval()(example)
    return prefix if prefix.gives(example, expected) else None


def _is_alive(part: nn.Module, resting: Collection[nn.Module]) -> bool:
    """Return whether a module, without its children, changes or is random in training."""
    if part in resting:
        return False
    # torchvision takes a second to load: models that were trained before must not wait for it.
    lots = _DropoutNd | _BatchNorm | load_torchvision().ops.StochasticDepth
    return isinstance(part, lots) or next(part.parameters(recurse=False), None) is not None


class PrefixedDataset(Dataset):
    """Images as outputs of the frozen first stages.

    Parameters
    ----------
    data : TrainingDataset
        The images.
    run : callable
        Computes the output of the stages from pixels of shape (b, h, w, 3), uint8.
    shape : tuple of int
        The shape of the output for one image.
    seed : int
        Seed of the views.
    """

    def __init__(
        self,
        data: TrainingDataset,
        run: Callable[[torch.Tensor], torch.Tensor],
        shape: Sequence[int],
        seed: int,
    ):
        self._data, self._run, self._seed = data, run, seed
        self._n_views = data.frozen_views  # the epochs take the views in turn
        self._kept = RowCache((self._n_views * len(data), *shape), np.float32)

    def __len__(self) -> int:
        return len(self._data)

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """Draw the items of an epoch, in their order."""
        return self._data.draw(rng)

    def read(
        self, items: npt.NDArray[np.intp], epoch: int, rng: np.random.Generator | None
    ) -> Batch:
        """Read one batch: "x", the output of the stages; "weight"; and classes."""
        view = epoch % self._n_views
        positions = self._data.order()[items]

        def compute(places: Sequence[int]) -> npt.NDArray[np.float32]:
            pixels = self._data.images.pixels(positions[list(places)])
            for picture, place in zip(pixels, places, strict=True):
                own = np.random.default_rng([self._seed, view, int(items[place])])
                self._data.augment(picture, int(positions[place]), own)
            chunks = torch.from_numpy(pixels).split(_CHUNK)
            return torch.cat([self._run(chunk) for chunk in chunks]).numpy()

        x = self._kept.take(items + view * len(self), compute)
        return self._data.label(torch.from_numpy(x), positions)
