"""Weights as safetensors, compared with the network before they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, Final

import torch
from safetensors.torch import load, save
from torch import nn
from torch.overrides import TorchFunctionMode

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._json import check_fields, parse_json

__all__ = [
    "Activations",
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
_MAX_AXES: Final = 8
_MAX_SIDE: Final = 2**40
# Of networks in torchvision, the one with the most has some 1,600.
_MAX_TENSORS: Final = 10_000
# What a network computes beside its weights while it is built, such as tables of positions.
_MAX_VALUES: Final = 2**24
# In single precision, a quarter of a gigabyte.
_MAX_ACTIVATION: Final = 2**26
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
    """A context in which layers are built without memory for their weights.

    torch's own "meta" device would also apply to the tensors from which torchvision computes the
    widths of RegNets. Networks with too many layers, or with large tensors besides their weights,
    are refused before memory is reserved.
    """

    _MAKERS: Final = (torch.empty, torch.zeros, torch.ones)

    def __init__(self) -> None:
        super().__init__()
        self._n_tensors = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._MAKERS:
            kwargs["device"] = "meta"
            self._n_tensors += 1
            if self._n_tensors > _MAX_TENSORS:
                raise RefusedError(f"the network has more than {_MAX_TENSORS:,} tensors")
        elif _largest_result(func, args) > _MAX_VALUES:
            raise RefusedError("the network computes large tensors while it is built")
        return func(*args, **kwargs)


class Activations(TorchFunctionMode):
    """A context in which a network without memory must not return large maps."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() > _MAX_ACTIVATION:
            raise RefusedError(
                f"the network would compute {result.numel():,} values for one image at once; the "
                f"limit is {_MAX_ACTIVATION:,}"
            )
        return result


def _largest_result(func: Any, args: Any) -> int:
    """Estimate how many values a function of torch may return, from its arguments."""
    if func in (torch.arange, torch.linspace, torch.eye, torch.full, torch.rand, torch.randn):
        numbers = [arg for arg in args if isinstance(arg, int | float)]
        return int(max(map(abs, numbers), default=0))
    sides: list[int] = []
    for arg in args:
        if isinstance(arg, torch.Tensor) and not arg.is_meta:
            own = list(arg.shape)
            sides = [max(pair) for pair in zip_longest(sides[::-1], own[::-1], fillvalue=1)][::-1]
    return math.prod(sides)


def list_shapes(parts: Mapping[str, nn.Module]) -> dict[str, _Shape]:
    """List type and shape of every tensor of some modules, by its name in a file."""
    return {
        f"{part}.{name}": (tensor.dtype, tuple(tensor.shape))
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


def list_all_tensors(module: nn.Module) -> list[torch.Tensor]:
    """List every tensor of a module, including those outside its state dict."""
    plain = [value for part in module.modules() for value in vars(part).values()]
    return [
        *module.parameters(),
        *module.buffers(),
        *(value for value in plain if isinstance(value, torch.Tensor)),
    ]


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], part: str) -> None:
    """Load those tensors of a checked file into a module that have the prefix of its part."""
    # A state dict also has the versions of layers, without which MNASNet does not load it.
    state = module.state_dict()
    for name in state:
        state[name] = tensors[f"{part}.{name}"]
    module.load_state_dict(state, assign=True)


def write_tensors(parts: Mapping[str, nn.Module], others: Mapping[str, torch.Tensor]) -> bytes:
    """Write the tensors of some modules, and others, as one safetensors file."""
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().clone().contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    content: bytes = save({**tensors, **others})
    return content


def check_tensors(content: bytes, expected: Mapping[str, _Shape]) -> None:
    """Check that a safetensors file has exactly these tensors.

    Raises
    ------
    RefusedError
        If a tensor is missing, unknown, or of another type or shape, or the file has other bytes.
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
    """Read the tensors of a checked file.

    Raises
    ------
    RefusedError
        If one contains NaN or infinity, or a variance that is negative.
    """
    tensors = load(content)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = map(float, tensor.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise RefusedError(f"network.safetensors: {name!r} contains NaN or infinity")
        if name.endswith(".running_var") and low < 0:
            raise RefusedError(f"network.safetensors: {name!r} contains negative variances")
    return tensors


def _read_header(content: bytes) -> dict[str, _Shape]:
    what = "the header of network.safetensors"
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(len(content) - 8, _MAX_HEADER):
        raise RefusedError(f"{what} is longer than the file")
    header = parse_json(content[8 : 8 + length], what)
    places: list[tuple[int, int]] = []
    shapes: dict[str, _Shape] = {}
    for name, entry in header.items():
        shown = f"{what}: {quote_name(name)}"
        check_fields(entry, shown, {"dtype": str, "shape": list, "data_offsets": list})
        dtype, shape, place = _DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None:
            raise RefusedError(f"{shown} is of an unknown type")
        numbers = (*shape, *place)
        if (
            not all(type(n) is int and 0 <= n <= _MAX_SIDE for n in numbers)
            or len(place) != 2
            or len(shape) > _MAX_AXES
        ):
            raise RefusedError(f"{shown} has an impossible shape or place")
        if place[1] - place[0] != math.prod(shape) * dtype.itemsize:
            raise RefusedError(f"{shown} is not as large as its shape says")
        shapes[name] = dtype, tuple(shape)
        places.append((place[0], place[1]))
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise RefusedError(f"{what}: tensors overlap, or there is a gap between them")
        end = last
    if end != len(content) - 8 - length:
        raise RefusedError("network.safetensors is longer or shorter than its tensors")
    return shapes


def _show(shape: _Shape) -> str:
    dtype, sides = shape
    return f"{str(dtype).removeprefix('torch.')} {list(sides)}"
