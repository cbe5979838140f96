import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

import effboost
from effboost.cli import main
from effboost.datasets import list_images
from effboost.inspection._neighbours_display import draw_decision


def explain(model_file, *arguments):
    return main(["explain", str(model_file), *map(str, arguments), "--quiet"])


def test_each_image_has_a_heat_map(model_file, new_cells, tmp_path, capsys):
    out = tmp_path / "new" / "maps"
    for image in list_images(new_cells / "slide1")[3:]:
        Path(image).unlink()
    assert explain(model_file, new_cells / "slide1", "--out", out) == 0
    names = sorted(file.name for file in out.iterdir())
    assert names == ["cell_01.png", "cell_03.png", "cell_05.png"]
    with Image.open(out / names[0]) as picture:
        assert picture.width > 500
        assert np.asarray(picture.convert("RGB")).std() > 10
    assert capsys.readouterr().out == f"3 heat maps written to {out}\n"


@pytest.mark.slow
def test_heat_maps_do_not_depend_on_other_images(model_file, new_cells, tmp_path):
    first, second, *_ = list_images(new_cells)
    assert explain(model_file, first, second, "--out", tmp_path / "two") == 0
    assert explain(model_file, second, "--out", tmp_path / "one") == 0
    name = second.rpartition("/")[2]
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_broken_image_is_reported_and_others_are_explained(model_file, new_cells, tmp_path, capsys):
    first, second, third, *_ = list_images(new_cells)
    os.truncate(second, 80)
    assert explain(model_file, first, second, third, "--out", tmp_path / "maps") == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"effboost: error: {second!r}: is damaged")
    assert printed.out.startswith("2 heat maps")
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_images_of_one_name_have_separate_heat_maps(model_file, new_cells, tmp_path):
    first, second, *_ = list_images(new_cells)
    other = new_cells / "slide1" / first.rpartition("/")[2]
    Path(second).rename(other)
    assert explain(model_file, first, other, "--out", tmp_path / "maps") == 0
    stem = other.stem
    assert {file.name for file in (tmp_path / "maps").iterdir()} == {f"{stem}.png", f"{stem}_2.png"}


@pytest.mark.parametrize("method", ["exact", "occlusion"])
def test_two_classes_have_separate_heat_maps(model_file, new_cells, tmp_path, method, capsys):
    image, options = list_images(new_cells)[0], ("--method", method)
    for label in ("ALL", "HEM"):
        chosen = ("--class", label, *options)
        assert explain(model_file, image, "--out", tmp_path / label, *chosen) == 0
    assert explain(model_file, image, "--out", tmp_path / "predicted", *options) == 0
    first, second, predicted = (
        (tmp_path / name / Path(image).name).read_bytes() for name in ("ALL", "HEM", "predicted")
    )
    assert first != second
    (label,) = effboost.load(model_file).predict([image])
    assert predicted == {"ALL": first, "HEM": second}[label]
    assert explain(model_file, image, "--out", tmp_path / "x", "--class", "MONO") == 1
    assert (
        "--class 'MONO' is not a class of the model; its classes are ALL, HEM"
        in capsys.readouterr().err
    )


def test_heads_without_a_sum_are_explained_by_occlusion(fitted, new_cells, tmp_path, capsys):
    clf = effboost.presets.frozen(
        "shufflenet_v2_x0_5", weights=None, image_size=32, runtime="torch", random_state=0
    ).set_params(classifier=RandomForestClassifier(5))
    images = list_images(new_cells)
    path = effboost.save(clf.fit(images, ["ALL", "HEM"] * 10), tmp_path / "forest.effboost")
    assert explain(path, images[0], "--out", tmp_path / "maps") == 0
    assert len(list((tmp_path / "maps").iterdir())) == 1
    assert explain(path, images[0], "--out", tmp_path / "maps", "--force", "--method", "exact") == 1
    assert "the head is RandomForestClassifier" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file"])
def test_output_that_is_a_file_raises(tmp_path, place, capsys):
    (tmp_path / place).write_text("mine")
    assert explain("no.effboost", "a.png", "--out", tmp_path / place) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.fixture
def training(new_cells):
    """The folder of cells with a table of labels and subjects."""
    files = list_images(new_cells)
    rows = [
        f"{os.path.relpath(file, new_cells)},{'ALL' if i % 2 else 'HEM'},S{i % 4}"
        for i, file in enumerate(files)
    ]
    (new_cells / "labels.csv").write_text("\n".join(["file,label,subject", *rows]))
    return new_cells


def test_nearest_training_images_are_drawn_below(model_file, training, tmp_path, monkeypatch):
    drawn = []

    def keep(figure, heat, near, **options):
        drawn.append(near.neighbours)
        return draw_decision(figure, heat, near, **options)

    monkeypatch.setattr("effboost.inspection._neighbours_display.draw_decision", keep)
    image = list_images(training)[0]
    other = tmp_path / "other.png"
    other.write_bytes(Path(image).read_bytes())
    assert explain(model_file, image, "--out", tmp_path / "alone") == 0
    chosen = ("--out", tmp_path / "both", "--train", training)
    assert explain(model_file, image, other, *chosen) == 0
    name = Path(image).name
    with (
        Image.open(tmp_path / "alone" / name) as alone,
        Image.open(tmp_path / "both" / name) as both,
    ):
        assert both.height > 1.5 * alone.height
        assert both.width == alone.width
    own, same_pixels = drawn
    subjects = [file for i, file in enumerate(list_images(training)) if i % 4 == 0]
    assert image in subjects
    # A training image is not compared with its own subject; what is not known to be one, is.
    assert not set(own.names.ravel()) & set(subjects)
    assert image in same_pixels.names
    assert same_pixels.distances.min() < 1e-6


def test_folder_of_training_images_is_checked(model_file, training, tmp_path, capsys):
    image = list_images(training)[0]
    chosen = (image, "--out", tmp_path / "maps", "--force")
    assert explain(model_file, *chosen, "--target", "label", "--drop-class", "HEM") == 1
    assert "--target and --drop-class describe the folder of --train" in capsys.readouterr().err
    table = (training / "labels.csv").read_text().splitlines()
    parts = ["split", *(["train", "test"] * 10)]
    rows = [f"{row},{part}" for row, part in zip(table, parts, strict=True)]
    (training / "labels.csv").write_text("\n".join(rows))
    assert explain(model_file, *chosen, "--train", training) == 1
    assert "has the splits test, train: select those" in capsys.readouterr().err
    assert explain(model_file, *chosen, "--train", training, "--part", "train") == 0
    (training / "labels.csv").write_text("\n".join(rows).replace("HEM", "MONO"))
    assert explain(model_file, *chosen, "--train", training, "--part", "train") == 1
    assert "y_train has the classes ['MONO']" in capsys.readouterr().err


def test_images_and_former_maps_are_not_overwritten(model_file, new_cells, tmp_path, capsys):
    image = next(iter(sorted((new_cells / "slide1").glob("*.png"))))
    before = image.read_bytes()
    for force in ((), ("--force",)):
        assert explain(model_file, image, "--out", image.parent, *force) == 1
        assert f"{str(image)!r} is one of the images" in capsys.readouterr().err
    out = tmp_path / "maps"
    assert explain(model_file, image, "--out", out) == 0
    (out / image.name).write_bytes(b"mine")
    assert explain(model_file, image, "--out", out) == 1
    assert "exists: name another --out, or give --force" in capsys.readouterr().err
    assert (out / image.name).read_bytes() == b"mine"
    assert explain(model_file, image, "--out", out, "--force") == 0
    assert (out / image.name).read_bytes() != b"mine"
    assert image.read_bytes() == before
