"""The exported graph of a network in a model file, without the weights.

The weights are in the file once, as tensors. The graph without them says in which order which
operators are applied; it is as little trusted as the rest of the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from effboost._featurizer import ImageFeaturizer
from effboost._utils.refusal import RefusedError
from effboost.onnx._wire import read_plain
from effboost.persistence._archive import digest
from effboost.persistence._json import check_fields

__all__ = ["GRAPH", "MAX_BYTES", "StoredGraph", "describe_graph"]

GRAPH: Final = "graph.cut"
# That of EfficientNet-B0 has 50 kB. What is not a tensor of the network is small.
MAX_BYTES: Final = 2**22
_MAX_CUTS: Final = 10_000


@dataclasses.dataclass(frozen=True)
class StoredGraph:
    """A graph without its weights, as a file has it.

    Attributes
    ----------
    rest : bytes
        The graph without them.
    cuts : tuple of (int, str)
        Where each tensor was cut out, and its name.
    sha256 : str
        The hash of the complete graph, which covers the weights and what is computed with them.
    """

    rest: bytes
    cuts: tuple[tuple[int, str], ...]
    sha256: str

    @classmethod
    def read(cls, rest: bytes, described: Any, what: str) -> StoredGraph:
        """Read its description, checking it."""
        check_fields(described, what, {"cuts": list, "sha256": str})
        cuts = described["cuts"]
        places = [cut[0] for cut in cuts if _is_cut(cut)]
        if len(places) < len(cuts) or len(cuts) > _MAX_CUTS or places != sorted(places):
            raise RefusedError(f"{what}: cuts are not places with names, in order")
        if places and not 0 <= places[0] <= places[-1] <= len(rest):
            raise RefusedError(f"{what}: cuts are not within the graph")
        return cls(rest, tuple((at, name) for at, name in cuts), described["sha256"])

    def complete(self, values: Mapping[str, bytes]) -> bytes:
        """Insert the tensors of the network, each once, and check the result.

        Raises
        ------
        RefusedError
            If it is not the graph that was saved, or contains what no export contains.
        """
        names = [name for _, name in self.cuts]
        if len(set(names)) < len(names) or not values.keys() >= set(names):
            raise RefusedError("it names other weights than those of the network")
        pieces, start = [], 0
        for at, name in self.cuts:
            pieces += [self.rest[start:at], values[name]]
            start = at
        graph = b"".join([*pieces, self.rest[start:]])
        if digest(graph) != self.sha256:
            raise RefusedError(
                "with the weights in the file it has another hash: one of them was changed, or "
                "this torch folds batch norms differently"
            )
        return read_plain(graph)


def _is_cut(cut: Any) -> bool:
    return (
        isinstance(cut, list) and len(cut) == 2 and type(cut[0]) is int and isinstance(cut[1], str)
    )


def describe_graph(featurizer: ImageFeaturizer) -> tuple[bytes, dict[str, Any]] | None:
    """Describe the graph of a fitted featurizer; None if it has none yet, or code of its own."""
    if featurizer.spec_.factory is not None:
        return None
    parts = featurizer._extractor.without_weights()
    if parts is None:
        return None
    rest, cuts, graph = parts
    if len(rest) > MAX_BYTES:
        return None
    return rest, {"cuts": [list(cut) for cut in cuts], "sha256": digest(graph)}
