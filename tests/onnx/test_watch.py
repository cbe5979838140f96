import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effboost.exceptions import DatasetError, DroppedRowsWarning
from effboost.onnx import _watch
from effboost.onnx._watch import resume_table, watch_folder

HEADER = ["file", "label", "probability_a", "probability_b"]
START = "file,label,probability_a,probability_b\n"


@pytest.mark.parametrize(
    ("text", "expected", "known"),
    [
        ("", START, set()),
        ("file,la", START, set()),
        (START, START, set()),
        (START + "x.png,a,1,0\n", START + "x.png,a,1,0\n", {"x.png"}),
        (START + "x.png,a,1,0\ny.png,b,0", START + "x.png,a,1,0\n", {"x.png"}),
        (START + '"x\n.png",a,1,0\n"y\n', START + '"x\n.png",a,1,0\n', {"x\n.png"}),
        (START + '"""\r",a,1,0\n"""\n', START + '"""\r",a,1,0\n', {'"\r'}),
    ],
)
def test_incomplete_rows_are_removed(text, expected, known, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    assert resume_table(path, HEADER) == known
    assert path.read_bytes().decode() == expected


def test_a_new_table_gets_its_header(tmp_path):
    assert resume_table(tmp_path / "table.csv", HEADER) == set()
    assert (tmp_path / "table.csv").read_text() == START


@pytest.mark.parametrize("text", ["file,label,probability_a\nx.png,a,1\n", "mine", "mine\n"])
def test_other_tables_are_refused_and_unchanged(text, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match="is not a table of this model"):
        resume_table(path, HEADER)
    assert path.read_text() == text


def test_names_that_are_not_utf8_are_kept(tmp_path):
    path, name = tmp_path / "table.csv", os.fsdecode(b"g\xff.png")
    path.write_bytes(START.encode() + b"g\xff.png,a,1,0\n")
    assert resume_table(path, HEADER) == {name}
    assert path.read_bytes() == START.encode() + b"g\xff.png,a,1,0\n"


def test_files_are_yielded_once_they_have_stopped_changing(tmp_path, monkeypatch):
    def save(name, side):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / name)

    save("known.png", 10)
    save("first.png", 10)
    steps = [
        lambda: (tmp_path / "growing.bmp").write_bytes(b""),
        lambda: None,  # still empty
        lambda: save("growing.bmp", 10),
        lambda: save("growing.bmp", 20),
        lambda: None,
        lambda: (tmp_path / "first.png").unlink(),
        lambda: save("growing.bmp", 30),
        lambda: None,
    ]
    looks = itertools.count()
    happened = []

    def sleep(seconds):
        assert seconds == 7
        number = next(looks)
        if number == len(steps):
            raise KeyboardInterrupt
        steps[number]()

    monkeypatch.setattr(_watch.time, "sleep", sleep)
    known = {str(tmp_path / "known.png")}

    def collect():
        for path in watch_folder(tmp_path, known, 7):
            happened.append((Path(path).name, Path(path).stat().st_size))

    with pytest.raises(KeyboardInterrupt):
        collect()
    sizes = [54 + 3 * side * side + side * (-3 * side % 4) for side in (20, 30)]
    first, *others = happened
    assert first[0] == "first.png"
    assert others == [("growing.bmp", sizes[0]), ("growing.bmp", sizes[1])]


def test_what_cannot_be_read_is_left_out_until_it_can(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(tmp_path / "cell.png")
    later = tmp_path.with_name(f"{tmp_path.name}-later")
    (tmp_path / "latest").symlink_to(later)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    looks = itertools.count()

    def sleep(seconds):
        number = next(looks)
        if number == 1:
            later.mkdir()
            (tmp_path / "cell.png").rename(later / "moved.png")
        if number == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(_watch.time, "sleep", sleep)
    found = []
    with pytest.warns(DroppedRowsWarning) as warned, pytest.raises(KeyboardInterrupt):
        found.extend(Path(path).name for path in watch_folder(tmp_path, set(), 0))
    assert found == ["cell.png", "moved.png"]
    messages = [str(one.message) for one in warned]
    assert len(messages) == 2  # once each, not at each look
    assert "latest' leads to" in messages[0]
    assert "loop' leads to" in messages[1]
    with pytest.raises(DatasetError, match="does not exist"):
        next(watch_folder(tmp_path / "none", set(), 0))
