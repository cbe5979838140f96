import csv
import json
import shutil

import pytest
from PIL import Image

from effboost.cli import main
from effboost.datasets import make_blood_cells


@pytest.fixture
def cells(tmp_path):
    """Three splits of two classes, whose subjects are in the names of the files."""
    made = make_blood_cells(n_subjects=6, images_per_subject=4, image_size=64, random_state=0)
    for i, (picture, label, subject) in enumerate(
        zip(made.images, made.target, made.groups, strict=True)
    ):
        part = ("train", "train", "test")[int(subject[1:]) // 2]
        folder = tmp_path / "data" / part / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{subject}_{i:02d}.png")
    return tmp_path / "data"


def check(folder, *more):
    return main(["check", str(folder), "--group", r"(S\d+)_", "--quiet", *more])


def test_clean_data_exits_with_0(cells, capsys):
    assert check(cells) == 0
    printed = capsys.readouterr()
    assert "24 images of 6 subjects" in printed.out
    assert "no faults found" in printed.out
    assert printed.err == ""


def test_findings_exit_with_1_in_all_formats(cells, capsys):
    first, second = sorted(cells.glob("train/ALL/*"))[:2]
    shutil.copy(first, cells / "test" / "ALL" / first.name)
    second.write_bytes(b"")
    assert check(cells) == 1
    text = capsys.readouterr().out
    assert "subjects in more than one split: 1" in text
    assert "images in more than one split: 1" in text
    assert "unreadable images: 1" in text
    assert check(cells, "--format", "csv") == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {row["kind"] for row in rows} == {
        "leaking_subject",
        "leaking_image",
        "unreadable",
        "duplicate",
    }
    assert any(row["image"] == str(second) for row in rows)
    assert check(cells, "--format", "json") == 1
    data = json.loads(capsys.readouterr().out)
    assert data["splits"].keys() == {"train", "test"}
    assert data["counts"]["leaking_image"] == 1


def test_several_folders_are_the_splits(cells, capsys):
    folders = [str(cells / "train"), str(cells / "test")]
    assert main(["check", *folders, "--group", r"(S\d+)_", "--format", "json", "--quiet"]) == 0
    assert list(json.loads(capsys.readouterr().out)["splits"]) == sorted(folders)


def test_max_distance_none_ignores_rotated_copies(cells):
    picture = next(cells.glob("train/ALL/*"))
    Image.open(picture).transpose(Image.Transpose.ROTATE_90).save(picture.with_name("S0_x.png"))
    assert check(cells) == 1
    assert check(cells, "--max-distance", "none") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "part"], "--split 'part' names a column"),
        (["--target", "colour"], "--target 'colour' names a column"),
    ],
)
def test_an_error_is_one_line(cells, capsys, arguments, message):
    assert check(cells, *arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("value", ["near", "-1", "nan"])
def test_invalid_distance_exits_with_2(cells, value, capsys):
    with pytest.raises(SystemExit) as stop:
        check(cells, "--max-distance", value)
    assert stop.value.code == 2
    assert "neither none nor a number" in capsys.readouterr().err


def test_progress_goes_to_stderr(cells, capsys):
    assert main(["check", str(cells), "--format", "json"]) == 0
    printed = capsys.readouterr()
    json.loads(printed.out)
    assert "24/24" in printed.err


@pytest.fixture
def one_wrong(tmp_path):
    """Class folders of eight subjects; one cell of the first is in the wrong folder."""
    made = make_blood_cells(n_subjects=8, images_per_subject=6, image_size=40, random_state=0)
    for i, (picture, label, subject) in enumerate(
        zip(made.images, made.target, made.groups, strict=True)
    ):
        folder = tmp_path / "cells" / ("HEM" if i == 3 else label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{subject}_{i:02d}.png")
    return tmp_path / "cells"


@pytest.mark.slow
def test_wrong_label_is_found_by_models_of_other_subjects(one_wrong, capsys):
    network = "--backbone shufflenet_v2_x0_5 --weights none --image-size 32 --folds 2"
    assert check(one_wrong, "--labels", "--format", "json", *network.split()) == 1
    found = json.loads(capsys.readouterr().out)
    wrong = [finding for finding in found["findings"] if finding["kind"] == "wrong_label"]
    assert [finding["images"] for finding in wrong] == [[str(one_wrong / "HEM" / "S000_03.png")]]
    assert "labelled HEM, probably ALL (label quality 0." in wrong[0]["detail"]


def test_options_of_labels_are_checked_before_the_work(one_wrong, capsys):
    assert check(one_wrong, "--backbone", "resnet18") == 1
    assert "--backbone is for --labels" in capsys.readouterr().err
    assert main(["check", str(one_wrong), str(one_wrong), "--labels"]) == 1
    assert "--labels takes one folder; got 2" in capsys.readouterr().err
