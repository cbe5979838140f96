"""Devices, precision and seeds of torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sklearn.utils import check_random_state

from effboost.exceptions import DeviceWarning

__all__ = ["check_precision", "draw_seed", "resolve_device", "seeded"]


def resolve_device(device: str | torch.device, *, or_cpu: bool = False) -> torch.device:
    """Resolve "auto" to the GPU if there is one, else to the CPU, and check other devices.

    With `or_cpu`, a missing GPU results in the CPU and a warning, so that a model that was fitted
    on a GPU can be used elsewhere.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f'device={device!r} is not a torch device; use "auto", "cpu" or "cuda"'
        ) from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        if or_cpu:
            warnings.warn(
                f"this model was set to device={str(device)!r}, but torch finds no GPU; it runs on "
                "the CPU",
                DeviceWarning,
                stacklevel=2,
            )
            return torch.device("cpu")
        raise ValueError(f'device={device!r}, but torch finds no GPU; use "auto" or "cpu"')
    return resolved


def check_precision(precision: str, device: torch.device) -> None:
    """Raise an error for mixed precision on a GPU without bfloat16."""
    if precision == "mixed" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                name = torch.cuda.get_device_name(device)
                raise ValueError(
                    f'precision="mixed" uses bfloat16, which the GPU {name!r} does not support; '
                    'use precision="float32"'
                )


def draw_seed(random_state: object) -> int:
    """Draw a seed for torch from a random state of scikit-learn."""
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and restore the state of its generators."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
