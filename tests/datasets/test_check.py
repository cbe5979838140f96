import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from effboost import ImageSequence
from effboost.datasets import (
    check_image_folder,
    check_images,
    load_image_folder,
    make_blood_cells,
)
from effboost.exceptions import DatasetError, ImageWarning, UnsupportedInputError


@pytest.fixture(scope="module")
def cells():
    """Clean pictures, all different."""
    return make_blood_cells(n_subjects=6, images_per_subject=4, image_size=96, random_state=0)


@pytest.fixture
def files(cells, tmp_path):
    folder = tmp_path / "cells"
    folder.mkdir()
    places = [folder / f"{i:02d}.png" for i in range(len(cells.images))]
    for place, picture in zip(places, cells.images, strict=True):
        Image.fromarray(picture).save(place)
    return places


def names(found, kind):
    return [finding.images for finding in found.findings if finding.kind == kind]


def test_clean_images_have_no_findings(cells):
    split = np.where(np.isin(cells.groups, cells.groups[:8]), "train", "test")
    found = check_images(cells.images, target=cells.target, groups=cells.groups, split=split)
    assert found.findings == ()
    assert found.counts == {}
    assert (found.n_images, found.n_subjects) == (24, 6)
    assert found.classes == {"ALL": (12, 3), "HEM": (12, 3)}
    assert sum(n for n, _ in found.splits.values()) == 24
    assert found.sizes == {(96, 96): 24}
    assert "no faults found" in str(found)


def test_unreadable_images_are_found_with_reason(files):
    os.truncate(files[3], 200)
    files[5].write_text("no image")
    files[7].write_bytes(b"")
    found = check_images([*map(str, files), "gone.png"])
    reasons = {f.images[0]: f.detail for f in found.findings}
    assert list(reasons) == [str(files[3]), str(files[5]), str(files[7]), "gone.png"]
    assert "truncated" in reasons[str(files[3])]
    assert "not an image that effboost reads" in reasons[str(files[5])]
    assert "0 bytes" in reasons[str(files[7])]
    assert "no such file" in reasons["gone.png"]
    assert found.counts == {"unreadable": 4}
    assert found.n_images == 25


def test_identical_files_are_one_finding(files):
    for name in ("a.png", "b.png"):
        shutil.copy(files[2], files[2].with_name(name))
    found = check_images([str(p) for p in sorted(files[0].parent.iterdir())])
    assert [len(group) for group in names(found, "duplicate")] == [3]
    assert names(found, "near_duplicate") == []


EDITS = {
    "re-encoded": lambda image: image,
    "half": lambda image: image.resize((48, 48), Image.Resampling.BICUBIC),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "transposed": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "transversed": lambda image: image.transpose(Image.Transpose.TRANSVERSE),
}


@pytest.mark.parametrize("edit", EDITS)
def test_near_duplicates_are_found_without_false_positives(files, edit):
    copy = files[0].with_name("copy.jpg" if edit == "re-encoded" else "copy.png")
    EDITS[edit](Image.open(files[9])).save(copy, quality=85)
    places = [str(place) for place in (*files, copy)]
    found = check_images(places)
    assert names(found, "near_duplicate") == [(str(files[9]), str(copy))]
    assert check_images(places, max_distance=None).counts.get("near_duplicate") is None


def test_cells_of_one_subject_are_not_near_duplicates():
    cells = make_blood_cells(n_subjects=2, images_per_subject=150, image_size=48, random_state=1)
    assert check_images(cells.images).findings == ()


def test_cells_alike_on_an_even_background_are_not_near_duplicates():
    """Cells that were cut out differ in a small part of the image alone."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((160, 160)) - 80
    inside = (rows**2 + columns**2 < 30**2)[..., np.newaxis]
    for background in (0, 230):
        texture = rng.integers(90, 130, (30, 20, 20, 3), dtype=np.uint8)
        pictures = np.where(inside, texture.repeat(8, 1).repeat(8, 2), np.uint8(background))
        assert check_images(pictures).findings == ()
        turned = np.rot90(pictures[3], axes=(0, 1))
        found = check_images([*pictures, turned])
        assert names(found, "near_duplicate") == [("position 3", "position 30")]


def test_near_duplicates_are_transitive(cells):
    """What is joined by a third is one group; the search looks at blocks of 64."""
    rng = np.random.default_rng(0)
    first = cells.images[0]
    # 8 levels from end to end, in the cell alone.
    steps = [np.where(first > 8, first + np.uint8(2 * i), first) for i in range(5)]
    noise = rng.integers(0, 256, (200, 12, 12, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    pictures = np.stack([steps[0], *noise, *steps[1:]])
    found = check_images(pictures)
    assert [len(group) for group in names(found, "near_duplicate")] == [5]


def test_a_thousand_near_duplicates_are_one_finding(cells):
    rng = np.random.default_rng(0)
    pictures = cells.images[:1] // 2 + rng.integers(0, 3, (1000, 1, 1, 1), dtype=np.uint8)
    pictures[:, 0, 0, 0] = np.arange(1000) % 256  # none equal to the byte within 256
    found = check_images(pictures, max_distance=3)
    assert [len(group) for group in names(found, "near_duplicate")] == [
        len({picture.tobytes() for picture in pictures})
    ]


def test_blank_images_are_found_and_are_not_near_duplicates(cells):
    rng = np.random.default_rng(0)
    pictures = cells.images.copy()
    pictures[1] = 255
    pictures[4] = (200, 30, 90)
    pictures[6] = 128 + rng.integers(-3, 4, (96, 96, 3))
    found = check_images(pictures)
    blank = names(found, "blank")
    assert blank == [("position 1",), ("position 4",), ("position 6",)]
    assert names(found, "near_duplicate") == []


def test_a_faint_small_cell_is_not_blank():
    picture = np.full((1, 640, 640, 3), 240, dtype=np.uint8)
    picture[0, 300:320, 300:320] -= 30
    assert check_images(picture).findings == ()


def test_unusual_sizes_are_found(cells):
    pictures = [*cells.images[:6], cells.images[6][:50], np.tile(cells.images[7], (2, 2, 1))]
    found = check_images(pictures, crop_size=60)
    details = {f.images[0]: f.detail for f in found.findings if f.kind == "size"}
    assert details == {
        "position 6": "96 x 50; 6 of 8 are 96 x 96; the crop is 60 x 60",
        "position 7": "192 x 192; 6 of 8 are 96 x 96",
    }


def test_varying_sizes_are_only_compared_with_the_crop(cells):
    pictures = [picture[: 40 + i] for i, picture in enumerate(cells.images[:8])]
    assert check_images(pictures).findings == ()
    found = check_images(pictures, crop_size=42)
    assert names(found, "size") == [("position 0",), ("position 1",)]


def test_duplicates_under_several_labels_subjects_and_splits_are_found(cells):
    pictures = cells.images[:5].copy()
    pictures[3], pictures[4] = pictures[0], pictures[1][:, ::-1]
    found = check_images(
        pictures,
        target=["ALL", "ALL", "ALL", "HEM", "ALL"],
        groups=["A", "B", "C", "A", "D"],
        split=["train", "train", "train", "train", "test"],
    )
    assert list(found.counts) == [
        "leaking_image",
        "several_labels",
        "several_subjects",
        "duplicate",
        "near_duplicate",
    ]
    details = {f.kind: (f.images, f.detail) for f in found.findings}
    assert details["several_labels"] == (("position 0", "position 3"), "ALL, HEM")
    assert details["several_subjects"] == (("position 1", "position 4"), "B, D")
    assert details["leaking_image"] == (("position 1", "position 4"), "test, train")


def test_subjects_in_several_splits_are_found(cells):
    split = ["train", "val", "test", "train"] * 6
    groups = ["A", "A", "A", "B"] + [f"S{i}" for i in range(20)]
    found = check_images(cells.images, groups=groups, split=split)
    leaking = [f for f in found.findings if f.kind == "leaking_subject"]
    assert [f.detail for f in leaking] == ["subject A in train, val, test"]
    assert leaking[0].images == ("position 0", "position 1", "position 2")


def test_missing_labels_and_subjects_are_found(cells):
    found = check_images(
        cells.images[:4], target=["ALL", "", None, "HEM"], groups=["A", "B", "C", np.nan]
    )
    assert names(found, "no_label") == [("position 1",), ("position 2",)]
    assert names(found, "no_subject") == [("position 3",)]


def test_groups_default_to_those_of_the_images(cells):
    images = ImageSequence(cells.images, groups=cells.groups)
    assert check_images(images).n_subjects == 6


def test_inconsistent_lengths_raise(cells):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        check_images(cells.images, target=["ALL"])
    with pytest.raises(UnsupportedInputError, match="no images"):
        check_images([])


def test_result_converts_to_json_and_csv(files):
    files[0].write_bytes(b"")
    shutil.copy(files[2], files[3])
    found = check_images([str(file) for file in files])
    data = json.loads(json.dumps(found.to_dict()))
    assert data["counts"] == {"unreadable": 1, "duplicate": 1}
    assert data["findings"][1]["images"] == [str(files[2]), str(files[3])]
    assert data["sizes"] == {"96 x 96": 23}
    lines = found.to_csv().splitlines()
    assert lines[0] == "finding,kind,image,detail"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "2"]


def test_text_is_shortened_and_escapes_names(tmp_path):
    names = [tmp_path / f"a\u202e{i}.png" for i in range(7)]
    for name in names:
        name.write_bytes(b"")
    text = str(check_images([str(name) for name in names]))
    assert "unreadable images: 7" in text
    assert "... and 2 more" in text
    assert "\u202e" not in text
    assert "\\u202e" in text


# --- folders -------------------------------------------------------------------------------


def write(folder, pictures):
    folder.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"P{i // 2}_{i}.png")


def test_images_outside_of_class_folders_have_no_label(cells, tmp_path):
    write(tmp_path / "ALL", cells.images[:4])
    write(tmp_path / "HEM", cells.images[4:8])
    Image.fromarray(cells.images[9]).save(tmp_path / "P9_0.png")
    found = check_image_folder(tmp_path, group=r"(P\d+)_")
    assert found.classes == {"ALL": (4, 2), "HEM": (4, 2)}
    assert found.counts == {"no_label": 1}
    assert found.splits == {}


@pytest.mark.parametrize("given", ["one folder", "three folders"])
def test_folders_named_like_splits_are_splits(cells, tmp_path, given):
    for number, part in enumerate(("train", "val", "test")):
        write(tmp_path / part / "ALL", cells.images[8 * number : 8 * number + 4])
        write(tmp_path / part / "HEM", cells.images[8 * number + 4 : 8 * number + 8])
    roots = tmp_path if given == "one folder" else [tmp_path / p for p in ("train", "val", "test")]
    found = check_image_folder(roots, group=r"(P\d+)_")
    assert found.counts == {"leaking_subject": 2}
    assert [n for n, _ in found.splits.values()] == [8, 8, 8]
    assert set(found.classes) == {"ALL", "HEM"}


def test_table_with_split_column_and_missing_files(files):
    rows = [f"{file.name},{'ALL' if i % 2 else 'HEM'},S{i // 4},{i % 3}" for i, file in
            enumerate(files)]  # fmt: skip
    table = files[0].parent / "labels.csv"
    table.write_text("\n".join(["file,label,patient,fold", *rows, "gone.png,ALL,S9,1"]))
    found = check_image_folder(table.parent)
    assert found.counts == {"leaking_subject": 6, "unreadable": 1}
    assert found.splits.keys() == {"0", "1", "2"}
    with pytest.raises(DatasetError, match="no column 'part' for the split"):
        check_image_folder(table.parent, split="part")


@pytest.mark.parametrize(
    "layout",
    ["{part}/{label}", "{label}/{part}", "{part}/fold_0/{label}", "{label}", "{part}_data/{label}"],
)
def test_check_and_load_read_the_same_classes_and_splits(cells, tmp_path, layout):
    for i, (part, label) in enumerate(itertools.product(("train", "test"), ("ALL", "HEM"))):
        folder = tmp_path / layout.format(part=part, label=label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells.images[i]).save(folder / f"{i}.png")
    found, data = check_image_folder(tmp_path), load_image_folder(tmp_path)
    assert {name: n for name, (n, _) in found.classes.items()} == Counter(data.target.tolist())
    assert {name: n for name, (n, _) in found.splits.items()} == (
        {} if data.split is None else Counter(data.split.tolist())
    )
    assert list(found.classes) == ["ALL", "HEM"]


def test_subjects_in_two_splits_within_class_folders_are_found(cells, tmp_path):
    for part in ("train", "test"):
        write(tmp_path / "ALL" / part, cells.images[:4] if part == "train" else cells.images[4:8])
    found = check_image_folder(tmp_path, group=r"(P\d+)_")
    assert found.counts == {"leaking_subject": 2}


def test_missing_subjects_are_found_and_wrong_pattern_raises(cells, tmp_path):
    write(tmp_path / "ALL", cells.images[:4])
    Image.fromarray(cells.images[9]).save(tmp_path / "ALL" / "unnamed.png")
    assert check_image_folder(tmp_path, group=r"(P\d+)_").counts == {"no_subject": 1}
    with pytest.raises(DatasetError, match=r"finds no subject in 'ALL/P0_0\.png'"):
        check_image_folder(tmp_path, group=r"(Q\d+)_")


def test_texts_of_missing_values_are_not_classes_or_subjects(files):
    rows = [f"{file.name},ALL,S{i}" for i, file in enumerate(files[2:])]
    table = [f"{files[0].name},nan,S8", f"{files[1].name},HEM,NA", *rows]
    (files[0].parent / "labels.csv").write_text("\n".join(["file,label,patient", *table]))
    found = check_image_folder(files[0].parent)
    assert found.counts == {"no_label": 1, "no_subject": 1}
    assert list(found.classes) == ["ALL", "HEM"]


def test_similar_labels_and_subjects_are_found(cells):
    target = ["ALL", "all", "ALL ", "HEM", "Zo\u00eb", "Zoe\u0308"]
    found = check_images(cells.images[:6], target=target, groups=["H3", "h3", *"abcd"])
    details = {f.kind: (f.images, f.detail) for f in found.findings if f.kind.startswith("similar")}
    assert details["similar_subjects"] == (("position 0", "position 1"), "'H3' and 'h3'")
    similar = [f.detail for f in found.findings if f.kind == "similar_labels"]
    assert similar == ["'ALL' and 'ALL ' and 'all'", "'Zoe\u0308' and 'Zo\u00eb'"]


def test_12_bits_in_16_are_dark_without_white_level(cells, tmp_path):
    (tmp_path / "ALL").mkdir()
    for i, picture in enumerate(cells.images[:4]):
        grey = picture[..., 1].astype(np.uint16) * 16
        Image.fromarray(grey).save(tmp_path / "ALL" / f"{i}.png")
    with pytest.warns(ImageWarning, match="set white_level=4095"):
        assert check_image_folder(tmp_path, max_distance=None).counts == {"dark": 4}
    assert check_image_folder(tmp_path, white_level=4095).counts == {}


def test_folder_without_images_raises(tmp_path):
    with pytest.raises(DatasetError, match="there is no image in"):
        check_image_folder(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        check_image_folder(tmp_path / "no")


def test_check_does_not_import_torch(files):
    code = (
        "import sys; from effboost.datasets import check_image_folder\n"
        f"check_image_folder({str(files[0].parent)!r}); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_subjects_that_are_named_as_missing_are_missing(pixels):
    groups = ["None", "nan", "S1", "S2", *["S3"] * 20]
    found = check_images(pixels, groups=groups, split=["a", "b"] * 12, max_distance=None)
    assert names(found, "no_subject") == [("position 0",), ("position 1",)]
    assert names(found, "leaking_subject") == [("position 4", "position 5")]


@pytest.mark.parametrize(
    ("target", "groups", "note"),
    [
        (["a"] * 4, None, "one class only"),
        (["a", "a", "b", "b"], ["S"] * 4, "one subject only"),
        (["a", "a", "b", "b"], [*"SS", *"TU"], "class a has one subject only"),
        (["a", "a", "b", "b"], [*"ST", *"TU"], None),
        (["a", "a", "b", "b"], None, None),
    ],
    ids=["class", "subject", "subject of a class", "enough", "unknown"],
)
def test_what_is_too_little_for_a_model_is_noted(target, groups, note):
    X = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    found = check_images(X, target=target, groups=groups)
    assert not found.findings
    assert ("not enough to fit or to evaluate" in str(found)) == (note is not None)
    assert note is None or f"\n  {note}" in str(found)
