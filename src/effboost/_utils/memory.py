"""The memory that this process may still use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["available_memory"]

# The files of version 2 and 1 of Linux's control groups: the limit, and what is used of it.
_GROUPS: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available_memory() -> int | None:
    """Return the bytes that this process may still use, or None where the system does not say.

    This is the smaller of what the machine has left, and of what the limit of the container leaves.
    """
    found = [_of_machine(), *(_of_group(*files) for files in _GROUPS)]
    known = [n_bytes for n_bytes in found if n_bytes is not None]
    return min(known) if known else None


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    size = sizes.get("MemAvailable", "").split()
    return 1024 * int(size[0]) if size else None


def _of_group(limit: str, used: str) -> int | None:
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):  # no such group, or "max"
        return None
