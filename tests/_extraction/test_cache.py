import hashlib
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from common.networks import tiny_featurizer
from common.unprivileged import open_folder, without_privileges
from common.writers import key, write_many
from effboost import Cache
from effboost._extraction.cache import digest_of
from effboost.exceptions import CacheWarning


def file_of(cache):
    (file,) = cache.folder.glob("*.sqlite")
    return file


def test_numbers_of_numpy_have_the_keys_of_those_of_python():
    plain = {"a": 1, "b": [0.5, True], "c": {"d": "e"}}
    odd = {"a": np.int64(1), "b": [np.float32(0.5), np.bool_(True)], "c": {"d": np.str_("e")}}
    assert digest_of(odd) == digest_of(plain)
    with pytest.raises(TypeError, match="ndarray is not plain"):
        digest_of({"a": np.zeros(2)})


def test_get_returns_the_stored_values(tmp_path):
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


def test_thousands_of_keys_are_looked_up(tmp_path):
    cache = Cache(tmp_path)
    entries = {key(i): str(i).encode() for i in range(2500)}
    cache.put(entries)
    assert cache.get(list(entries)) == entries


@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text()),
    st.dictionaries(st.text(), st.none() | st.integers() | st.text()),
)
def test_digests_are_equal_for_equal_descriptions_only(first, second):
    assert (digest_of(first) == digest_of(second)) == (first == second)
    assert digest_of(dict(reversed(first.items()))) == digest_of(first)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=40))
def test_file_stays_within_max_bytes_and_keeps_the_newest_entry(sizes, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"), max_bytes=200_000)
    for i, size in enumerate(sizes):
        cache.put({key(i): bytes([i]) * size})
        assert file_of(cache).stat().st_size <= 200_000 + 40_000
    last = len(sizes) - 1
    assert cache.get([key(last)]) == {key(last): bytes([last]) * sizes[-1]}


def test_least_recently_used_entries_are_removed_first(tmp_path, monkeypatch):
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


def test_entry_larger_than_the_cache_is_not_kept(tmp_path):
    cache = Cache(tmp_path, max_bytes=50_000)
    cache.put({key(0): bytes(100_000), key(1): b"small"})
    assert cache.get([key(0), key(1)]) == {key(1): b"small"}


def test_altered_entry_is_not_found(tmp_path):
    cache = Cache(tmp_path)
    cache.put({key(0): b"right", key(1): b"right"})
    with sqlite3.connect(file_of(cache)) as connection:
        connection.execute("UPDATE entries SET value = ? WHERE key = ?", (b"wrong", key(0)))
    connection.close()
    assert cache.get([key(0), key(1)]) == {key(1): b"right"}


def test_entries_with_swapped_keys_are_not_found(tmp_path):
    cache = Cache(tmp_path)
    cache.put({key(0): b"zero", key(1): b"one", key(2): b"two"})
    with sqlite3.connect(file_of(cache)) as connection:
        for old, new in ((key(0), b"x"), (key(1), key(0)), (b"x", key(1))):
            connection.execute("UPDATE entries SET key = ? WHERE key = ?", (new, old))
    connection.close()
    assert cache.get([key(0), key(1), key(2)]) == {key(2): b"two"}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_flipped_bits_never_return_another_value(data, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    entries = {hashlib.sha256(key(i)).digest(): bytes([i]) * 40 for i in range(40)}
    cache.put(entries)
    content = bytearray(file_of(cache).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file_of(cache).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        found = cache.get(list(entries))
        cache.put({key(0): b"goes on"})
        assert len(cache) >= 0
    assert found.items() <= entries.items()


HOSTILE = {
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON entries BEGIN "
    "INSERT INTO entries WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) "
    "SELECT i, i, i, i FROM c; END",
    "a view": "ALTER TABLE entries RENAME TO others; "
    "CREATE VIEW entries AS WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) "
    "SELECT i AS key, i AS value, i AS digest, i AS used FROM c",
    "another column": "ALTER TABLE entries ADD COLUMN more",
    "other tables": "DROP TABLE entries; CREATE TABLE entries (key, value)",
    "names that are not text": "PRAGMA writable_schema = ON; "
    "UPDATE sqlite_master SET sql = CAST(x'ff80' AS TEXT) WHERE name = 'by_use'",
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_database_with_another_schema_is_replaced(tmp_path, change, monkeypatch):
    cache = Cache(tmp_path)
    cache.put({key(0): b"zero"})
    connection = sqlite3.connect(file_of(cache))
    connection.executescript(change)
    connection.close()
    day = time.time() + 10**5
    monkeypatch.setattr(time, "time", lambda: day)  # entries are marked as used
    with pytest.warns(CacheWarning, match=r"was damaged .* replaced by an empty one"):
        assert cache.get([key(0)]) == {}
    cache.put({key(0): b"again"})
    assert cache.get([key(0)]) == {key(0): b"again"}


@pytest.mark.parametrize("column", ["value", "digest", "used"])
@pytest.mark.parametrize("content", [3, 2.5, "text", "CAST(x'ff80' AS TEXT)", "x''"], ids=str)
def test_entries_of_another_type_are_not_found(tmp_path, column, content):
    cache = Cache(tmp_path)
    cache.put({key(0): b"zero", key(1): b"one"})
    sql = f"'{content}'" if content == "text" else content
    with sqlite3.connect(file_of(cache)) as connection:
        connection.execute(f"UPDATE entries SET {column} = {sql} WHERE key = ?", (key(0),))
    connection.close()
    expected = {key(1): b"one"} | ({key(0): b"zero"} if column == "used" else {})
    assert cache.get([key(0), key(1)]) == expected
    assert cache.get([key(0), key(1)]) == expected  # marked as used by now


def test_read_only_cache_is_read(monkeypatch):
    with open_folder() as folder:
        cache = Cache(folder)
        cache.put({key(0): b"zero"})
        day = time.time() + 10**5
        monkeypatch.setattr(time, "time", lambda: day)
        file_of(cache).chmod(0o444)
        folder.chmod(0o555)
        with without_privileges():
            assert cache.get([key(0), key(1)]) == {key(0): b"zero"}
            assert len(cache) == 1
            with pytest.warns(CacheWarning, match=r"cannot be used .*readonly"):
                cache.put({key(1): b"one"})
            assert cache.get([key(0), key(1)]) == {key(0): b"zero"}
        folder.chmod(0o755)


@pytest.mark.parametrize("damage", [b"", b"no database at all, but long enough to be read" * 99])
def test_damaged_file_is_replaced(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.put({key(0): b"zero"})
    file_of(cache).write_bytes(damage)
    if damage:
        with pytest.warns(CacheWarning, match=r"effboost-2.sqlite' was damaged .* replaced"):
            assert cache.get([key(0)]) == {}
    cache.put({key(0): b"again"})
    assert cache.get([key(0)]) == {key(0): b"again"}


def test_overwritten_pages_lose_entries_but_never_return_wrong_values(tmp_path):
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


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300], ids=["file", "below", "long"])
def test_unusable_folder_warns(tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / place)
    with pytest.warns(CacheWarning, match="cannot be used"):
        cache.put({key(0): b"zero"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        assert cache.get([key(0)]) == {}
        assert len(cache) == 0


def test_folder_without_permission_warns(tmp_path):
    cache = Cache(tmp_path)
    cache.put({key(0): b"zero"})
    tmp_path.chmod(0)
    with without_privileges(), pytest.warns(CacheWarning, match="cannot be used .*denied"):
        assert cache.get([key(0)]) == {}
    tmp_path.chmod(0o700)


def test_cache_survives_clone_and_pickle(tmp_path):
    featurizer = tiny_featurizer(cache=Cache(tmp_path, max_bytes=10**6))
    for other in (clone(featurizer), pickle.loads(pickle.dumps(featurizer))):
        assert other.cache == featurizer.cache


def test_two_concurrent_writers_lose_nothing(tmp_path):
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


def test_killed_writer_leaves_intact_entries(tmp_path):
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


@pytest.mark.parametrize("max_bytes", [1, 10_000, 20_000])
def test_a_file_of_too_few_bytes_keeps_nothing(tmp_path, max_bytes):
    cache = Cache(tmp_path, max_bytes=max_bytes)
    cache.put({b"small": b"v", b"large": b"v" * 6000})
    cache.put({})
    assert len(cache) == 0
