import csv
import pickle

import numpy as np
import pytest

from effboost import Reject, RejectTable
from effboost.exceptions import ImageDecodeError, ImageNotFoundError


@pytest.fixture
def table():
    errors = {
        7: ImageNotFoundError(7, "gone.png", "there is no such file"),
        2: ImageDecodeError(2, None, "is damaged"),
    }
    return RejectTable.of(errors, start=100)


def test_rows_are_in_the_order_of_the_images(table):
    assert len(table) == 2
    assert table[0] == Reject(None, 102, "is damaged")
    assert table[1:] == RejectTable([Reject("gone.png", 107, "there is no such file")])
    np.testing.assert_array_equal(table.positions, [102, 107])
    assert repr(table) == "<RejectTable of 2 images>"
    assert not RejectTable()
    assert RejectTable().positions.dtype == np.intp


def test_partitions_are_part_of_the_rows(table):
    assert {row.partition for row in table} == {None}
    assert {row.partition for row in table.in_partition(3)} == {3}
    assert table.in_partition(3) != table


def test_it_is_pickled_and_hashed(table):
    again = pickle.loads(pickle.dumps(table))
    assert again == table
    assert hash(again) == hash(table)


def test_csv_keeps_every_name(tmp_path):
    names = ["a.png", "=1+1.png", 'x,"y"\n.png', "\udcff.png", None]
    rows = RejectTable(Reject(name, i, "is damaged", i % 2) for i, name in enumerate(names))
    file = rows.to_csv(tmp_path / "rejects.csv")
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as text:
        found = list(csv.DictReader(text))
    assert [row["path"] or None for row in found] == names
    assert list(found[0]) == ["path", "position", "partition", "reason"]
    assert [int(row["position"]) for row in found] == [0, 1, 2, 3, 4]
    assert [int(row["partition"]) for row in found] == [0, 1, 0, 1, 0]
    rows.to_csv(file, escape_formulas=True)
    assert "\n'=1+1.png," in file.read_text(encoding="utf-8", errors="surrogateescape")
