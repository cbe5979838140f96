from pathlib import Path

import pytest

from effboost._utils import memory
from effboost._utils.memory import available_memory


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux only")
def test_it_is_less_than_the_machine_has():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < available_memory() < total


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("5000", "3000", 2000), ("5000", "6000", 0), ("max\n", "10", None), (None, None, None)],
)
def test_limits_of_containers_count(tmp_path, monkeypatch, limit, used, expected):
    files = tmp_path / "limit", tmp_path / "used"
    for file, text in zip(files, (limit, used), strict=True):
        if text is not None:
            file.write_text(text)
    monkeypatch.setattr(memory, "_GROUPS", (tuple(map(str, files)),))
    monkeypatch.setattr(memory, "_of_machine", lambda: 10**6)
    assert available_memory() == (10**6 if expected is None else expected)
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    assert available_memory() == expected
