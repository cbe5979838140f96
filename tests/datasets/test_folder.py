import csv
import io
import os
import tempfile
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effboost import ImageSequence
from effboost._images import as_images
from effboost.datasets import list_images, load_image_folder
from effboost.datasets._files import SUFFIXES
from effboost.datasets._table import _MISSING as MISSING
from effboost.exceptions import (
    DatasetError,
    DroppedRowsWarning,
    EffboostError,
    LabelWarning,
)

TABLE = """\
file,target,group,stain,note
a.png,ALL,S1,dark,first
b.png,HEM,S2,,"pale, small"
sub/c.png,ALL,S1,light,"said ""round\"""
d.png,HEM,S3,dark,
"""


NO_IMAGE = (
    "'{root}' has no labelled image: it needs a labels.csv, or a subfolder of images (.apng, "
    ".bmp, .dib, .gif, .jfif, .jpe, .jpeg, .jpg, .pbm, .pfm, .pgm, .png, .pnm, .ppm, .tif, .tiff, "
    ".webp) for each class"
)


@pytest.fixture
def folder(tmp_path):
    """A folder with files that hold no picture: none may be opened."""
    root = tmp_path / "cells"
    fill(root, "a.png", "b.png", "c.png", "d.png", "sub/c.png")
    return root


def fill(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture")


def write_table(root, text, encoding="utf-8"):
    (root / "labels.csv").write_bytes(text.encode(encoding))


def refusal(*args, **kwargs):
    with pytest.raises(DatasetError) as caught:
        load_image_folder(*args, **kwargs)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, EffboostError)
    return str(caught.value)


def names_below(data, root):
    return [Path(path).relative_to(root).as_posix() for path in data.paths]


# --- a table -------------------------------------------------------------------------------


def test_table_is_loaded_with_all_columns(folder):
    write_table(folder, TABLE)
    data = load_image_folder(folder)
    files = ["a.png", "b.png", "sub/c.png", "d.png"]
    assert data.paths.tolist() == [str(folder / file) for file in files]
    assert data.paths.dtype == object
    assert data.target.tolist() == ["ALL", "HEM", "ALL", "HEM"]
    assert data.target.dtype.kind == "U"
    assert data.groups.tolist() == ["S1", "S2", "S1", "S3"]
    assert data.groups.dtype.kind == "U"
    assert data.target_names == ["ALL", "HEM"]
    assert data.n_dropped == 0
    assert {name: column.tolist() for name, column in data.table.items()} == {
        "file": files,
        "target": ["ALL", "HEM", "ALL", "HEM"],
        "group": ["S1", "S2", "S1", "S3"],
        "stain": ["dark", "", "light", "dark"],
        "note": ["first", "pale, small", 'said "round"', ""],
    }


def test_folder_may_be_str_or_relative(folder, monkeypatch):
    write_table(folder, TABLE)
    assert load_image_folder(str(folder)).paths[0] == str(folder / "a.png")
    monkeypatch.chdir(folder.parent)
    assert load_image_folder("cells").paths[0] == str(Path("cells") / "a.png")


@pytest.mark.parametrize(
    ("change", "encoding"),
    [
        (lambda text: text, "utf-8"),
        (lambda text: text, "utf-8-sig"),
        (lambda text: text.replace("\n", "\r\n"), "utf-8"),
        (lambda text: text.replace("\n", "\r\n"), "utf-8-sig"),
        (lambda text: text.replace("\n", "\r"), "utf-8"),
        (lambda text: text.rstrip("\n"), "utf-8"),
        (lambda text: text.replace("\n", "\n\n"), "utf-8"),
        (lambda text: text.replace(",", " , "), "utf-8"),
        (lambda text: text.replace(",", ";"), "utf-8"),
        (lambda text: text.replace(",", ";"), "utf-8-sig"),
        (lambda text: text.replace(",", "\t").replace("\n", "\r\n"), "utf-8"),
    ],
    ids=[
        "plain",
        "BOM",
        "CRLF",
        "BOM and CRLF",
        "CR",
        "no last line end",
        "blank lines",
        "spaces",
        "semicolons",
        "semicolons and BOM",
        "tabs and CRLF",
    ],
)
def test_csv_dialects_are_read_alike(folder, change, encoding):
    text = "file,target,patient\na.png,ALL,Zoë\nsub/c.png,HEM,S 2\n"
    write_table(folder, change(text), encoding)
    data = load_image_folder(folder)
    assert names_below(data, folder) == ["a.png", "sub/c.png"]
    assert data.target.tolist() == ["ALL", "HEM"]
    assert data.groups.tolist() == ["Zoë", "S 2"]
    assert list(data.table) == ["file", "target", "patient"]


# Without separators (Z) and controls (C): values are stripped, and lines end at some of them.
words = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8).map(
    lambda word: unicodedata.normalize("NFC", word)
)
names = words.filter(lambda word: word and word not in MISSING)


@pytest.mark.filterwarnings("ignore::effboost.exceptions.LabelWarning")
@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.tuples(names, names, words), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_tables_of_csv_writer_are_read(values, delimiter, line_end, quoting, encoding):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(["file", "target", "group", "note"])
    writer.writerows([f"{i}.png", *row] for i, row in enumerate(values))
    with tempfile.TemporaryDirectory() as root:
        fill(Path(root), *(f"{i}.png" for i in range(len(values))))
        write_table(Path(root), text.getvalue(), encoding)
        data = load_image_folder(root)
    found = zip(data.target.tolist(), data.groups.tolist(), data.table["note"], strict=True)
    assert list(found) == values


@pytest.mark.parametrize(
    ("header", "file", "target", "group"),
    [
        ("file,target,group,x,y,z", 0, 1, 2),
        ("x,y,z,group,target,file", 5, 4, 3),
        ("path,label,subject,x,y,z", 0, 1, 2),
        ("filename,class,patient,x,y,z", 0, 1, 2),
        ("image,target,x,y,z,w", 0, 1, None),
        ("image,filename,path,file,target,x", 3, 4, None),
        ("image,filename,path,target,x,y", 2, 3, None),
        ("image,filename,target,x,y,z", 1, 2, None),
        ("file,class,label,target,x,y", 0, 3, None),
        ("file,class,label,x,y,z", 0, 2, None),
        ("file,target,patient,subject,group,x", 0, 1, 4),
        ("file,target,patient,subject,x,y", 0, 1, 3),
    ],
)
def test_columns_are_chosen_by_usual_names_in_order(tmp_path, header, file, target, group):
    fill(tmp_path, *(f"{row}{column}" for row in "ab" for column in range(6)))
    rows = [",".join(f"{row}{column}" for column in range(6)) for row in "ab"]
    write_table(tmp_path, "\n".join([header, *rows]))
    data = load_image_folder(tmp_path)
    assert names_below(data, tmp_path) == [f"a{file}", f"b{file}"]
    assert data.target.tolist() == [f"a{target}", f"b{target}"]
    if group is None:
        assert data.groups is None
    else:
        assert data.groups.tolist() == [f"a{group}", f"b{group}"]


def test_columns_can_be_chosen_by_name(folder):
    write_table(folder, TABLE.replace(",,", ",none,"))
    data = load_image_folder(folder, target="stain", group="target")
    assert data.target.tolist() == ["dark", "none", "light", "dark"]
    assert data.target_names == ["dark", "light", "none"]
    assert data.groups.tolist() == ["ALL", "HEM", "ALL", "HEM"]


@pytest.mark.parametrize("place", ["{0}/elsewhere/e.png", "../f.png", "sub/../../f.png"])
def test_files_outside_of_the_folder_raise_unless_allowed(folder, tmp_path, place):
    fill(tmp_path, "elsewhere/e.png", "f.png")
    place = place.format(tmp_path)
    write_table(folder, f"file,target\na.png,ALL\n{place},HEM\n")
    message = refusal(folder)
    # Names are quoted up to a length, which those of temporary folders may exceed.
    assert message.startswith(f"line 3 of labels.csv names '{place[:20]}")
    assert "which is outside of" in message
    assert message.endswith("name files relative to the folder, or give allow_outside=True")
    data = load_image_folder(folder, allow_outside=True)
    assert data.paths.tolist() == [str(folder / "a.png"), str(folder / place)]


def test_absolute_paths_within_the_folder_are_accepted(folder):
    write_table(folder, f"file,target\n{folder / 'a.png'},ALL\nsub/../b.png,HEM\n")
    assert load_image_folder(folder).paths[0] == str(folder / "a.png")


def test_table_takes_precedence_over_class_folders(folder):
    fill(folder, "ALL/x.png", "unlisted.png")
    write_table(folder, "file,target\na.png,one\nsub/c.png,two\n")
    data = load_image_folder(folder)
    assert names_below(data, folder) == ["a.png", "sub/c.png"]


def test_rows_without_target_are_dropped_with_warning(folder):
    write_table(folder, TABLE.replace("HEM,S2", ",S2").replace("HEM,S3", "  ,S3"))
    message = "^2 of the 4 images have an empty target and are left out$"
    with pytest.warns(DroppedRowsWarning, match=message) as caught:
        data = load_image_folder(folder)
    assert len(caught) == 1
    assert Path(caught[0].filename).name == "test_folder.py"  # it points at the call
    assert data.n_dropped == 2
    assert names_below(data, folder) == ["a.png", "sub/c.png"]
    assert data.groups.tolist() == ["S1", "S1"]
    assert data.target_names == ["ALL"]
    assert data.table["note"].tolist() == ["first", 'said "round"']


def test_drop_classes_removes_rows(folder):
    write_table(folder, TABLE.replace("d.png,HEM", "d.png,other"))
    data = load_image_folder(folder, drop_classes=("ALL",))
    assert names_below(data, folder) == ["b.png", "d.png"]
    assert data.target.tolist() == ["HEM", "other"]
    assert data.target_names == ["HEM", "other"]
    assert data.groups.tolist() == ["S2", "S3"]
    assert data.n_dropped == 2
    assert {name: len(column) for name, column in data.table.items()} == dict.fromkeys(
        ("file", "target", "group", "stain", "note"), 2
    )
    assert data.table["stain"].tolist() == ["", "dark"]


def test_n_dropped_counts_empty_targets_and_dropped_classes(folder):
    write_table(folder, TABLE.replace("b.png,HEM", "b.png,"))
    with pytest.warns(DroppedRowsWarning, match="^1 of the 4 images"):
        data = load_image_folder(folder, drop_classes=iter(["HEM"]))
    assert data.n_dropped == 2
    assert data.target.tolist() == ["ALL", "ALL"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            TABLE,
            {"target": "diagnosis"},
            "labels.csv has no column 'diagnosis' for the target; its columns are file, target, "
            "group, stain, note",
        ),
        (
            TABLE,
            {"group": "slide"},
            "labels.csv has no column 'slide' for the group; its columns are file, target, "
            "group, stain, note",
        ),
        (
            "name,target\na.png,ALL\n",
            {},
            "labels.csv has no column 'file' or 'path' or 'filename' or 'image' for the file; its "
            "columns are name, target",
        ),
        (
            "file,group\na.png,S1\n",
            {},
            "labels.csv has no column 'target' or 'label' or 'class' for the target; its columns "
            "are file, group",
        ),
        (
            "File,target\na.png,ALL\n",
            {},
            "labels.csv has no column 'file' or 'path' or 'filename' or 'image' for the file; its "
            "columns are File, target",
        ),
        (
            "file,target\na.png,ALL\ne.png,ALL\nb.png,HEM\nsub/e.png,HEM\n",
            {},
            "2 of the 4 images of '{root}' are missing, the first is '{root}/e.png' (line 3 of "
            "labels.csv)",
        ),
        (
            "file,target\nsub,ALL\n",
            {},
            "1 of the 1 images of '{root}' are missing, the first is '{root}/sub' (line 2 of "
            "labels.csv)",
        ),
        (
            "file,target\nb.png,x\na.png,x\nb.png,y\nd.png,x\nd.png,x\nd.png,x\n",
            {},
            "labels.csv names 2 files more than once, such as 'd.png': keep one row for each image",
        ),
        (
            "file,target\na.png,ALL\nb.png\nd.png,HEM\n",
            {},
            "line 3 of '{root}/labels.csv' has 1 values, its header 2",
        ),
        (
            "file;target\na.png;ALL\nb.png;HEM\nc.png;HEM;pale\n",
            {},
            "line 4 of '{root}/labels.csv' has 3 values, its header 2",
        ),
        ("file,target\n", {}, "'{root}/labels.csv' has no rows below its header"),
        ("file,target\n\n\r\n", {}, "'{root}/labels.csv' has no rows below its header"),
        ("", {}, "'{root}/labels.csv' has no rows below its header"),
        (
            TABLE,
            {"drop_classes": ["HEM", "healthy", "blast"]},
            "there is no class 'blast' to drop; the classes are ALL, HEM",
        ),
        (
            TABLE.replace("b.png,HEM", "b.png,"),
            {"drop_classes": ["blast"]},
            "there is no class 'blast' to drop; the classes are ALL, HEM",
        ),
        (
            TABLE,
            {"drop_classes": ["ALL", "HEM"]},
            NO_IMAGE,
        ),
    ],
    ids=[
        "asked target",
        "asked group",
        "no file column",
        "no target column",
        "upper case column",
        "missing files",
        "a folder as file",
        "file named twice",
        "short row",
        "long row",
        "header alone",
        "header and blank lines",
        "empty",
        "unknown class",
        "unknown class and an empty target",
        "nothing left",
    ],
)
def test_invalid_table_raises(folder, text, options, message):
    write_table(folder, text)
    assert refusal(folder, **options) == message.replace("{root}", str(folder))


@pytest.mark.parametrize(
    ("encoding", "target"), [("latin-1", "Blässe"), ("cp1252", "Blässe"), ("utf-16", "ALL")]
)
def test_table_that_is_not_utf_8_raises(folder, encoding, target):
    write_table(folder, f"file,target\na.png,{target}\n", encoding)
    message = refusal(folder)
    assert message.startswith(f"{str(folder / 'labels.csv')!r} is not UTF-8 ('utf-8' codec can't")
    assert message.endswith("save it as UTF-8")


def test_pipes_and_huge_files_as_tables_are_refused(folder):
    """A pipe would wait for a writer, and a file of 10 GB of zeros would be one cell."""
    table = folder / "labels.csv"
    table.unlink(missing_ok=True)
    os.mkfifo(table)
    with pytest.raises(DatasetError, match="is not a regular file"):
        load_image_folder(folder)
    table.unlink()
    with table.open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(DatasetError, match="has 10,737,418,240 bytes; tables are read up to"):
        load_image_folder(folder)


def test_table_without_any_target_raises(folder):
    write_table(folder, "file,target\na.png,\nb.png,\n")
    assert refusal(folder) == NO_IMAGE.replace("{root}", str(folder))


# --- class folders -------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path):
    root = tmp_path / "C-NMC"
    fill(
        root,
        "hem/UID_H2_1_hem.BMP",
        "hem/fold_0/deep/UID_H10_1_hem.png",
        "all/UID_7_2_all.bmp",
        "all/UID_7_1_all.bmp",
        "all/fold_1/UID_12_1_all.TIFF",
        # not images
        "readme.txt",
        "all/Thumbs.db",
        "all/notes.csv",
        "all/png",
        "empty/notes.txt",
    )
    (root / "all" / "folder.png").mkdir()
    return root


CLASS_FILES = [
    "all/UID_7_1_all.bmp",
    "all/UID_7_2_all.bmp",
    "all/fold_1/UID_12_1_all.TIFF",
    "hem/UID_H2_1_hem.BMP",
    "hem/fold_0/deep/UID_H10_1_hem.png",
]


def test_class_folders_are_read_at_any_depth(classes):
    data = load_image_folder(classes)
    assert names_below(data, classes) == CLASS_FILES
    assert data.paths.dtype == object
    assert {type(path) for path in data.paths} == {str}
    assert data.target.tolist() == ["all", "all", "all", "hem", "hem"]
    assert data.target.dtype.kind == "U"
    assert data.target_names == ["all", "hem"]
    assert data.groups is None
    assert data.table == {}
    assert data.n_dropped == 0


@pytest.mark.parametrize(
    "suffix",
    sorted(suffix[1:] for suffix in SUFFIXES),
)
def test_suffixes_are_case_insensitive(tmp_path, suffix):
    fill(tmp_path, f"a/1.{suffix}", f"a/2.{suffix.upper()}", f"a/3.{suffix}.txt", f"a/{suffix}")
    data = load_image_folder(tmp_path)
    assert names_below(data, tmp_path) == [f"a/1.{suffix}", f"a/2.{suffix.upper()}"]


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"UID_(H?\d+)_", ["7", "7", "12", "H2", "H10"]),
        (r"^(\w+)/", ["all", "all", "all", "hem", "hem"]),
        (r"(?:UID_)(?P<subject>H?\d+)_(\d)", ["7", "7", "12", "H2", "H10"]),
        (r"([^/]+)\.\w+$", [Path(file).stem for file in CLASS_FILES]),
    ],
)
def test_subjects_are_matched_by_regular_expression(classes, pattern, groups):
    data = load_image_folder(classes, group=pattern)
    assert data.groups.tolist() == groups
    assert data.groups.dtype.kind == "U"


def test_regular_expression_is_matched_to_the_relative_path(classes):
    message = refusal(classes, group="(C-NMC)")
    assert message == "group='(C-NMC)' finds no subject in 'all/UID_7_1_all.bmp'"


def test_drop_classes_removes_class_folders(classes):
    data = load_image_folder(classes, group=r"UID_(H?\d+)_", drop_classes=["all"])
    assert names_below(data, classes) == CLASS_FILES[3:]
    assert data.groups.tolist() == ["H2", "H10"]
    assert (data.target_names, data.n_dropped) == (["hem"], 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"group": r"UID_H(\d+)_"},
            r"group='UID_H(\\d+)_' finds no subject in 'all/UID_7_1_all.bmp'",
        ),
        (
            {"group": r"UID_(H\d+)?"},
            r"group='UID_(H\\d+)?' finds no subject in 'all/UID_7_1_all.bmp'",
        ),
        ({"group": "UID_(x?)"}, "group='UID_(x?)' finds no subject in 'all/UID_7_1_all.bmp'"),
        (
            {"group": "UID"},
            "group='UID' must be a regular expression with one group in parentheses (no such "
            "group)",
        ),
        (
            {"group": "UID_(H"},
            "group='UID_(H' must be a regular expression with one group in parentheses (missing "
            "), unterminated subpattern at position 4)",
        ),
        (
            {"target": "label"},
            "target='label' names a column, but '{root}' has no labels.csv: there, the name of a "
            "folder is the target",
        ),
        (
            {"drop_classes": ["ALL"]},
            "there is no class 'ALL' to drop; the classes are all, hem",
        ),
        (
            {"drop_classes": ["empty"]},
            "there is no class 'empty' to drop; the classes are all, hem",
        ),
        ({"drop_classes": ["all", "hem"]}, NO_IMAGE),
    ],
    ids=[
        "no match",
        "no subject in the match",
        "empty subject",
        "no group",
        "no regular expression",
        "a column",
        "class in another case",
        "class without images",
        "nothing left",
    ],
)
def test_invalid_class_folders_raise(classes, options, message):
    assert refusal(classes, **options) == message.replace("{root}", str(classes))


@pytest.mark.parametrize("files", [[], ["a.png", "b.png"], ["ALL/readme.txt"]])
def test_folder_without_labelled_images_raises(tmp_path, files):
    fill(tmp_path, *files)
    assert refusal(tmp_path) == NO_IMAGE.replace("{root}", str(tmp_path))


def test_missing_folder_or_file_raises(tmp_path):
    fill(tmp_path, "labels.csv")
    missing, file = tmp_path / "missing", tmp_path / "labels.csv"
    remedy = "give the folder that holds the images"
    assert refusal(missing) == f"{str(missing)!r} does not exist; {remedy}"
    assert refusal(str(file)) == f"{str(file)!r} is a file; {remedy}"


# --- what comes of it ----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["table", "folders"])
def test_image_sequence_accepts_the_result(tmp_path, pixels, layout):
    files = [f"{'ab'[i % 2]}/S{i // 2}_{i}.png" for i in range(4)]
    for file, picture in zip(files, pixels[:4], strict=True):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / file)
    if layout == "table":
        rows = [f"{file},{file[0]},{file[2:4]}" for file in files]
        write_table(tmp_path, "\n".join(["path,class,subject", *rows]))
    data = load_image_folder(tmp_path, group=None if layout == "table" else r"(S\d)_")
    images = ImageSequence(data.paths, groups=data.groups)
    assert images.shape == data.target.shape == (4,)
    assert sorted(images.groups.tolist()) == ["S0", "S0", "S1", "S1"]
    for path, picture, target in zip(data.paths, as_images(data.paths), data.target, strict=True):
        file = Path(path).relative_to(tmp_path).as_posix()
        assert target == file[0]
        np.testing.assert_array_equal(picture, pixels[files.index(file)])


def test_unclosed_quote_raises(folder):
    (folder / "labels.csv").write_text('file,label\na.png,"ALL\nb.png,HEM\n')
    with pytest.raises(DatasetError, match=r"line 3 .*: unexpected end of data"):
        load_image_folder(folder)


def test_duplicate_columns_raise(folder):
    (folder / "labels.csv").write_text("file,label,label\na.png,ALL,HEM\n")
    with pytest.raises(DatasetError, match="two columns 'label'"):
        load_image_folder(folder)


def test_one_file_under_two_names_raises(folder):
    (folder / "labels.csv").write_text("file,label\na.png,ALL\n./a.png,HEM\n")
    with pytest.raises(DatasetError, match=r"names 1 files more than once, such as 'a.png'"):
        load_image_folder(folder)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    for name in ("A/1.png", "B/2.png", ".ipynb_checkpoints/1.png", "__MACOSX/A/1.png", "A/._1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    data = load_image_folder(tmp_path)
    assert data.target.tolist() == ["A", "B"]


# --- splits --------------------------------------------------------------------------------


def relative(data, root):
    names = names_below(data, root)
    split = [None] * len(names) if data.split is None else data.split.tolist()
    return dict(zip(names, zip(data.target.tolist(), split, strict=True), strict=True))


@pytest.mark.parametrize(
    ("splits", "files"),
    [
        (("train", "test"), ("ALL/1.png", "HEM/deep/2.png")),
        (("Train", "VALIDATION", "testing"), ("ALL/1.png", "HEM/2.png")),
        (("fold_0", "fold_1", "fold_2"), ("all/1.png", "hem/2.png")),
        (("training_data", "test_data"), ("ALL/1.png", "HEM/2.png")),
        (("train", "holdout"), ("ALL/1.png", "HEM/2.png")),
    ],
)
def test_folders_that_are_named_like_splits_are_splits(tmp_path, splits, files):
    fill(tmp_path, *(f"{split}/{file}" for split in splits for file in files))
    found = relative(load_image_folder(tmp_path), tmp_path)
    assert found == {
        f"{split}/{file}": (file.split("/")[0], split) for split in splits for file in files
    }


def test_splits_within_splits_and_within_classes(tmp_path):
    fill(tmp_path / "a", "train/fold_0/ALL/1.png", "train/fold_1/HEM/2.png", "test/ALL/3.png")
    assert relative(load_image_folder(tmp_path / "a"), tmp_path / "a") == {
        "test/ALL/3.png": ("ALL", "test"),
        "train/fold_0/ALL/1.png": ("ALL", "train/fold_0"),
        "train/fold_1/HEM/2.png": ("HEM", "train/fold_1"),
    }
    fill(tmp_path / "b", "ALL/train/1.png", "ALL/test/2.png", "HEM/train/deep/3.png", "HEM/4.png")
    assert relative(load_image_folder(tmp_path / "b"), tmp_path / "b") == {
        "ALL/test/2.png": ("ALL", "test"),
        "ALL/train/1.png": ("ALL", "train"),
        "HEM/4.png": ("HEM", ""),
        "HEM/train/deep/3.png": ("HEM", "train"),
    }


def test_each_split_may_have_a_table(tmp_path):
    fill(tmp_path, "train/1.png", "train/2.png", "test/sub/3.png")
    write_table(tmp_path / "train", "file,label,patient\n1.png,ALL,P1\n2.png,HEM,P2\n")
    write_table(tmp_path / "test", "image,label,patient,stain\nsub/3.png,ALL,P3,dark\n")
    data = load_image_folder(tmp_path)
    assert relative(data, tmp_path) == {
        "test/sub/3.png": ("ALL", "test"),
        "train/1.png": ("ALL", "train"),
        "train/2.png": ("HEM", "train"),
    }
    assert data.groups.tolist() == ["P3", "P1", "P2"]
    assert data.table["stain"].tolist() == ["dark", "", ""]


def test_split_column_of_a_table_is_read(folder):
    write_table(folder, TABLE.replace("stain", "fold").replace("S2,,", "S2,bright,"))
    assert load_image_folder(folder).split.tolist() == ["dark", "bright", "light", "dark"]
    assert load_image_folder(folder, split="group").split.tolist() == ["S1", "S2", "S1", "S3"]
    assert "no column 'part' for the split" in refusal(folder, split="part")


def test_parts_keeps_some_splits(tmp_path):
    fill(tmp_path, "train/ALL/1.png", "train/HEM/2.png", "test/ALL/3.png", "val/other/4.png")
    data = load_image_folder(tmp_path, parts=["train"], drop_classes=["HEM"])
    assert relative(data, tmp_path) == {"train/ALL/1.png": ("ALL", "train")}
    assert load_image_folder(tmp_path, parts="test").target.tolist() == ["ALL"]
    message = refusal(tmp_path, parts=["dev"])
    assert message == f"{str(tmp_path)!r} has no split 'dev'; its splits are test, train, val"
    message = refusal(tmp_path, parts=["train"], drop_classes=["other"])
    assert message == "there is no class 'other' to drop; the classes are ALL, HEM"
    assert "has no split 'x'; its splits are not known" in refusal(tmp_path / "train", parts=["x"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["train/ALL/1.png", "ALL/2.png", "HEM/3.png"],
            "'{root}' has folders that are named like splits (train) beside others (ALL, HEM): "
            "move the class folders into those of the splits, rename those that are classes, or "
            "add a labels.csv",
        ),
        (
            ["train/1.png", "test/2.png"],
            "the folders 'test', 'train' in '{root}' are named like splits, but have neither class "
            "folders nor a labels.csv in them: add them, or rename the folders if they are classes",
        ),
        (
            ["training_data/fold_0/all/1.bmp", "validation_data/C-NMC_test/1.bmp"],
            "{root}/training_data/fold_0/all/1.bmp: '1.bmp' is not a file name of C-NMC, such as "
            "'UID_H12_3_1_hem.bmp'",
        ),
    ],
    ids=["splits beside classes", "no class folders", "C-NMC"],
)
def test_ambiguous_layouts_raise(tmp_path, files, message):
    fill(tmp_path, *files)
    assert refusal(tmp_path) == message.replace("{root}", str(tmp_path))


def test_folders_without_images_are_not_classes_beside_splits(tmp_path):
    fill(tmp_path, "train/ALL/1.png", "test/ALL/2.png", "docs/readme.txt", ".git/x.png")
    assert set(load_image_folder(tmp_path).split) == {"train", "test"}


def test_images_outside_of_class_folders_are_counted(tmp_path):
    fill(tmp_path, "ALL/1.png", "HEM/2.png", "3.png", "4.png")
    with pytest.warns(DroppedRowsWarning, match=r"^2 of the 4 images are not in a class folder"):
        data = load_image_folder(tmp_path, group=r"/(\d)")
    assert (data.groups.tolist(), data.n_dropped) == (["1", "2"], 2)


# --- links ---------------------------------------------------------------------------------


def test_linked_folders_and_files_are_followed(tmp_path):
    fill(tmp_path / "far", "HEM/deep/2.png", "3.png")
    fill(tmp_path / "data", "ALL/1.png")
    (tmp_path / "data" / "HEM").symlink_to(tmp_path / "far" / "HEM")
    (tmp_path / "data" / "ALL" / "link.png").symlink_to(tmp_path / "far" / "3.png")
    data = load_image_folder(tmp_path / "data")
    assert names_below(data, tmp_path / "data") == ["ALL/1.png", "ALL/link.png", "HEM/deep/2.png"]
    assert data.target.tolist() == ["ALL", "ALL", "HEM"]


def test_two_links_to_one_folder_are_two_classes(tmp_path):
    fill(tmp_path, "far/1.png", "data/readme.txt")
    for name in ("A", "B"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "far")
    assert load_image_folder(tmp_path / "data").target.tolist() == ["A", "B"]


def test_loops_of_links_end(tmp_path):
    fill(tmp_path, "ALL/1.png", "HEM/2.png")
    (tmp_path / "ALL" / "up").symlink_to(tmp_path)
    (tmp_path / "HEM" / "self").symlink_to(tmp_path / "HEM")
    (tmp_path / "HEM" / "other").symlink_to(tmp_path / "ALL")
    data = load_image_folder(tmp_path)
    assert names_below(data, tmp_path) == ["ALL/1.png", "HEM/2.png", "HEM/other/1.png"]


def test_exponential_links_raise_quickly(tmp_path):
    fill(tmp_path, "ALL/1.png", *(f"far/{i}/x.txt" for i in range(40)))
    for i in range(39):
        for name in ("a", "b"):
            (tmp_path / "far" / str(i) / name).symlink_to(tmp_path / "far" / str(i + 1))
    (tmp_path / "HEM").symlink_to(tmp_path / "far" / "0")
    start = time.perf_counter()
    assert "more than 100 links lead to" in refusal(tmp_path)
    assert time.perf_counter() - start < 5


def test_broken_links_raise(tmp_path):
    fill(tmp_path, "ALL/1.png", "HEM/2.png")
    (tmp_path / "HEM" / "3.png").symlink_to(tmp_path / "gone.png")
    message = refusal(tmp_path)
    assert message == (
        f"1 of the 3 images of {str(tmp_path)!r} are missing, the first is "
        f"{str(tmp_path / 'HEM' / '3.png')!r}"
    )
    (tmp_path / "HEM" / "3.png").unlink()
    (tmp_path / "other").symlink_to(tmp_path / "gone")
    message = refusal(tmp_path)
    assert message == (
        f"the link {str(tmp_path / 'other')!r} leads to {str(tmp_path / 'gone')!r}, which does not "
        "exist: correct or remove it"
    )


def test_unreadable_folders_raise(tmp_path, monkeypatch):
    """os.walk and rglob pass over them."""
    fill(tmp_path, "ALL/1.png", "HEM/2.png")
    scandir = os.scandir

    def refuse(place):
        if Path(place).name == "HEM":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "cannot be read: [Errno 13] Permission denied" in refusal(tmp_path)


# --- other formats -------------------------------------------------------------------------


def test_every_suffix_that_pillow_knows_for_the_formats_is_found():
    formats = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in formats}
    assert known == SUFFIXES


def test_images_of_other_formats_warn_with_counts(tmp_path):
    fill(tmp_path, "A/1.png", "A/2.czi", "B/3.CZI", "B/4.jp2", "B/5.png", "B/Thumbs.db", "A/n.csv")
    message = r"^3 files in '.*' are left out, .* their formats: 2 \.czi, 1 \.jp2$"
    with pytest.warns(DroppedRowsWarning, match=message) as caught:
        data = load_image_folder(tmp_path)
    assert (data.n_skipped, len(caught), len(data.paths)) == (3, 1, 2)
    assert Path(caught[0].filename).name == "test_folder.py"
    with pytest.warns(DroppedRowsWarning, match=message):
        assert len(list_images(tmp_path)) == 2


# --- tables from other programs ------------------------------------------------------------


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "N/A", "#N/A", "NULL", "None", "<NA>", "NaT"])
def test_texts_of_missing_values_raise_with_line(folder, text):
    write_table(folder, f"file,target,group\na.png,ALL,S1\nb.png,{text},S2\n")
    message = refusal(folder)
    assert message == (
        f"line 3 of labels.csv: its target is {text!r}, which represents a missing value: leave "
        "the cell empty, or use another name"
    )
    write_table(folder, f"file,target,group\na.png,ALL,S1\n\nb.png,HEM,{text}\n")
    assert refusal(folder).startswith(f"line 4 of labels.csv: its subject is {text!r}")


def test_missing_subject_raises_with_line(folder):
    write_table(folder, "file,target,group\na.png,ALL,S1\nb.png,HEM,\nd.png,,\n")
    with pytest.warns(DroppedRowsWarning):
        message = refusal(folder)
    assert message == (
        f"1 of the 2 images have no subject, the first is {str(folder / 'b.png')!r} (line 3 of "
        "labels.csv): name their subjects, or leave them out"
    )
    write_table(folder, "file,target,group\na.png,ALL,\nb.png,HEM,\n")
    assert load_image_folder(folder).groups is None


def test_backslashes_separate_folders(folder):
    write_table(folder, "file,target\nsub\\c.png,ALL\n.\\a.png,HEM\n")
    assert names_below(load_image_folder(folder), folder) == ["sub/c.png", "a.png"]
    write_table(folder, "file,target\nsub\\..\\..\\f.png,ALL\n")
    assert "is outside of" in refusal(folder)


@pytest.mark.parametrize(("stored", "written"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_files_are_found_in_both_unicode_forms(tmp_path, stored, written):
    name = "Zoë/Blässe é.png"
    fill(tmp_path, unicodedata.normalize(stored, name), "b.png")
    spelled = unicodedata.normalize(written, name)
    write_table(tmp_path, f"file,target\n{spelled},ALL\nb.png,HEM\n")
    paths = load_image_folder(tmp_path).paths
    assert Path(paths[0]).is_file()


def test_unicode_forms_of_a_class_are_one_class(tmp_path):
    forms = [unicodedata.normalize(form, "Blässe") for form in ("NFC", "NFD")]
    fill(tmp_path / "table", "a.png", "b.png")
    write_table(tmp_path / "table", f"file,target\na.png,{forms[0]}\nb.png,{forms[1]}\n")
    fill(tmp_path / "folders", *(f"{form}/a.png" for form in forms))
    for root in ("table", "folders"):
        assert load_image_folder(tmp_path / root).target_names == [forms[0]]


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_sep_line_sets_the_delimiter(folder, delimiter):
    text = f"sep={delimiter}\nfile,target\na.png,ALL\nb.png,HEM\n".replace(",", delimiter)
    write_table(folder, text, "utf-8-sig")
    assert load_image_folder(folder).target.tolist() == ["ALL", "HEM"]
    write_table(folder, f"sep={delimiter}\r\nfile{delimiter}target\r\na.png\r\n")
    assert refusal(folder).startswith("line 3 of")


def test_empty_rows_and_columns_of_spreadsheets_are_left_out(folder):
    write_table(folder, "file,target,,\na.png,ALL,,\nb.png,HEM,,,\n,,,\n,,,\n")
    data = load_image_folder(folder)
    assert data.target.tolist() == ["ALL", "HEM"]
    assert list(data.table) == ["file", "target"]
    write_table(folder, "file,target,,\na.png,ALL,,left over\n")
    assert refusal(folder) == f"line 2 of {str(folder / 'labels.csv')!r} has 4 values, its header 2"
    write_table(folder, "file,,target\na.png,left over,ALL\n")
    assert "line 2" in (message := refusal(folder))
    assert "has the value 'left over' in a column without a name" in message


@pytest.mark.parametrize("twin", [" target", "target ", "target"])
def test_columns_that_differ_only_in_spaces_raise(folder, twin):
    write_table(folder, f'file,target,"{twin}"\na.png,ALL,HEM\n')
    assert "has two columns 'target', which differ at most in spaces and Unicode form" in refusal(
        folder
    )
    forms = [unicodedata.normalize(form, "größe") for form in ("NFC", "NFD")]
    write_table(folder, f"file,target,{','.join(forms)}\na.png,ALL,1,2\n")
    assert "has two columns 'größe'" in refusal(folder)


# --- hostile tables ------------------------------------------------------------------------


def test_long_cell_does_not_enlarge_other_cells(folder):
    fill(folder, *(f"{i}.png" for i in range(2000)))
    rows = [f"{i}.png,{'AB'[i % 2]},S{i}," for i in range(2000)]
    write_table(folder, "\n".join(["file,target,group,note", *rows]) + "x" * 130_000)
    data = load_image_folder(folder)
    assert len(data.table["note"][-1]) == 130_000
    assert data.table["note"].dtype == object
    assert data.target.nbytes + data.groups.nbytes < 10**6


@pytest.mark.parametrize("column", ["target", "group"])
def test_long_names_of_classes_and_subjects_raise(folder, column):
    rows = {"target": f"{'x' * 1001},S1", "group": f"ALL,{'x' * 1001}"}
    write_table(folder, f"file,target,group\na.png,{rows[column]}\n")
    assert "has 1,001 characters; 1,000 are accepted" in refusal(folder)


def test_a_hundred_thousand_columns_are_read_in_seconds(folder):
    names = [f"c{i}" for i in range(100_000)]
    start = time.perf_counter()
    write_table(folder, f"file,target,{','.join(names)}\na.png,ALL,{',' * 99_999}\n")
    assert len(load_image_folder(folder).table) == 100_002
    message = refusal(folder, group="no such")
    assert time.perf_counter() - start < 30
    assert len(message) < 500


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "a\0b.png", ""])
def test_invalid_file_names_raise(folder, name):
    write_table(folder, f'file,target\n"{name}",ALL\n')
    message = refusal(folder)
    assert "missing" in message or "names no file" in message or "NUL" in message


# --- what is handed on ---------------------------------------------------------------------


def test_images_carry_groups_and_white_level(tmp_path):
    rng = np.random.default_rng(0)
    twelve = rng.integers(0, 4096, (3, 9, 9), dtype=np.uint16)
    (tmp_path / "ALL").mkdir()
    for i, picture in enumerate(twelve):
        Image.fromarray(picture).save(tmp_path / "ALL" / f"P{i}.png")
    data = load_image_folder(tmp_path, group=r"(P\d)", white_level=4095)
    assert data.images.groups.tolist() == data.groups.tolist() == ["P0", "P1", "P2"]
    np.testing.assert_array_equal(data.images[1][..., 0], np.rint(twelve[1] * (255 / 4095)))


@pytest.mark.parametrize("names", [("ALL", "all"), ("Pro B", "Pro  B")])
def test_similar_classes_warn(tmp_path, names):
    fill(tmp_path, *(f"{name}/1.png" for name in names))
    with pytest.warns(LabelWarning, match="the classes .* differ only in case, spaces or Unicode"):
        assert load_image_folder(tmp_path).target_names == sorted(names)


def test_similar_subjects_warn(folder):
    write_table(folder, "file,target,group\na.png,ALL,H3\nb.png,HEM,h3\n")
    with pytest.warns(LabelWarning, match="the subjects 'H3' and 'h3' differ only in case"):
        load_image_folder(folder)


def save_cell(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(file)


def test_a_column_that_is_asked_for_divides_the_folder_of_a_split(tmp_path):
    for part in ("train", "test"):
        for i in range(2):
            save_cell(tmp_path / part / f"{i}.png")
        table = tmp_path / part / "labels.csv"
        table.write_text("file,label,split\n0.png,A,x\n1.png,B,y\n")
    found = load_image_folder(tmp_path, split="split").split.tolist()
    assert found == ["test/x", "test/y", "train/x", "train/y"]
    assert set(load_image_folder(tmp_path).split) == {"test", "train"}


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_other_data_may_have_folds_named_like_those_of_c_nmc(tmp_path, suffix):
    for i in range(5):
        for label in "AB":
            save_cell(tmp_path / f"training_data/fold_{i}/{label}/{i}.{suffix}")
    data = load_image_folder(tmp_path)
    assert data.target.tolist() == list("AB") * 5
    assert data.split.tolist() == [f"training_data/fold_{i // 2}" for i in range(10)]
