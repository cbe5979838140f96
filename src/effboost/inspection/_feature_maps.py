"""The feature maps whose spatial means are the features."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from effboost._featurizer import ImageFeaturizer
from effboost._images import ImageSequence
from effboost._transforms import Views
from effboost._utils.device import resolve_device
from effboost.exceptions import UnsupportedInputError
from effboost.runtime import OnnxRuntime, TorchRuntime

__all__ = ["FeatureMaps"]

_Floats = npt.NDArray[np.float32]
_Pixels = npt.NDArray[np.uint8]
_Key = TypeVar("_Key")
# Largest difference of a feature from the mean of its map, relative to the largest feature.
_TOLERANCE: Final = 1e-3


class FeatureMaps:
    """The feature maps of images, on the runtime that computes the features.

    Parameters
    ----------
    featurizer : ImageFeaturizer
        Fitted.
    """

    def __init__(self, featurizer: ImageFeaturizer):
        if featurizer.extra_features:
            raise UnsupportedInputError(
                f"extra_features={featurizer.extra_features!r}: features of several stages are "
                "not the spatial means of one feature map; "
                "effboost.inspection.occlusion_attribution explains any features"
            )
        self._featurizer, self._transform = featurizer, featurizer.transform_
        self._reader: _Reader
        if featurizer.runtime_ == "onnxruntime":
            self._reader = _OnnxReader(featurizer)
        else:
            self._reader = _TorchReader(featurizer)

    def read(self, images: ImageSequence) -> tuple[_Floats | None, _Floats]:
        """Compute features and feature maps.

        Parameters
        ----------
        images : ImageSequence
            The images, one or more.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32, or None
            The features; None if a runtime other than torch computes them.
        maps : ndarray of shape (n_samples, n_features, h, w), float32
            The maps; their means over h and w are the features. For several views, the mean of
            their maps after each is turned back.

        Raises
        ------
        UnsupportedInputError
            If the features are not such means.
        """
        size = self._reader.batch_size
        parts = [range(i, min(i + size, len(images))) for i in range(0, len(images), size)]
        # The maps are found with the first batch.
        first = self._run(images, parts[0])
        with ThreadPoolExecutor(self._reader.n_workers) as pool:
            others = list(pool.map(lambda part: self._run(images, part), parts[1:]))
        features, maps = (np.concatenate(column) for column in zip(first, *others, strict=True))
        same = self._featurizer.runtime_ == "torch"
        return features if same else None, maps

    def _run(self, images: ImageSequence, part: range) -> tuple[_Floats, _Floats]:
        views = Views(self._featurizer.views == "dihedral")
        pictures = [np.asarray(images.decode(i, self._transform.prepare)) for i in part]
        shown = [view for picture in pictures for view in views.show(picture)]
        features, maps = self._read(shown)
        n, count = len(pictures), views.count
        upright = [views.turn_back(of_view) for of_view in maps.reshape(n, count, *maps.shape[1:])]
        return views.gather(features), np.stack(upright)

    def _read(self, pictures: list[_Pixels]) -> tuple[_Floats, _Floats]:
        size, found = self._reader.batch_size, []
        for start in range(0, len(pictures), size):
            some = pictures[start : start + size]
            # Batches of one fixed size, as in the extraction of features.
            pixels = np.zeros((size, *some[0].shape), dtype=np.uint8)
            pixels[: len(some)] = some
            found.append(tuple(values[: len(some)] for values in self._reader.run(pixels)))
        features, maps = (np.concatenate(column) for column in zip(*found, strict=True))
        return features, maps


class _Reader(Protocol):
    """Computes the features and the maps of a batch."""

    batch_size: int
    n_workers: int

    def run(self, pixels: _Pixels) -> tuple[_Floats, _Floats]: ...


class _OnnxReader:
    """An exported network with its maps as a further output."""

    def __init__(self, featurizer: ImageFeaturizer):
        self._featurizer = featurizer
        self._graph = featurizer._extractor.graph()
        names = _list_maps(self._graph, featurizer._n_features_out)
        self._start(names)
        self._names = names

    def _start(self, names: list[str]) -> None:
        runtime = OnnxRuntime(_with_outputs(self._graph, names))
        self._runtime, self.batch_size, self.n_workers = (
            runtime,
            runtime.batch_size,
            runtime.n_workers,
        )

    def run(self, pixels: _Pixels) -> tuple[_Floats, _Floats]:
        features, *values = self._runtime.run_all(pixels)
        if len(values) == 1:
            return features, values[0]
        for name, maps in reversed(list(zip(self._names, values, strict=True))):
            if _are_means(features, maps):
                self._start([name])
                return features, maps
        raise _no_means(self._featurizer)


def _list_maps(graph: bytes, width: int) -> list[str]:
    """List the values in a graph that may be the feature maps, in the order of computation."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
    }
    made = [name for node in model.graph.node for name in node.output]
    sizes = {name: shapes.get(name, []) for name in made}
    maps = {name: s[2] * s[3] for name, s in sizes.items() if len(s) == 4 and s[1] == width}
    return _choose_maps(maps)


def _choose_maps(sizes: dict[_Key, int]) -> list[_Key]:
    """Return the maps with several positions; if there are none, those with one position.

    A map with one position after one with several may be their mean, or any other pooling.
    """
    several = [key for key, n_positions in sizes.items() if n_positions > 1]
    return several or [key for key, n_positions in sizes.items() if n_positions == 1]


def _with_outputs(graph: bytes, names: list[str]) -> bytes:
    """Add outputs to a graph: values of it, in float32."""
    import onnx

    model = onnx.load_from_string(graph)
    for name in names:
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(output)
    changed: bytes = model.SerializeToString()
    return changed


class _TorchReader:
    """A runtime of torch with a hook on the layer that computes the maps."""

    n_workers = 1

    def __init__(self, featurizer: ImageFeaturizer):
        self._featurizer = featurizer
        # Not the runtime of the featurizer, which other threads may use without hooks.
        self._runtime = TorchRuntime(
            featurizer.module_,
            featurizer.transform_,
            resolve_device(featurizer.device, or_cpu=True),
        )
        self.batch_size = self._runtime.batch_size
        self._watched: list[nn.Module] = list(self._runtime.module.modules())

    def run(self, pixels: _Pixels) -> tuple[_Floats, _Floats]:
        seen: list[tuple[nn.Module, torch.Tensor]] = []
        width = self._featurizer._n_features_out

        def look(module: nn.Module, given: Any, out: Any) -> None:
            for value in (*given, out):
                if not isinstance(value, torch.Tensor) or value.ndim != 4:
                    continue
                if value.shape[1] == width:
                    # A copy, since later layers may change it in place.
                    seen.append((module, value.clone()))

        with ExitStack() as stack:
            for module in self._watched:
                stack.callback(module.register_forward_hook(look).remove)
            features = self._runtime.run(pixels)
        for place in reversed(_choose_maps({i: v[0, 0].numel() for i, (_, v) in enumerate(seen)})):
            module, value = seen[place]
            maps: _Floats = value.float().cpu().numpy()
            if _are_means(features, maps):
                # From now on, no other layer needs a hook.
                self._watched = [module]
                return features, maps
        raise _no_means(self._featurizer)


def _are_means(features: _Floats, maps: _Floats) -> bool:
    apart = np.abs(maps.mean(axis=(2, 3)) - features).max()
    return bool(apart <= _TOLERANCE * np.abs(features).max())


def _no_means(featurizer: ImageFeaturizer) -> UnsupportedInputError:
    return UnsupportedInputError(
        f"the features of {featurizer.spec_.name!r} are not the spatial means of a feature map, "
        "so their contributions have no position in the picture; "
        "effboost.inspection.occlusion_attribution explains any features"
    )
