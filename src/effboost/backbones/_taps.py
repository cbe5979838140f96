"""Networks that share their weights with another one, some of its layers replaced."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["Outputs", "Tap", "replace_layers"]


class Outputs(threading.local):
    """What layers have returned in the current call of a network, for each thread."""

    def __init__(self) -> None:
        self._found: dict[str, torch.Tensor] = {}

    def put(self, name: str, value: torch.Tensor) -> None:
        """Keep what a layer returned, when it was first called."""
        self._found.setdefault(name, value)

    def take(self) -> dict[str, torch.Tensor]:
        """Return what was kept, and forget it."""
        found, self._found = self._found, {}
        return found

    def __deepcopy__(self, memo: Any) -> Outputs:
        return type(self)()

    def __reduce__(self) -> Any:
        return type(self), ()


class Tap(nn.Module):
    """A layer whose output is kept.

    Unlike a forward hook it also works where torch.fx traces the network: a layer of torch is
    then not called at all.
    """

    def __init__(self, layer: nn.Module, name: str, outputs: Outputs):
        super().__init__()
        self.layer, self.name, self.outputs = layer, name, outputs

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        value = self.layer(*args, **kwargs)
        self.outputs.put(self.name, value)
        return value

    def __getattr__(self, name: str) -> Any:
        # Networks look at their layers, for example for the size of patches.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


def replace_layers(module: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """Return a network with the same weights in which some layers are others.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    layers : mapping of str to torch.nn.Module
        The other layers, by the dotted names of those that they replace.

    Returns
    -------
    torch.nn.Module
        A copy that shares all other layers.

    Raises
    ------
    KeyError
        If there is no such layer.

    Examples
    --------
    >>> from torch import nn
    >>> from effboost.backbones import replace_layers
    >>> network = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    >>> other = replace_layers(network, {"1": nn.GELU()})
    >>> other[0] is network[0], type(other[1]).__name__
    (True, 'GELU')
    """
    whole = _copy_one(module)
    copied = {"": whole}
    for name, layer in layers.items():
        parent = ""
        for step in name.split(".")[:-1]:
            path = f"{parent}.{step}".lstrip(".")
            if path not in copied:
                copied[path] = _copy_one(copied[parent]._modules[step])
                copied[parent]._modules[step] = copied[path]
            parent = path
        copied[parent]._modules[name.rpartition(".")[2]] = layer
    return whole


def _copy_one(module: nn.Module | None) -> nn.Module:
    """Copy a module without its children, which both then have."""
    if module is None:
        raise KeyError("there is no such layer")
    whole = copy.copy(module)
    whole._modules = dict(module._modules)
    return whole
