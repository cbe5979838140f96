"""torch's device and seed, and access to what all threads of a process share in torch."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from sklearn.utils import check_random_state

from effboost._utils.forks import limit_threads_after_fork
from effboost._utils.locks import QueuedLock, SharedLock
from effboost.exceptions import DeviceWarning

__all__ = ["check_precision", "computing", "draw_seed", "resolve_device", "seeded", "tracing"]


def resolve_device(device: str | torch.device, *, or_cpu: bool = False) -> torch.device:
    """Resolve "auto" to the GPU if there is one, else to the CPU; check any other device.

    With `or_cpu`, a missing GPU is replaced by the CPU, with a warning, so that a model that was
    fitted on a GPU can be used elsewhere.
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
    """Draw a torch seed from a random state in any form that scikit-learn takes."""
    return int(check_random_state(random_state).randint(2**31 - 1))


class _GlobalGenerator:
    """torch's random generator and settings of cuDNN, lent to one thread at a time."""

    def __init__(self) -> None:
        self._lock = QueuedLock()
        self._own = threading.local()

    @contextmanager
    def borrow(self) -> Iterator[None]:
        """Change the settings in a block, and restore them at its end."""
        with self._lock:
            kept = self._own.__dict__.setdefault("kept", [])
            kept.append(_read_state())
            try:
                yield
            finally:
                state = kept.pop()
                if self._lock.is_mine():
                    _write_state(state)

    def hand_on(self) -> None:
        """If this thread has borrowed the settings, let waiting threads borrow them first."""
        if not (self._lock.is_mine() and self._lock.is_wanted()):
            return
        own, kept = _read_state(), self._own.kept
        _write_state(kept[0])
        self._lock.hand_on()
        kept[0] = _read_state()
        _write_state(own)


def _read_state() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
    )


def _write_state(state: tuple[Any, ...]) -> None:
    cpu, gpus, (enabled, benchmark, deterministic) = state
    torch.set_rng_state(cpu)
    for number, gpu in enumerate(gpus):
        torch.cuda.set_rng_state(gpu, number)
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = enabled, benchmark, deterministic


_GENERATOR: Final = _GlobalGenerator()
_MODULES: Final = SharedLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch in a block, and record gradients there even if the caller has disabled them.

    torch's layers draw from one generator for the whole process. Threads therefore take turns; in a
    long block, `computing` lets other threads go first. At the end, the generator is restored.
    """
    with _GENERATOR.borrow(), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        yield


@contextmanager
def computing() -> Iterator[None]:
    """Run networks in a block, in full precision, while none is traced in another thread."""
    limit_threads_after_fork()
    if not _MODULES.is_mine():
        # Otherwise another thread could wait for this block, and this one for the generator.
        _GENERATOR.hand_on()
    with _MODULES.shared(), _full_precision():
        yield


@contextmanager
def tracing() -> Iterator[None]:
    """Trace or export a network in a block, while none runs in another thread.

    Meanwhile, torch.fx and torch.export change the calls of all modules of the process.
    """
    with _MODULES.alone(), _full_precision():
        yield


@contextmanager
def _full_precision() -> Iterator[None]:
    """Switch off the caller's autocast."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
