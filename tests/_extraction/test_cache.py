import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from common.networks import tiny_featurizer
from common.writers import key, write_many
from effboost import Cache
from effboost._extraction.cache import digest_of
from effboost.exceptions import CacheWarning


def file_of(cache):
    (file,) = cache.folder.glob("*.sqlite")
    return file


def test_what_is_put_is_found_and_nothing_else(tmp_path):
    cache = Cache(tmp_path / "new" / "folder")
    assert cache.get([key(0)]) == {}
    assert not cache.folder.exists()  # looking leaves no trace
    cache.put({key(0): b"zero", key(1): b""})
    assert cache.get([key(0), key(1), key(2)]) == {key(0): b"zero", key(1): b""}
    assert len(cache) == 2
    cache.put({key(0): b"other"})
    assert Cache(tmp_path / "new" / "folder").get([key(0)]) == {key(0): b"other"}
    cache.clear()
    assert len(cache) == 0
    assert cache


def test_thousands_of_keys_are_looked_up_at_once(tmp_path):
    cache = Cache(tmp_path)
    entries = {key(i): str(i).encode() for i in range(2500)}
    cache.put(entries)
    assert cache.get(list(entries)) == entries


@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text()),
    st.dictionaries(st.text(), st.none() | st.integers() | st.text()),
)
def test_descriptions_have_one_digest_where_they_are_equal(first, second):
    assert (digest_of(first) == digest_of(second)) == (first == second)
    assert digest_of(dict(reversed(first.items()))) == digest_of(first)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=40))
def test_the_file_stays_within_its_bound_and_keeps_what_came_last(sizes, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"), max_bytes=200_000)
    for i, size in enumerate(sizes):
        cache.put({key(i): bytes([i]) * size})
        assert file_of(cache).stat().st_size <= 200_000 + 40_000
    last = len(sizes) - 1
    assert cache.get([key(last)]) == {key(last): bytes([last]) * sizes[-1]}


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch):
    cache = Cache(tmp_path, max_bytes=100_000)
    clock = iter(range(10**9, 2 * 10**9, 10_000))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    for i in range(8):
        cache.put({key(i): bytes(9_000)})
    cache.get([key(0)])
    for i in range(8, 12):
        cache.put({key(i): bytes(9_000)})
    left = [i for i in range(12) if cache.get([key(i)])]
    assert 0 in left
    assert 1 not in left


def test_an_entry_that_fits_no_cache_is_not_kept(tmp_path):
    cache = Cache(tmp_path, max_bytes=50_000)
    cache.put({key(0): bytes(100_000), key(1): b"small"})
    assert cache.get([key(0), key(1)]) == {key(1): b"small"}


def test_an_entry_that_was_altered_is_not_found(tmp_path):
    cache = Cache(tmp_path)
    cache.put({key(0): b"right", key(1): b"right"})
    with sqlite3.connect(file_of(cache)) as connection:
        connection.execute("UPDATE entries SET value = ? WHERE key = ?", (b"wrong", key(0)))
    connection.close()
    assert cache.get([key(0), key(1)]) == {key(1): b"right"}


@pytest.mark.parametrize("damage", [b"", b"no database at all, but long enough to be read" * 99])
def test_a_damaged_file_is_begun_anew(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.put({key(0): b"zero"})
    file_of(cache).write_bytes(damage)
    if damage:
        with pytest.warns(CacheWarning, match=r"effboost-1.sqlite' was damaged .* begun anew"):
            assert cache.get([key(0)]) == {}
    cache.put({key(0): b"again"})
    assert cache.get([key(0)]) == {key(0): b"again"}


def test_pages_overwritten_in_the_middle_cost_entries_but_no_wrong_values(tmp_path):
    cache = Cache(tmp_path)
    entries = {key(i): bytes([i]) * 5000 for i in range(50)}
    cache.put(entries)
    file = file_of(cache)
    content = bytearray(file.read_bytes())
    content[60_000:70_000] = os.urandom(10_000)
    file.write_bytes(content)
    try:
        found = cache.get(list(entries))
    except CacheWarning:  # warnings are errors in these tests
        found = {}
    assert found.items() <= entries.items()
    assert len(found) < 50


def test_a_folder_that_cannot_be_used_is_a_warning(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file")
    with pytest.warns(CacheWarning, match="cannot be used"):
        cache.put({key(0): b"zero"})


def test_a_cache_goes_through_clone_and_pickle(tmp_path):
    featurizer = tiny_featurizer(cache=Cache(tmp_path, max_bytes=10**6))
    for other in (clone(featurizer), pickle.loads(pickle.dumps(featurizer))):
        assert other.cache == featurizer.cache


def test_two_writers_at_a_time_lose_nothing(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_many, args=(tmp_path, first)) for first in (0, 50)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = Cache(tmp_path).get([key(i) for i in range(150)])
    assert found == {key(i): bytes([i % 256]) * 1000 for i in range(150)}


_WRITER = """
import sys
from effboost import Cache
cache, i = Cache(sys.argv[1]), 0
while True:
    cache.put({i.to_bytes(32, "big"): bytes([i % 256]) * 20_000})
    print(i, flush=True)
    i += 1
"""


def test_a_killed_writer_leaves_whole_entries(tmp_path):
    for moment in range(5):
        folder = tmp_path / str(moment)
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        ) as writer:
            for _ in range(5 + moment):
                done = int(writer.stdout.readline())
            time.sleep(0.001 * moment)
            writer.send_signal(signal.SIGKILL)
        cache = Cache(folder)
        keys = [i.to_bytes(32, "big") for i in range(done + 50)]
        found = cache.get(keys)
        assert set(keys[: done + 1]) <= set(found)
        assert all(value == bytes([keys.index(k) % 256]) * 20_000 for k, value in found.items())
        cache.put({key(0): b"goes on"})
        assert cache.get([key(0)])
