import resource
from pathlib import Path

import numpy as np
import pytest

from effboost._utils import allocation
from effboost._utils.allocation import kept_memory

pytestmark = pytest.mark.skipif(
    allocation._glibc() is None, reason="needs the GNU C library, with its usual settings"
)

MB = 1 << 20


def count_page_faults(run):
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def use_memory():
    for _ in range(5):
        np.ones(64 * MB, dtype=np.uint8)


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_freed_memory_is_used_again_within_the_block_alone():
    n_pages = 64 * MB // resource.getpagesize()
    with kept_memory():
        use_memory()
        with kept_memory():
            use_memory()
        assert count_page_faults(use_memory) < n_pages
    # With huge pages, there are fewer faults than pages.
    assert count_page_faults(use_memory) > 5 * 64 * MB // (2 * MB) - 5


def test_memory_is_returned_at_the_end():
    with kept_memory():
        use_memory()
        inside = resident()
    assert resident() < inside - 50 * MB


def test_settings_of_the_environment_are_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert allocation._glibc() is None
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=9")
    assert allocation._glibc() is None
