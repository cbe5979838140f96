import errno
import os
import tempfile

import numpy as np
import pytest

from effboost._extraction import row_cache
from effboost._extraction.row_cache import RowCache


@pytest.fixture(params=["memory", "file"])
def place(request, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "file":
        monkeypatch.setattr(row_cache, "_MAX_IN_MEMORY", 0)
    return tmp_path


def squares(index, asked):
    def compute(places):
        rows = [int(index[place]) for place in places]
        asked.extend(rows)
        return [np.full((2, 2), row**2) for row in rows]

    return compute


def test_each_row_is_computed_once(place):
    scratch, asked = RowCache((10, 2, 2), np.float32), []
    for index in ([3, 1], [1, 9, 3, 0, 9], [3], [5, 5]):
        index = np.array(index)
        rows = scratch.take(index, squares(index, asked))
        np.testing.assert_array_equal(rows[:, 0, 0], index**2)
    assert sorted(asked) == [0, 1, 3, 5, 9]


def test_the_result_may_be_changed(place):
    scratch, index = RowCache((3, 2, 2), np.uint8), np.array([1])
    scratch.take(index, squares(index, []))[...] = 7
    np.testing.assert_array_equal(scratch.take(index, None), np.ones((1, 2, 2)))


def test_no_file_is_seen(place):
    scratch, index = RowCache((3, 2, 2), np.uint8), np.array([1])
    scratch.take(index, squares(index, []))
    assert list(place.iterdir()) == []


def test_without_room_on_disk_rows_are_computed_each_time(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(row_cache, "_MAX_IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    scratch, asked, index = RowCache((10, 2, 2), np.float32), [], np.array([3, 1])
    for _ in range(2):
        rows = scratch.take(index, squares(index, asked))
        np.testing.assert_array_equal(rows[:, 0, 0], [9, 1])
    assert asked == [3, 1, 3, 1]
