import os
import stat
import subprocess
import sys

import pytest

from effboost._utils.atomic_write import open_atomic, write_atomic


def test_file_is_replaced_without_leftovers(tmp_path):
    path = tmp_path / "notes.txt"
    assert write_atomic(path, "één\n") == path
    write_atomic(path, "two\n")
    assert path.read_bytes() == b"two\n"
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_is_kept_after_an_error(tmp_path):
    path = tmp_path / "notes.txt"
    write_atomic(path, "old")

    def fail():
        with open_atomic(path) as file:
            file.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "notes.txt"
    with open_atomic(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_two_writers_do_not_interfere(tmp_path):
    path = tmp_path / "notes.txt"
    with open_atomic(path) as first, open_atomic(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"


def test_permissions_follow_the_umask(tmp_path):
    with open_atomic(tmp_path / "one"):
        pass
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("one", "other")}
    assert len(modes) == 1


def test_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "nowhere" / "notes.txt", "x")


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
import effboost
from common.networks import tiny_featurizer, TinyNet

path, rng = Path(sys.argv[1]), random.Random(0)
pictures = np.zeros((1, 24, 24), dtype=np.uint8)
models = [tiny_featurizer(random_state=seed).fit(pictures) for seed in range(2)]
expected = []
start = time.perf_counter()
for model in models:
    effboost.save(model, path)
    expected.append(path.read_bytes())
# Whatever the machine: some are killed in their first save, most in a later one.
span = 3 * (time.perf_counter() - start)
whole, seen = True, set()
for _ in range(20):
    child = os.fork()
    if child == 0:
        while True:
            for model in models:
                effboost.save(model, path)
    time.sleep(rng.uniform(0, span))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    content = path.read_bytes()
    whole &= content in expected
    seen.add(content)
    effboost.load(path, backbone=TinyNet)
print(whole, len(seen))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_save_leaves_old_or_new_file(tmp_path):
    path = tmp_path / "model.effboost"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, path],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.stdout.split() == ["True", "2"]


def test_full_disk_error_names_the_file(tmp_path):
    """A file that may not grow any further stands for a disk that is full."""
    code = (
        "import resource, sys\n"
        "from effboost._utils.atomic_write import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_atomic(sys.argv[1], 'x' * 100_000)\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    target = tmp_path / "report.json"
    target.write_text("old")
    command = [sys.executable, "-c", code, str(target)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout == f"[Errno 27] File too large: {str(target)!r}\n", result.stderr
    assert [(place.name, place.read_text()) for place in tmp_path.iterdir()] == [
        ("report.json", "old")
    ]
