"""Frozen first stages, whose output for each view is computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

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
from effboost.backbones import MapLayout, list_children, replace_layers
from effboost.runtime import fused, to_channels_last

__all__ = ["FrozenPrefix", "PrefixedDataset", "find_prefix"]

_CHUNK = 8  # as many images as the runtime of torch takes at a time, for the same reason


class FrozenPrefix:
    """The first children of a network, which can be detached from it.

    While they are detached, the network takes their output as its input.
    """

    def __init__(self, body: nn.Module, parts: dict[str, nn.Module], example: torch.Tensor):
        self._body, self._parts, self._example = body, parts, example

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
        return to_channels_last(fused(self._as_chain(), self._example))

    def gives(self, expected: torch.Tensor) -> bool:
        """Return whether the network is a chain of these children and the rest."""
        try:
            with computing(), torch.inference_mode():
                middle = self._as_chain()(self._example)
                self.detach()
                return torch.equal(self._body(middle), expected)
        except (RuntimeError, ValueError, TypeError):
            return False  # shapes that do not fit, for one
        finally:
            self.reattach()

    def _as_chain(self) -> nn.Module:
        return nn.Sequential(*self._parts.values()).eval()


class _TokenPrefix(FrozenPrefix):
    """The patch embedding and the first blocks of a vision transformer, or all of it.

    Class token and position embeddings, which are no children, are added between them. While
    they are off, the network adds these to empty tokens, and the first child that is trained
    takes the given tokens instead of what reaches it.
    """

    def __init__(
        self, body: nn.Module, parts: dict[str, nn.Module], follower: str, example: torch.Tensor
    ):
        super().__init__(body, parts, example)
        self._follower, self._block = follower, body.get_submodule(follower)
        embedding = next(iter(parts.values()))
        with computing(), torch.inference_mode():
            self._empty = _EmptyTokens(embedding, embedding(example).shape[1:])

    def detach(self) -> None:
        """Let the network begin after them."""
        for name in list(self._parts)[1:]:
            if "." in name:  # what is no block may be asked for more than its output
                self._body.set_submodule(name, _PassOn())
        self._body.set_submodule(next(iter(self._parts)), self._empty)
        self._body.set_submodule(self._follower, _GivenTokens(self._empty, self._block))

    def reattach(self) -> None:
        """Let the network begin with them again."""
        super().reattach()
        self._body.set_submodule(self._follower, self._block)

    def _as_chain(self) -> nn.Module:
        names = list(list_children(self._body))
        after = {name: nn.Identity() for name in names[names.index(self._follower) + 1 :]}
        return _UntilStop(replace_layers(self._body, {self._follower: _Stop(), **after})).eval()


class _EmptyTokens(nn.Module):
    """Keeps the tokens that it is given, and returns empty ones for the patches."""

    def __init__(self, embedding: nn.Module, shape: Sequence[int]):
        super().__init__()
        self.shape = shape
        self._embedding = [embedding]  # in a list, it is no child
        self.given: torch.Tensor | None = None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.given = tokens
        return tokens.new_zeros(tokens.shape[0], *self.shape)

    def __getattr__(self, name: str) -> Any:
        # Networks ask their embedding for the size of patches.
        if "_embedding" in self.__dict__:
            return getattr(self._embedding[0], name)
        raise AttributeError(name)


class _PassOn(nn.Module):
    """A block that changes nothing, whatever else blocks are given."""

    def forward(self, tokens: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return tokens


class _GivenTokens(nn.Module):
    """A block that takes the tokens which were kept."""

    def __init__(self, kept: _EmptyTokens, block: nn.Module):
        super().__init__()
        self.block = block
        self._kept = [kept]

    def forward(self, tokens: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        given, self._kept[0].given = self._kept[0].given, None
        return self.block(given, *args, **kwargs)


class _StoppedError(Exception):
    """Ends the run of a network early."""


class _Stop(nn.Module):
    def forward(self, tokens: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        raise _StoppedError(tokens)


class _UntilStop(nn.Module):
    """The part of a network before `_Stop`."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            self.body(x)
        except _StoppedError as stopped:
            tokens: torch.Tensor = stopped.args[0]
            return tokens
        raise RuntimeError("the network does not run the block that it was cut at")


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
    follower = None
    for name, child in list_children(body).items():
        if any(_is_alive(part, resting) for part in child.modules()):
            follower = name
            break
        parts[name] = child
    if not any(True for part in parts.values() for _ in part.parameters()):
        return None
    prefix = FrozenPrefix(body, parts, example)
    if MapLayout.of(body).grid is not None:
        if body not in resting:
            return None  # class token and position embeddings are trained
        if follower is None:
            follower, _ = parts.popitem()  # where the layer that classifies was
        prefix = _TokenPrefix(body, parts, follower, example)
    with computing(), torch.inference_mode():
        expected = body.eval()(example)
    return prefix if prefix.gives(expected) else None


def _is_alive(part: nn.Module, resting: Collection[nn.Module]) -> bool:
    """Return whether a module, without its children, changes or is random in training."""
    if part in resting:
        return False
    # torchvision takes a second to load: models that were trained before must not wait for it.
    lots = _DropoutNd | _BatchNorm | load_torchvision().ops.StochasticDepth
    if isinstance(part, _DropoutNd) and part.p == 0:
        return False
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
