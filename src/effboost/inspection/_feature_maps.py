"""The feature maps that features are pooled from, and their values at each position."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
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
from effboost._utils.device import computing, resolve_device
from effboost.backbones import POOLINGS, MapLayout, StageFeatures
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._fields import spread
from effboost.runtime import OnnxRuntime, TorchRuntime

__all__ = ["Block", "FeatureMaps", "list_blocks"]

_Floats = npt.NDArray[np.float32]
_Pixels = npt.NDArray[np.uint8]
_Key = TypeVar("_Key")
# A module, the number of its call, and that of the map among those that it takes and returns.
_Place = tuple[nn.Module, int, int]
# Largest difference of a feature from what is pooled from its map, relative to the largest one.
_TOLERANCE: Final = 1e-3


@dataclasses.dataclass(frozen=True)
class Block:
    """Features that are pooled alike from one map.

    Attributes
    ----------
    layer : str
        The name of the layer that computes the map; "" for the network's own features.
    columns : slice
        The features.
    pooling : str
        How they are pooled.
    """

    layer: str
    columns: slice
    pooling: str

    @property
    def width(self) -> int:
        """Number of channels of the map."""
        return int(self.columns.stop - self.columns.start)


class FeatureMaps:
    """The values at each position of a map whose means are the features.

    Parameters
    ----------
    featurizer : ImageFeaturizer
        Fitted.

    Attributes
    ----------
    blocks : list of Block
        The features, in the order of their columns.
    """

    def __init__(self, featurizer: ImageFeaturizer):
        self._featurizer, self._transform = featurizer, featurizer.transform_
        network = featurizer._extractor._network()
        self.blocks = list_blocks(featurizer)
        layout = MapLayout.of(featurizer.module_)
        self._reader: _Reader
        if featurizer.runtime_ == "onnxruntime":
            self._reader = _OnnxReader(featurizer, self.blocks, layout)
        else:
            self._reader = _TorchReader(featurizer, network, self.blocks, layout)
        # The layers whose maps the reader returns, in this order.
        self._layers = list(dict.fromkeys(block.layer for block in self.blocks))

    def read(self, images: ImageSequence) -> tuple[_Floats | None, list[_Floats]]:
        """Compute features, and the values at each position whose means they are.

        Parameters
        ----------
        images : ImageSequence
            The images, one or more.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32, or None
            The features; None if those that the featurizer computes may differ in their last
            digits.
        fields : list of ndarray of shape (n_samples, n_channels, h, w), float32
            For each of the `blocks`, values whose means over h and w are the features: see
            `spread`. For several views, the mean over them after each is turned back.

        Raises
        ------
        UnsupportedInputError
            If the features are not pooled from maps.
        """
        size = self._reader.batch_size
        parts = [range(i, min(i + size, len(images))) for i in range(0, len(images), size)]
        # The maps are found with the first batch.
        first = self._run(images, parts[0])
        with ThreadPoolExecutor(self._reader.n_workers) as pool_of_threads:
            others = list(pool_of_threads.map(lambda part: self._run(images, part), parts[1:]))
        features, *fields = (np.concatenate(column) for column in zip(first, *others, strict=True))
        return features if self._reader.is_exact else None, fields

    def _run(self, images: ImageSequence, part: range) -> list[_Floats]:
        views = Views(self._featurizer.views)
        pictures = [np.asarray(images.decode(i, self._transform.prepare)) for i in part]
        shown = [view for picture in pictures for view in views.show(picture)]
        features, *maps = self._read(shown)
        of_layer = dict(zip(self._layers, maps, strict=True))
        fields = []
        for block in self.blocks:
            field = spread(of_layer[block.layer], block.pooling)
            of_views = field.reshape(len(pictures), views.count, *field.shape[1:])
            fields.append(np.stack([views.turn_back(of_picture) for of_picture in of_views]))
        return [views.gather(features), *fields]

    def _read(self, pictures: list[_Pixels]) -> list[_Floats]:
        size, found = self._reader.batch_size, []
        for start in range(0, len(pictures), size):
            some = pictures[start : start + size]
            # Batches of one fixed size, as in the extraction of features.
            pixels = np.zeros((size, *some[0].shape), dtype=np.uint8)
            pixels[: len(some)] = some
            features, maps = self._reader.run(pixels)
            found.append([values[: len(some)] for values in (features, *maps)])
        return [np.concatenate(column) for column in zip(*found, strict=True)]


def list_blocks(featurizer: ImageFeaturizer) -> list[Block]:
    """List the features of a network and of its stages by the maps that they come from."""
    network = featurizer._extractor._network()
    total = featurizer._n_features_out
    if not isinstance(network, StageFeatures):
        return [Block("", slice(0, total), "avg")]
    side = featurizer.transform_.side
    device = next((parameter.device for parameter in network.parameters()), None)
    with computing(), torch.inference_mode():
        widths = network.count_channels(torch.zeros(1, 3, side, side, device=device))
    blocks, start = [], total - sum(widths)
    if start:
        blocks.append(Block("", slice(0, start), "avg"))
    for (layer, pooling), width in zip(network.pooled, widths, strict=True):
        blocks.append(Block(layer, slice(start, start + width), pooling))
        start += width
    return blocks


class _Reader(Protocol):
    """Computes the features and the map of each layer for a batch."""

    batch_size: int
    n_workers: int
    is_exact: bool

    def run(self, pixels: _Pixels) -> tuple[_Floats, list[_Floats]]: ...


def _find_maps(
    features: _Floats, blocks: Sequence[Block], candidates: dict[_Key, _Floats], error: Exception
) -> list[_Key]:
    """Find the map of each layer among values that were computed, given in their order.

    Raises
    ------
    UnsupportedInputError
        If the features of a layer are not pooled from any of them: the given error.
    """
    chosen = []
    for layer in dict.fromkeys(block.layer for block in blocks):
        own = [block for block in blocks if block.layer == layer]
        widths = {key: v for key, v in candidates.items() if v.shape[1] == own[0].width}
        # A map with one position after one with several may be their mean, or any other pooling.
        several = {key: v for key, v in widths.items() if v[0, 0].size > 1}
        keys = [
            key
            for key, maps in (several or widths).items()
            if all(_is_pooled(features[:, block.columns], maps, block.pooling) for block in own)
        ]
        if not keys:
            raise error
        chosen.append(keys[-1])
    return chosen


def _is_pooled(features: _Floats, maps: _Floats, pooling: str) -> bool:
    # A graph also has values of whole numbers.
    pooled = POOLINGS[pooling](torch.from_numpy(maps).float()).numpy()
    apart = np.abs(pooled - features).max()
    return bool(apart <= _TOLERANCE * np.abs(features).max())


class _OnnxReader:
    """An exported network with its maps as further outputs."""

    def __init__(self, featurizer: ImageFeaturizer, blocks: Sequence[Block], layout: MapLayout):
        self._featurizer, self._blocks, self._layout = featurizer, blocks, layout
        self._graph = featurizer._extractor.graph()
        self._names = _list_maps(self._graph, {block.width for block in blocks}, layout)
        self._is_found = self.is_exact = False
        self._start(self._names)

    def _start(self, names: list[str]) -> None:
        runtime = OnnxRuntime(_with_outputs(self._graph, list(dict.fromkeys(names))))
        self._runtime, self._names = runtime, names
        self.batch_size, self.n_workers = runtime.batch_size, runtime.n_workers

    def run(self, pixels: _Pixels) -> tuple[_Floats, list[_Floats]]:
        if not self._is_found:
            self._choose(pixels)
        features, *outputs = self._runtime.run_all(pixels)
        values = dict(zip(dict.fromkeys(self._names), outputs, strict=True))
        return features, [_as_map(values[name], self._layout) for name in self._names]

    def _choose(self, pixels: _Pixels) -> None:
        """Find the maps, and keep no other outputs."""
        features, *outputs = self._runtime.run_all(pixels)
        values = {
            name: _as_map(output, self._layout)
            for name, output in zip(self._names, outputs, strict=True)
        }
        error = _not_pooled(self._featurizer)
        self._start(_find_maps(features, self._blocks, values, error))
        self._is_found = True
        # Further outputs may keep onnxruntime from fusing operators, which changes last digits.
        device = resolve_device(self._featurizer.device, or_cpu=True)
        plain = self._featurizer._extractor.start(device).run(pixels)
        self.is_exact = bool(np.array_equal(self._runtime.run_all(pixels)[0], plain))


def _as_map(value: _Floats, layout: MapLayout) -> _Floats:
    """Turn a value of a graph, tokens or a map, into a map."""
    if layout.grid is None or value.ndim == 4:
        return value
    rows, columns = layout.grid
    patches = value[:, -rows * columns :].transpose(0, 2, 1)
    return patches.reshape(*patches.shape[:2], rows, columns)


def _list_maps(graph: bytes, widths: set[int], layout: MapLayout) -> list[str]:
    """List the values of a graph that may be maps with these numbers of channels, in order."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
    }
    n_patches = 0 if layout.grid is None else layout.grid[0] * layout.grid[1]
    counts = (n_patches, n_patches + layout.n_prefix) if n_patches else ()

    def may_be(shape: list[int]) -> bool:
        if len(shape) == 3:
            return shape[1] in counts and shape[2] in widths
        return len(shape) == 4 and shape[1] in widths and shape[2] * shape[3] > 0

    made = [name for node in model.graph.node for name in node.output]
    return [name for name in made if may_be(shapes.get(name, []))]


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
    """A runtime of torch with hooks on the layers that compute or take the maps."""

    n_workers = 1

    def __init__(
        self,
        featurizer: ImageFeaturizer,
        network: nn.Module,
        blocks: Sequence[Block],
        layout: MapLayout,
    ):
        self._featurizer, self._blocks, self._layout = featurizer, blocks, layout
        self.is_exact = featurizer.runtime_ == "torch"
        # Not the runtime of the featurizer, which other threads may use without hooks.
        self._runtime = TorchRuntime(
            network, featurizer.transform_, resolve_device(featurizer.device, or_cpu=True)
        )
        self.batch_size = self._runtime.batch_size
        self._watched: list[nn.Module] = list(self._runtime.module.modules())
        self._places: list[_Place] | None = None

    def run(self, pixels: _Pixels) -> tuple[_Floats, list[_Floats]]:
        seen: dict[_Place, torch.Tensor] = {}
        calls: Counter[nn.Module] = Counter()
        widths = {block.width for block in self._blocks}

        def look(module: nn.Module, given: Any, out: Any) -> None:
            calls[module] += 1
            values = [maps for value in (*given, out) for maps in self._read_as_maps(value)]
            for number, maps in enumerate(values):
                place = module, calls[module], number
                if maps.shape[1] in widths and (self._places is None or place in self._places):
                    # A copy, since later layers may change it in place.
                    seen[place] = maps.clone()

        with ExitStack() as stack:
            for module in self._watched:
                stack.callback(module.register_forward_hook(look).remove)
            features = self._runtime.run(pixels)
        maps = {place: value.float().cpu().numpy() for place, value in seen.items()}
        if self._places is None:
            error = _not_pooled(self._featurizer)
            self._places = _find_maps(features, self._blocks, maps, error)
            # From now on, no other layer needs a hook.
            self._watched = list(dict.fromkeys(module for module, *_ in self._places))
        return features, [maps[place] for place in self._places]

    def _read_as_maps(self, value: Any) -> list[torch.Tensor]:
        """Return the maps that a value may be: as the network lays them out, or as it is."""
        maps = self._layout.as_map(value)
        found = [] if maps is None else [maps]
        if self._layout != MapLayout() and isinstance(value, torch.Tensor) and value.ndim == 4:
            found.append(value)
        return found


def _not_pooled(featurizer: ImageFeaturizer) -> UnsupportedInputError:
    what, remedy = "are not the spatial means of a feature map", ""
    if MapLayout.of(featurizer.module_).grid is not None:
        what = "are not means over the tokens of its patches"
        if getattr(featurizer.module_, "global_pool", "") == "token":
            what = "are a class token, which gathers from all patches at once"
        remedy = 'features="avg_tokens" gives such means if no norm follows them; '
    return UnsupportedInputError(
        f"the features of {featurizer.spec_.name!r} {what}, so their contributions have no "
        f"position in the image; {remedy}effboost.inspection.occlusion_attribution explains "
        "any features"
    )
