"""Exported networks without their weights, as model files keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn

from effboost._transforms import ImageTransform
from effboost.runtime._export import check_graph, make_exportable
from effboost.runtime._torch import TorchRuntime

__all__ = ["GraphWithoutWeights", "cut_weights", "restore_graph"]

# Smaller tensors stay in the graph: a few bytes are not found reliably.
_FEWEST_BYTES = 64


class GraphWithoutWeights(Protocol):
    """Interface of a graph that a model file keeps.

    Examples
    --------
    A graph that is kept whole, so that it needs no tensors:

    >>> class Whole:
    ...     def __init__(self, graph):
    ...         self.graph = graph
    ...     def complete(self, values):
    ...         return self.graph
    >>> Whole(b"graph").complete({})
    b'graph'
    """

    def complete(self, values: Mapping[str, bytes]) -> bytes:
        """Insert the tensors of the network, and check the result.

        Parameters
        ----------
        values : mapping of str to bytes
            The tensors by name, after batch norms were folded.

        Returns
        -------
        bytes
            The whole graph.

        Raises
        ------
        RefusedError
            If it is not the graph that was kept.
        """
        ...


def cut_weights(
    graph: bytes, module: nn.Module, transform: ImageTransform
) -> tuple[bytes, list[tuple[int, str]]]:
    """Cut the tensors of a network out of its exported graph.

    Parameters
    ----------
    graph : bytes
        The graph; see `export_graph`.
    module : torch.nn.Module
        The network.
    transform : ImageTransform
        Its normalisation.

    Returns
    -------
    rest : bytes
        The graph without them.
    cuts : list of (int, str)
        Where in the rest each of them was, in order, and its name after batch norms were folded.

    Examples
    --------
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import cut_weights, export_graph
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> graph = export_graph(network, transform)
    >>> rest, cuts = cut_weights(graph, network, transform)
    >>> len(rest) < len(graph), [name for _, name in cuts]
    (True, ['body.0.weight'])
    """
    values = _list_values(_make_reference(module, transform))
    found, last = [], 0
    for name, content in values.items():
        at = graph.find(content, last)
        if at < 0:
            at = graph.find(content)
        if at >= 0:
            found.append((at, name))
            last = at
    pieces, cuts, end = [], [], 0
    for at, name in sorted(found):
        if at < end:  # equal tensors, of which one was found twice
            continue
        pieces.append(graph[end:at])
        cuts.append((sum(map(len, pieces)), name))
        end = at + len(values[name])
    return b"".join([*pieces, graph[end:]]), cuts


def restore_graph(
    stored: GraphWithoutWeights, module: nn.Module, transform: ImageTransform
) -> bytes:
    """Return the exported graph of a network, from the one that its file keeps.

    Parameters
    ----------
    stored : GraphWithoutWeights
        The graph of the file.
    module : torch.nn.Module
        The network.
    transform : ImageTransform
        Its normalisation.

    Returns
    -------
    bytes
        The graph; see `export_graph`.

    Raises
    ------
    RefusedError
        If the file's graph is not one of this network.
    RuntimeUnavailableError
        If it computes other features than the network.

    Examples
    --------
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import export_graph, restore_graph
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> graph = export_graph(network, transform)
    >>> class Whole:  # keeps the weights in the graph
    ...     def complete(self, values):
    ...         return graph
    >>> restore_graph(Whole(), network, transform) == graph
    True
    """
    reference = _make_reference(module, transform)
    graph = stored.complete(_list_values(reference))
    check_graph(graph, reference, transform)
    return graph


def _make_reference(module: nn.Module, transform: ImageTransform) -> TorchRuntime:
    return TorchRuntime(module, transform, torch.device("cpu"), batch_size=1)


def _list_values(reference: TorchRuntime) -> dict[str, bytes]:
    """List the tensors of a network with folded batch norms, as bytes."""
    return {
        name: tensor.detach().contiguous().numpy().tobytes()
        for name, tensor in make_exportable(reference).state_dict().items()
        if tensor.numel() * tensor.element_size() >= _FEWEST_BYTES
    }
