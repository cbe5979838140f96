import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effboost import ImageSequence
from effboost._images import as_images
from effboost.datasets import load_image_folder
from effboost.exceptions import DatasetError, DroppedRowsWarning, EffboostError

TABLE = """\
file,target,group,stain,note
a.png,ALL,S1,dark,first
b.png,HEM,S2,,"pale, small"
sub/c.png,ALL,S1,light,"said ""round\"""
d.png,HEM,S3,dark,
"""


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


def test_a_table_gives_files_targets_groups_and_all_its_columns(folder):
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


def test_the_folder_may_be_given_as_str_or_relative(folder, monkeypatch):
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
def test_a_table_of_any_common_make_says_the_same(folder, change, encoding):
    text = "file,target,patient\na.png,ALL,Zoë\nsub/c.png,HEM,S 2\n"
    write_table(folder, change(text), encoding)
    data = load_image_folder(folder)
    assert names_below(data, folder) == ["a.png", "sub/c.png"]
    assert data.target.tolist() == ["ALL", "HEM"]
    assert data.groups.tolist() == ["Zoë", "S 2"]
    assert list(data.table) == ["file", "target", "patient"]


# Without separators (Z) and controls (C): values are stripped, and lines end at some of them.
words = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.tuples(words.filter(bool), words, words), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_what_a_csv_writer_wrote_is_read_back(values, delimiter, line_end, quoting, encoding):
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
def test_columns_are_known_by_their_usual_names_in_order(tmp_path, header, file, target, group):
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


def test_columns_can_be_asked_for_by_name(folder):
    write_table(folder, TABLE.replace(",,", ",none,"))
    data = load_image_folder(folder, target="stain", group="target")
    assert data.target.tolist() == ["dark", "none", "light", "dark"]
    assert data.target_names == ["dark", "light", "none"]
    assert data.groups.tolist() == ["ALL", "HEM", "ALL", "HEM"]


def test_a_path_that_is_absolute_is_taken_as_it_is(folder, tmp_path):
    outside = tmp_path / "elsewhere" / "e.png"
    fill(tmp_path, "elsewhere/e.png", "f.png")
    write_table(folder, f"file,target\n{outside},ALL\n../f.png,HEM\n")
    data = load_image_folder(folder)
    assert data.paths.tolist() == [str(outside), str(folder / "../f.png")]


def test_a_table_takes_precedence_over_class_folders_and_lists_all_there_is(folder):
    fill(folder, "ALL/x.png", "unlisted.png")
    write_table(folder, "file,target\na.png,one\nsub/c.png,two\n")
    data = load_image_folder(folder)
    assert names_below(data, folder) == ["a.png", "sub/c.png"]


def test_rows_without_a_target_are_dropped_counted_and_warned_about(folder):
    write_table(folder, TABLE.replace("HEM,S2", ",S2").replace("HEM,S3", "  ,S3"))
    message = "^2 of the 4 rows have an empty target and are left out$"
    with pytest.warns(DroppedRowsWarning, match=message) as caught:
        data = load_image_folder(folder)
    assert len(caught) == 1
    assert Path(caught[0].filename).name == "test_folder.py"  # it points at the call
    assert data.n_dropped == 2
    assert names_below(data, folder) == ["a.png", "sub/c.png"]
    assert data.groups.tolist() == ["S1", "S1"]
    assert data.target_names == ["ALL"]
    assert data.table["note"].tolist() == ["first", 'said "round"']


def test_classes_can_be_dropped_with_their_rows(folder):
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


def test_empty_targets_and_dropped_classes_are_counted_together(folder):
    write_table(folder, TABLE.replace("b.png,HEM", "b.png,"))
    with pytest.warns(DroppedRowsWarning, match="^1 of the 4 rows"):
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
            "2 of the 4 files in labels.csv are missing, the first '{root}/e.png' (line 3)",
        ),
        (
            "file,target\nsub,ALL\n",
            {},
            "1 of the 1 files in labels.csv are missing, the first '{root}/sub' (line 2)",
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
        ("file,target\n", {}, "'{root}/labels.csv' holds no rows below its header"),
        ("file,target\n\n\r\n", {}, "'{root}/labels.csv' holds no rows below its header"),
        ("", {}, "'{root}/labels.csv' holds no rows below its header"),
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
            "'{root}' holds no labelled image: it needs a labels.csv, or a sub-folder of images "
            "(.bmp, .gif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp) for each class",
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
def test_what_a_table_lacks_is_said(folder, text, options, message):
    write_table(folder, text)
    assert refusal(folder, **options) == message.replace("{root}", str(folder))


@pytest.mark.parametrize(
    ("encoding", "target"), [("latin-1", "Blässe"), ("cp1252", "Blässe"), ("utf-16", "ALL")]
)
def test_a_table_that_is_not_utf_8_is_refused(folder, encoding, target):
    write_table(folder, f"file,target\na.png,{target}\n", encoding)
    message = refusal(folder)
    assert message.startswith(f"{str(folder / 'labels.csv')!r} is not UTF-8 ('utf-8' codec can't")
    assert message.endswith("save it as UTF-8")


def test_a_table_without_any_target_warns_and_is_refused(folder):
    write_table(folder, "file,target\na.png,\nb.png,\n")
    with pytest.warns(DroppedRowsWarning, match="^2 of the 2 rows"):
        message = refusal(folder)
    assert "holds no labelled image" in message


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
        # what is no image of a class
        "stray.png",
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


def test_each_folder_is_a_class_and_holds_its_images_at_any_depth(classes):
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
    "suffix", ["bmp", "gif", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp"]
)
def test_images_are_known_by_their_suffix_in_any_case(tmp_path, suffix):
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
def test_subjects_are_found_in_the_path_by_a_regular_expression(classes, pattern, groups):
    data = load_image_folder(classes, group=pattern)
    assert data.groups.tolist() == groups
    assert data.groups.dtype.kind == "U"


def test_a_regular_expression_sees_only_the_path_below_the_folder(classes):
    message = refusal(classes, group="(C-NMC)")
    assert message == "group='(C-NMC)' finds no subject in 'all/UID_7_1_all.bmp'"


def test_a_class_folder_can_be_dropped_and_its_subjects_with_it(classes):
    data = load_image_folder(classes, group=r"UID_(H?\d+)_", drop_classes=["all"])
    assert names_below(data, classes) == CLASS_FILES[3:]
    assert data.groups.tolist() == ["H2", "H10"]
    assert (data.target_names, data.n_dropped) == (["hem"], 3)


NO_IMAGE = (
    "'{root}' holds no labelled image: it needs a labels.csv, or a sub-folder of images (.bmp, "
    ".gif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp) for each class"
)


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
            "target='label' names a column, but '{root}' holds no labels.csv: in class folders "
            "the folder's name is the target",
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
def test_what_class_folders_lack_is_said(classes, options, message):
    assert refusal(classes, **options) == message.replace("{root}", str(classes))


@pytest.mark.parametrize("files", [[], ["a.png", "b.png"], ["ALL/readme.txt"]])
def test_a_folder_without_labelled_images_is_refused(tmp_path, files):
    fill(tmp_path, *files)
    assert refusal(tmp_path) == NO_IMAGE.replace("{root}", str(tmp_path))


def test_a_folder_that_does_not_exist_or_is_a_file_is_refused(tmp_path):
    fill(tmp_path, "labels.csv")
    missing, file = tmp_path / "missing", tmp_path / "labels.csv"
    remedy = "give the folder that holds the images"
    assert refusal(missing) == f"{str(missing)!r} does not exist; {remedy}"
    assert refusal(str(file)) == f"{str(file)!r} is a file; {remedy}"


# --- what comes of it ----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["table", "folders"])
def test_the_result_is_what_the_image_sequence_takes(tmp_path, pixels, layout):
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


def test_an_unclosed_quote_swallows_no_rows(folder):
    (folder / "labels.csv").write_text('file,label\na.png,"ALL\nb.png,HEM\n')
    with pytest.raises(DatasetError, match=r"line 3 .*: unexpected end of data"):
        load_image_folder(folder)


def test_two_columns_of_one_name_are_refused(folder):
    (folder / "labels.csv").write_text("file,label,label\na.png,ALL,HEM\n")
    with pytest.raises(DatasetError, match="two columns 'label'"):
        load_image_folder(folder)


def test_one_file_under_two_names_is_one_image(folder):
    (folder / "labels.csv").write_text("file,label\na.png,ALL\n./a.png,HEM\n")
    with pytest.raises(DatasetError, match=r"names 1 files more than once, such as 'a.png'"):
        load_image_folder(folder)


def test_hidden_folders_and_files_hold_no_class(tmp_path):
    for name in ("A/1.png", "B/2.png", ".ipynb_checkpoints/1.png", "__MACOSX/A/1.png", "A/._1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    data = load_image_folder(tmp_path)
    assert data.target.tolist() == ["A", "B"]
