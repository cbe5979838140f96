"""Which device torch computes on, and from which seed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sklearn.utils import check_random_state

from effboost.exceptions import DeviceWarning

__all__ = ["check_precision", "draw_seed", "resolve_device", "seeded"]


def resolve_device(device: str | torch.device, *, or_cpu: bool = False) -> torch.device:
    """Turn "auto" into the GPU if there is one, else the CPU; check any other choice.

    With `or_cpu`, a GPU that is not there gives the CPU and a warning: a model that was fitted
    on one must be of use elsewhere.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f'device={device!r} is no torch device; "auto", "cpu" or "cuda" would do'
        ) from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        if or_cpu:
            warnings.warn(
                f"this model was set to device={str(device)!r}, but torch finds no GPU here; it "
                "computes on the CPU",
                DeviceWarning,
                stacklevel=2,
            )
            return torch.device("cpu")
        raise ValueError(f'device={device!r}, but torch finds no GPU; use "auto" or "cpu"')
    return resolved


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse mixed precision on a GPU that has no bfloat16."""
    if precision == "mixed" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                name = torch.cuda.get_device_name(device)
                raise ValueError(
                    f'precision="mixed" computes in bfloat16, which the GPU {name!r} does not '
                    'have; use precision="float32"'
                )


def draw_seed(random_state: object) -> int:
    """Draw one torch seed from whatever scikit-learn takes as a random state."""
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and give its generators back unchanged."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
