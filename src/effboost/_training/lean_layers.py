"""Layers that compute the same values with less memory traffic."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection
from itertools import chain

import torch
from torch import fx, nn

from effboost._utils.device import tracing
from effboost._utils.locks import ignore_warnings

__all__ = ["LeanLayers"]

# Their gradient needs the input, so that autograd copies it before it is overwritten.
_NEEDS_INPUT = (nn.SiLU, nn.Hardtanh, nn.Hardswish)  # ReLU6 is a Hardtanh


class LeanLayers:
    """Layers of a network that are changed for training, until `restore`.

    Batch norms with fixed statistics become part of the convolutions before them: the weights of
    the convolution are scaled in each step, and the gradients pass through this product, so that
    the parameters of both are trained as before. Activations that need their input for the gradient
    are no longer in place. Values are the same, up to rounding.

    Parameters
    ----------
    network : torch.nn.Module
        The network, in training mode; it is changed in place. If torch.fx cannot trace it, its
        batch norms stay as they are.
    fixed : collection of torch.nn.Module
        Modules that stay in evaluation mode.
    """

    def __init__(self, network: nn.Module, fixed: Collection[nn.Module]):
        self._folded = _find_pairs(network, fixed)
        for convolution, norm in self._folded:
            convolution.__dict__["forward"] = _FoldedNorm(convolution, norm)
            norm.__dict__["forward"] = _pass_on
        self._in_place = [
            part for part in network.modules() if isinstance(part, _NEEDS_INPUT) and part.inplace
        ]
        for part in self._in_place:
            part.inplace = False

    def restore(self) -> None:
        """Change the layers back."""
        for part in chain.from_iterable(self._folded):
            del part.__dict__["forward"]
        for part in self._in_place:
            part.inplace = True
        self._folded, self._in_place = [], []


def _find_pairs(
    network: nn.Module, fixed: Collection[nn.Module]
) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find convolutions whose output is used by one batch norm of fixed statistics alone."""
    if not any(type(part) is nn.BatchNorm2d for part in fixed):
        return []
    try:
        with tracing(), ignore_warnings():
            graph = fx.Tracer().trace(network)
    except Exception:
        # A network whose forward branches on its data. It is trained as it is, only slower.
        return []
    modules = dict(network.named_modules())
    n_calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) != 1:
            continue
        (source,) = node.args
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        convolution, norm = modules[str(source.target)], modules[str(node.target)]
        once = n_calls[source.target] == n_calls[node.target] == 1
        if once and norm in fixed and _can_fold(convolution, norm):
            pairs.append((convolution, norm))
    return pairs


def _can_fold(convolution: nn.Module, norm: nn.Module) -> bool:
    # Subclasses may compute something else.
    return (
        type(convolution) is nn.Conv2d
        and type(norm) is nn.BatchNorm2d
        and norm.track_running_stats
        and not _is_special(convolution)
        and not _is_special(norm)
    )


def _is_special(module: nn.Module) -> bool:
    """Return whether something looks at the module, or replaces its forward."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return "forward" in module.__dict__ or any(hooks)


@dataclasses.dataclass
class _FoldedNorm:
    """The forward of a convolution and a batch norm with fixed statistics."""

    # An object rather than a closure, so that a deep copy of the network calls its own layers.
    convolution: nn.Conv2d
    norm: nn.BatchNorm2d

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer, norm = self.convolution, self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None  # see _can_fold
        assert variance is not None
        scale = torch.rsqrt(variance + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = (-mean if layer.bias is None else layer.bias - mean) * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        return layer._conv_forward(x, layer.weight * scale.view(-1, 1, 1, 1), shift)


def _pass_on(x: torch.Tensor) -> torch.Tensor:
    return x
