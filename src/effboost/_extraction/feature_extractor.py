"""A fitted network on the chosen runtime."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Final

import torch

from effboost._extraction.cache import Cache, digest_of
from effboost._extraction.extract import FeatureCache
from effboost._transforms import ORIGINAL, ImageTransform, Views
from effboost._utils.locks import ForkableLock
from effboost._utils.refusal import RefusedError
from effboost._utils.versions import find_versions
from effboost.backbones import BackboneSpec, append_stages, feature_width, network_digest
from effboost.exceptions import ModelFileWarning, RuntimeUnavailableError
from effboost.runtime import (
    GraphWithoutWeights,
    Runtime,
    cut_weights,
    export_graph,
    plan_runtime,
    restore_graph,
    start_runtime,
)

__all__ = ["FeatureExtractor"]

# Exporting EfficientNet-B0 takes seconds; its graph 16 MB.
_GRAPHS: Final[dict[bytes, bytes]] = {}
_MAX_GRAPHS: Final = 2
# Threads that predict with one network for the first time export it once.
_STARTING: Final = ForkableLock()


class FeatureExtractor:
    """A fitted network whose runtime is started when it is first needed.

    The runtime is not a fitted attribute, since `transform` must not change those.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        spec: BackboneSpec,
        transform: ImageTransform,
        choice: str,
        extra_features: Any = None,
        own_features: bool = True,
    ):
        self._module, self._spec, self._transform = module, spec, transform
        self._choice, self._extra, self._own = choice, extra_features, own_features
        self._runtime: Runtime | None = None
        self._digest: str | None = None
        self._graph: bytes | None = None
        self._stored: GraphWithoutWeights | None = None
        self._with_stages: torch.nn.Module | None = None

    def start(self, device: torch.device) -> Runtime:
        """Return the network's runtime, started by the first thread that needs it."""
        if self._runtime is None:
            with _STARTING:
                if self._runtime is None:
                    self._runtime = start_runtime(
                        self._choice, self._network(), self._transform, device, self.graph
                    )
        return self._runtime

    def name(self, device: torch.device) -> str:
        """Return the name of the runtime that was started, or that would be tried first."""
        return plan_runtime(self._choice, device) if self._runtime is None else self._runtime.name

    def width(self) -> int:
        """Return the number of features of an image."""
        return feature_width(self._network(), self._transform.side)

    def feature_cache(
        self, cache: Cache | None, device: torch.device, views: Views = ORIGINAL
    ) -> FeatureCache | None:
        """Return the part of a cache that holds the features of this network."""
        if cache is None:
            return None
        origin = self._origin() | {
            "runtime": self._choice,
            "device": device.type,
            "precision": "float32",
            "views": dataclasses.asdict(views),
            "versions": find_versions("effboost", "pillow", "onnxruntime"),
        }
        return FeatureCache(cache, digest_of(origin))

    def graph(self) -> bytes:
        """Return the exported network. Folds with the same frozen network export it once.

        Raises
        ------
        RuntimeUnavailableError
            If it cannot be exported.
        """
        with _STARTING:
            if self._graph is None:
                key = digest_of(self._origin())
                graph = _GRAPHS.pop(key, None) or self._restore()
                if graph is None:
                    graph = export_graph(self._network(), self._transform)
                self._graph = _GRAPHS[key] = graph
                for old in list(_GRAPHS)[:-_MAX_GRAPHS]:
                    del _GRAPHS[old]
            return self._graph

    def offer(self, stored: GraphWithoutWeights) -> None:
        """Take the graph that a model file keeps, which is completed when it is first needed."""
        self._stored = stored

    def without_weights(self) -> tuple[bytes, list[tuple[int, str]], bytes] | None:
        """Return the graph without its weights, their places, and the whole; None if not exported.

        See `cut_weights`.
        """
        if self._graph is None and self._stored is None:
            return None
        try:
            graph = self.graph()
        except RuntimeUnavailableError:
            return None
        return *cut_weights(graph, self._network(), self._transform), graph

    def _restore(self) -> bytes | None:
        """Return the graph of the model file, if it is one of this network."""
        if self._stored is None:
            return None
        stored, self._stored = self._stored, None
        try:
            return restore_graph(stored, self._network(), self._transform)
        except (RefusedError, RuntimeUnavailableError) as error:
            warnings.warn(
                f"the graph in the model file is not used, because {error}; the network is "
                "exported again, which takes seconds. Save the model again to replace the graph",
                ModelFileWarning,
                stacklevel=2,
            )
            return None

    def _network(self) -> torch.nn.Module:
        """Return the network with the features of its stages, which requires tracing it."""
        if self._with_stages is None:
            self._with_stages = append_stages(
                self._module, self._spec, self._extra, self._transform.side, self._own
            )
        return self._with_stages

    def _origin(self) -> dict[str, Any]:
        if self._digest is None:
            self._digest = network_digest(self._network(), self._spec, self._transform.side)
        return {"network": self._digest, "transform": self._transform.describe()}

    def __getstate__(self) -> dict[str, Any]:
        # The runtime and the network with its stages are made again where they are needed. With
        # the graph, the first prediction of a loaded model does not wait for an export.
        return self.__dict__ | {"_runtime": None, "_with_stages": None}
