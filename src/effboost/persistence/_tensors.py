"""Weights as safetensors, compared with the network that wants them before any is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from safetensors.torch import load, save
from torch import nn
from torch.overrides import TorchFunctionMode

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._json import check_fields, parse_json

__all__ = [
    "Shapes",
    "check_tensors",
    "fill",
    "list_all_tensors",
    "list_shapes",
    "read_tensors",
    "write_tensors",
]

_Shape = tuple[torch.dtype, tuple[int, ...]]

_MAX_HEADER: Final = 2**22
_DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


class Shapes(TorchFunctionMode):
    """Inside, layers are made without memory for their weights: only their shapes are known.

    torch's own "meta" device would reach every tensor, also those that torchvision's RegNets
    compute their widths with.
    """

    _MAKERS: Final = (torch.empty, torch.zeros, torch.ones)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._MAKERS:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def list_shapes(parts: Mapping[str, nn.Module]) -> dict[str, _Shape]:
    """Give type and shape of every tensor of some modules, under the name it has in a file."""
    return {
        f"{part}.{name}": (tensor.dtype, tuple(tensor.shape))
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


def list_all_tensors(module: nn.Module) -> list[torch.Tensor]:
    """Give every tensor of a module, also those that its state dict leaves out."""
    plain = [value for part in module.modules() for value in vars(part).values()]
    return [
        *module.parameters(),
        *module.buffers(),
        *(value for value in plain if isinstance(value, torch.Tensor)),
    ]


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], part: str) -> None:
    """Make the tensors of a checked file, under the name of a part, those of a module."""
    # Beside its tensors, a state dict notes versions of layers; without, MNASNet takes none.
    state = module.state_dict()
    for name in state:
        state[name] = tensors[f"{part}.{name}"]
    module.load_state_dict(state, assign=True)


def write_tensors(parts: Mapping[str, nn.Module], others: Mapping[str, torch.Tensor]) -> bytes:
    """Give the tensors of some modules, and others, as one safetensors file."""
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().clone().contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    content: bytes = save({**tensors, **others})
    return content


def check_tensors(content: bytes, expected: Mapping[str, _Shape]) -> None:
    """Check that a safetensors file holds just these tensors.

    Raises
    ------
    RefusedError
        If one is missing, too many, or of another type or shape, or if they do not fill the file.
    """
    found, what = _read_header(content), "network.safetensors"
    for name in expected:
        if name not in found:
            raise RefusedError(f"{what} lacks tensor {name!r}, which the network has")
    for name, shape in found.items():
        if name not in expected:
            raise RefusedError(
                f"{what} has tensor {quote_name(name)}, which the network does not have"
            )
        if shape != expected[name]:
            got, wanted = _show(shape), _show(expected[name])
            raise RefusedError(f"{what}: tensor {name!r} is {got}; the network has {wanted}")


def read_tensors(content: bytes) -> dict[str, torch.Tensor]:
    """Give the tensors of a checked file."""
    return load(content)


def _read_header(content: bytes) -> dict[str, _Shape]:
    what = "the header of network.safetensors"
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(len(content) - 8, _MAX_HEADER):
        raise RefusedError(f"{what} does not fit into it")
    header = parse_json(content[8 : 8 + length], what)
    places: list[tuple[int, int]] = []
    shapes: dict[str, _Shape] = {}
    for name, entry in header.items():
        shown = f"{what}: {quote_name(name)}"
        check_fields(entry, shown, {"dtype": str, "shape": list, "data_offsets": list})
        dtype, shape, place = _DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None:
            raise RefusedError(f"{shown} is of an unknown type")
        if not all(type(n) is int and n >= 0 for n in (*shape, *place)) or len(place) != 2:
            raise RefusedError(f"{shown} has a shape or place that is none")
        if place[1] - place[0] != math.prod(shape) * dtype.itemsize:
            raise RefusedError(f"{shown} takes {place[1] - place[0]} bytes, but not by its shape")
        shapes[name] = dtype, tuple(shape)
        places.append((place[0], place[1]))
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise RefusedError(f"{what}: tensors overlap, or leave a gap")
        end = last
    if end != len(content) - 8 - length:
        raise RefusedError("network.safetensors is longer or shorter than its tensors")
    return shapes


def _show(shape: _Shape) -> str:
    dtype, sides = shape
    return f"{str(dtype).removeprefix('torch.')} {list(sides)}"
