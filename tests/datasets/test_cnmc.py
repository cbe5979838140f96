import csv
import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.cnmc import LAYOUTS, write_tree
from effboost.datasets import (
    check_image_folder,
    load_cnmc,
    load_image_folder,
    split_cnmc_preliminary,
)
from effboost.exceptions import DatasetError, IncompleteDataWarning

# The release's list of files, where it lies beside the project.
MANIFEST = Path(__file__).parents[3] / "shared" / "data" / "cnmc" / "manifest.csv.gz"


def load(root, split="train"):
    with pytest.warns(IncompleteDataWarning):
        return load_cnmc(root, split)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("labels_in", ["beside", "inside"])
def test_both_layouts_are_read(tmp_path, layout, labels_in):
    data = load(write_tree(tmp_path, layout, labels_in), "all")
    assert len(data.paths) == len(data.images) == 8 + 32 + 5
    train = ["all" in path.rsplit("_", 1)[1] for path in data.paths[:8]]
    assert data.target.tolist() == train + [1] * 16 + [0] * 16 + [-1] * 5
    assert data.target_names == ["HEM", "ALL"]
    assert np.unique(data.split, return_counts=True)[1].tolist() == [5, 32, 8]
    assert (data.fold[data.split != "train"] == -1).all()


def test_training_images_have_subjects_folds_and_merged_groups(tmp_path):
    data = load(write_tree(tmp_path))
    names = [Path(path).name for path in data.paths]
    of = dict(zip(names, zip(data.subjects, data.groups, data.fold, strict=True), strict=True))
    assert of["UID_20_1_1_all.bmp"] == ("20", "20+21", 0)
    assert of["UID_21_4_2_all.bmp"] == ("21", "20+21", 1)
    assert of["UID_78_1_1_all.bmp"] == ("78", "51+75+78", 2)
    assert of["UID_h3_10_1_hem.bmp"] == ("H3", "H3+H10", 2)
    assert of["UID_H3_2_1_hem.bmp"] == ("H3", "H3+H10", 2)
    assert of["UID_H12_1_1_hem.bmp"] == ("H12", "H12", 1)
    assert data.images.groups.tolist() == data.groups.tolist()


def test_final_images_have_no_label_and_share_groups_if_identical(tmp_path):
    data = load(write_tree(tmp_path), "final")
    assert data.groups.tolist() == [
        "final 1",
        "final 2",
        "final 20",
        "final 581+914",
        "final 581+914",
    ]
    assert set(data.subjects) == {""}


def test_final_images_are_cropped_to_the_size_of_others(tmp_path):
    root = write_tree(tmp_path)
    pixels = np.zeros((600, 600, 3), np.uint8)
    pixels[75:525, 75:525] = np.random.default_rng(0).integers(1, 256, (450, 450, 3))
    Image.fromarray(pixels).save(root / "testing_data/C-NMC_test_final_phase_data/1.bmp")
    data = load(root, "final")
    assert np.array_equal(data.images[0], pixels[75:525, 75:525])


def test_incomplete_copy_warns_with_counts(tmp_path):
    with pytest.warns(IncompleteDataWarning, match=r"8 of 10661 train images, 32 of 1867 prelim"):
        load_cnmc(write_tree(tmp_path), "all")


def test_missing_preliminary_file_is_left_out(tmp_path):
    root = write_tree(tmp_path)
    (root / "validation_data/C-NMC_test_prelim_phase_data/3.bmp").unlink()
    assert len(load(root, "preliminary").paths) == 31


@pytest.mark.parametrize(
    ("damage", "split", "message"),
    [
        (lambda r: (r / "training_data").rename(r / "x"), "train", "the train images are missing"),
        (lambda r: (r / "testing_data").rename(r / "x"), "all", "the final images are missing"),
        (
            lambda r: next((r / "validation_data").glob("*.csv")).unlink(),
            "preliminary",
            "labels of the preliminary images are missing",
        ),
        (
            lambda r: (r / "training_data/fold_0/all/copy of UID_1.bmp").touch(),
            "train",
            "'copy of UID_1.bmp' is not a file name of C-NMC",
        ),
        (
            lambda r: next((r / "validation_data").glob("*.csv")).write_text("a,b\n1,2\n"),
            "preliminary",
            "lacks the columns",
        ),
        (
            lambda r: next((r / "validation_data").glob("*.csv")).write_text(
                "Patient_ID,new_names,labels\nUID_1_1_1_all.bmp,1.bmp,0\n"
            ),
            "preliminary",
            "line 2: label '0' contradicts",
        ),
    ],
)
def test_damaged_copy_raises(tmp_path, damage, split, message):
    root = write_tree(tmp_path)
    damage(root)
    with pytest.raises(DatasetError, match=message):
        load_cnmc(root, split)


def test_wrong_root_or_split_raises(tmp_path):
    with pytest.raises(DatasetError, match="is not a folder"):
        load_cnmc(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="split='test'"):
        load_cnmc(tmp_path, "test")
    (tmp_path / "training_data").mkdir()
    with pytest.raises(DatasetError, match=r"contain no \.bmp image"):
        load_cnmc(tmp_path)


def test_halves_by_image_share_subjects_and_halves_by_subject_do_not(tmp_path):
    data = load(write_tree(tmp_path), "all")
    for by in ("image", "subject"):
        validation, test = split_cnmc_preliminary(data, by=by, random_state=0)
        both = np.sort(np.concatenate([validation, test]))
        assert np.array_equal(both, np.flatnonzero(data.split == "preliminary"))
        assert len(validation) == len(test) == 16
        shared = set(data.groups[validation]) & set(data.groups[test])
        assert bool(shared) == (by == "image")


def test_invalid_arguments_of_split_preliminary_raise(tmp_path):
    data = load(write_tree(tmp_path))
    with pytest.raises(ValueError, match="no preliminary images"):
        split_cnmc_preliminary(data)
    data = load(tmp_path, "preliminary")
    with pytest.raises(ValueError, match="by='cell'"):
        split_cnmc_preliminary(data, by="cell")


@pytest.mark.skipif(not MANIFEST.is_file(), reason="the release's list of files is not here")
def test_full_release_has_published_counts(tmp_path):
    with gzip.open(MANIFEST, "rt") as file:
        names = [row["path"] for row in csv.DictReader(file)]
    folders = {Path(name).parent for name in names}
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (tmp_path / name).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = load_cnmc(tmp_path)
    assert len(train.paths) == 10_661
    assert np.bincount(train.target).tolist() == [3389, 7272]
    assert len(np.unique(train.subjects)) == 73
    assert len(np.unique(train.groups)) == 66
    assert sum("UID_h3" in path for path in train.paths) == 36
    assert not any("h" in subject for subject in train.subjects)
    assert np.bincount(train.fold).tolist() == [3527, 3581, 3553]
    # The table of labels holds no content here: its rows are written from the published counts.
    labels = tmp_path / "validation_data/C-NMC_test_prelim_phase_data_labels.csv"
    rows = [f"UID_{57 + i % 13}_{i}_1_all.bmp,{i + 1}.bmp,1" for i in range(1219)]
    rows += [f"UID_H{30 + i % 15}_{i}_1_hem.bmp,{i + 1220}.bmp,0" for i in range(648)]
    labels.write_text("Patient_ID,new_names,labels\n" + "\n".join(rows) + "\n")
    everything = load_cnmc(tmp_path, "all")
    assert len(everything.paths) == 15_114
    assert (everything.target == -1).sum() == 2586


@pytest.mark.filterwarnings("ignore::effboost.exceptions.IncompleteDataWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_reader_reads_the_training_images(tmp_path, layout):
    root = write_tree(tmp_path, layout)
    expected = load_cnmc(root)
    for folder in (root, root / LAYOUTS[layout][0]):
        data = load_image_folder(folder)
        assert data.paths.tolist() == expected.paths.tolist()
        assert data.groups.tolist() == expected.groups.tolist() == data.images.groups.tolist()
        assert data.target.tolist() == [expected.target_names[t] for t in expected.target]
        assert data.split.tolist() == [f"fold_{fold}" for fold in expected.fold]
    one = load_image_folder(root, parts=["fold_2"])
    assert one.paths.tolist() == expected.paths[expected.fold == 2].tolist()
    with pytest.raises(DatasetError, match="leave out target, group and split"):
        load_image_folder(root, group=r"UID_(H?\d+)_")


@pytest.mark.filterwarnings("ignore::effboost.exceptions.IncompleteDataWarning")
def test_check_reads_the_training_images(tmp_path):
    found = check_image_folder(write_tree(tmp_path))
    assert found.n_images == 8
    assert found.classes == {"ALL": (4, 2), "HEM": (4, 2)}
    assert found.splits == {"fold_0": (3, 3), "fold_1": (2, 2), "fold_2": (3, 2)}
    assert found.counts["leaking_subject"] == 3  # as published: the folds tear merged subjects


@pytest.mark.filterwarnings("ignore::effboost.exceptions.IncompleteDataWarning")
def test_subjects_with_images_of_the_same_cell_can_be_merged(tmp_path):
    root = write_tree(tmp_path)
    folder = root / "training_data"
    for name in ("fold_0/all/UID_17_1_1_all.bmp", "fold_0/hem/UID_H7_1_1_hem.bmp"):
        (folder / name).touch()
    identical, similar = (load_cnmc(root, merge=merge) for merge in ("identical", "similar"))
    assert {"17", "20+21", "H7"} <= set(identical.groups)
    assert {"17+20+21", "H2+H4+H5+H6+H7"} <= set(similar.groups)
    assert similar.images.groups.tolist() == similar.groups.tolist()
    final = load_cnmc(root, "final", merge="similar")
    assert final.groups.tolist() == load_cnmc(root, "final").groups.tolist()
    with pytest.raises(ValueError, match="merge='all' must be"):
        load_cnmc(root, merge="all")
