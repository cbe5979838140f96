import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effboost import ImageSequence
from effboost.exceptions import ImageDecodeError, ImageNotFoundError, LeakageError, SplitError
from effboost.model_selection import check_leakage, subject_folds
from effboost.model_selection._leakage import check_fold_leakage

TRAIN, TEST = slice(0, 16), slice(16, 24)


def leak(*args, **kwargs):
    with pytest.raises(LeakageError) as caught:
        check_leakage(*args, **kwargs)
    return caught.value


class CountingSequence(ImageSequence):
    """Images that note which of them had their content read."""

    def __init__(self, X, **kwargs):
        super().__init__(X, **kwargs)
        self.read = []

    def _digest(self, index, function):
        self.read.append(index)
        return super()._digest(index, function)


# --- subjects ------------------------------------------------------------------------------


def test_shared_subjects_are_listed_in_order(pixels):
    names = [f"S{i}" for i in range(16)]
    error = leak(
        pixels[TRAIN], pixels[TEST], groups_train=names[::-1], groups_test=[*names[:-8:-1], "S99"]
    )
    assert error.groups == ("S10", "S11", "S12", "S13", "S14", "S15", "S9")
    assert error.duplicates == ()
    assert str(error) == (
        "7 subjects are in both parts of the split, such as 'S10': split by group"
    )


@pytest.mark.parametrize(
    "names", [np.array([3, 1, 4]), ["a", "b", "c"], np.array(["a", "b", "c"], dtype=object)]
)
def test_split_by_subject_passes_and_shared_subject_raises(pixels, names):
    groups = np.repeat(np.asarray(names), 8)
    check_leakage(pixels[TRAIN], pixels[TEST], groups_train=groups[TRAIN], groups_test=groups[TEST])
    error = leak(
        pixels[:17], pixels[17:], groups_train=groups[:17].tolist(), groups_test=groups[17:]
    )
    assert error.groups == (np.asarray(names).tolist()[2],)


def test_groups_default_to_those_of_the_images(pixels, subjects):
    images = ImageSequence(pixels, groups=subjects)
    check_leakage(images[TRAIN], images[TEST])
    assert leak(images[:17], images[17:]).groups == ("S8",)
    assert leak(images[TRAIN], pixels[TEST], groups_test=["S3"] * 8).groups == ("S3",)


def test_groups_override_those_of_the_images(pixels, subjects):
    images = ImageSequence(pixels, groups=subjects)
    train, test = images[:17], images[17:]
    check_leakage(train, test, groups_train=["A"] * 17)
    check_leakage(train, test, groups_test=["B"] * 7)
    assert leak(train, test, groups_train=["S11"] * 17).groups == ("S11",)
    assert leak(train, test, groups_test=["S0"] * 7).groups == ("S0",)


def test_numbers_and_their_names_cannot_be_compared(pixels):
    """As where two tables were read with other types."""
    numbers = np.array([1, 2])
    with pytest.raises(SplitError, match=r"are strings \('1'\).*are not \(1\)"):
        check_leakage(pixels[:2], pixels[2:4], groups_train=numbers, groups_test=["1", "2"])
    with pytest.raises(SplitError, match="strings"):
        check_leakage(pixels[:2], pixels[2:4], groups_train=["1", "2"], groups_test=numbers)
    check_leakage(pixels[:2], pixels[2:4], groups_train=numbers, groups_test=[3.0, 4.0])


def test_without_groups_only_the_images_are_compared(pixels):
    check_leakage(pixels[TRAIN], pixels[TEST])
    assert leak(pixels[:17], pixels[16:]).groups == ()


# --- images --------------------------------------------------------------------------------


def test_copies_of_files_under_other_names_are_found(paths, tmp_path):
    copies = [tmp_path / "other.png", tmp_path / "sub" / "cell_00.tif"]
    copies[1].parent.mkdir()
    for copy, source in zip(copies, (paths[5], paths[2]), strict=True):
        copy.write_bytes(Path(source).read_bytes())
    error = leak(paths[TRAIN], [*paths[TEST], *copies])
    assert error.duplicates == ((paths[5], str(copies[0])), (paths[2], str(copies[1])))
    assert error.groups == ()
    assert str(error) == (
        f"2 pairs of identical images are in both parts of the split, such as {paths[5]!r} and "
        f"{str(copies[0])!r}: put their subjects into one group, or drop one of them"
    )


def test_one_file_in_both_parts_is_found(paths):
    error = leak(paths[:3], paths[2:])
    assert error.duplicates == ((paths[2], paths[2]),)
    assert "1 pair of identical images is in" in str(error)


def test_equal_pixels_in_memory_are_found_by_position(pixels):
    train, test = pixels[TRAIN], pixels[TEST].copy()
    test[3] = train[11]
    assert leak(train, test).duplicates == (("position 11", "position 3"),)


def test_positions_are_those_before_slicing(pixels):
    pixels[20] = pixels[4]
    images = ImageSequence(pixels)
    assert leak(images[4:8], images[::-2]).duplicates == (
        ("position 7", "position 7"),
        ("position 5", "position 5"),
    )
    assert leak(images[4:8], images[18:22]).duplicates == (("position 4", "position 20"),)


@pytest.mark.parametrize(
    "given_as",
    [
        lambda p: [Image.fromarray(picture) for picture in p],
        list,
        lambda p: p / np.float32(255),
        lambda p: p[..., 0],
    ],
    ids=["PIL images", "list of arrays", "floats", "grey"],
)
def test_copies_are_found_in_all_forms_in_memory(pixels, given_as):
    pixels[20] = pixels[4]
    check_leakage(given_as(pixels[:20]), given_as(pixels[21:]))
    error = leak(given_as(pixels[:20]), given_as(pixels[20:]))
    assert error.duplicates == (("position 4", "position 0"),)


def test_copies_within_one_part_pass(pixels):
    pixels[1], pixels[21] = pixels[0], pixels[20]
    check_leakage(pixels[TRAIN], pixels[TEST])


def test_re_encoded_copy_passes(paths, pixels, tmp_path):
    copy = tmp_path / "copy.bmp"
    Image.fromarray(pixels[0]).save(copy)
    check_leakage(paths[TRAIN], [*paths[TEST], copy])


@settings(max_examples=60, deadline=None)
@given(
    train=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    test=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    groups_match=st.booleans(),
)
def test_leakage_is_reported_exactly_for_pairs_in_both_parts(train, test, groups_match):
    pictures = np.random.default_rng(0).integers(0, 256, (13, 8, 8), dtype=np.uint8)
    sides = {"groups_train": train, "groups_test": test} if groups_match else {}
    crossing = [i for i, key in enumerate(test) if key in train]
    if not crossing:
        check_leakage(pictures[train], pictures[test], **sides)
        return
    error = leak(pictures[train], pictures[test], **sides)
    assert [second for _, second in error.duplicates] == [f"position {i}" for i in crossing]
    for first, second in error.duplicates:
        assert train[int(first.split()[1])] == test[int(second.split()[1])]
    assert set(error.groups) == (set(train) & set(test) if groups_match else set())


def test_subjects_and_images_are_reported_together(pixels, subjects):
    pixels[23] = pixels[0]
    images = ImageSequence(pixels, groups=subjects)
    error = leak(images[:17], images[17:])
    assert error.groups == ("S8",)
    assert error.duplicates == (("position 0", "position 23"),)
    assert str(error) == (
        "1 subject is in both parts of the split, such as 'S8': split by group. Also, 1 pair of "
        "identical images is in both parts of the split, such as 'position 0' and 'position 23': "
        "put their subjects into one group, or drop one of them"
    )


def test_error_keeps_attributes_when_pickled(pixels, subjects):
    pixels[23] = pixels[0]
    images = ImageSequence(pixels, groups=subjects)
    error = leak(images[:17], images[17:])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is LeakageError
    assert copy.groups == error.groups == ("S8",)
    assert copy.duplicates == error.duplicates == (("position 0", "position 23"),)
    assert str(copy) == str(error)


# --- files that hold no picture ------------------------------------------------------------


def test_files_are_not_decoded(tmp_path):
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, text in zip(files, ("no picture", "none either", "no picture"), strict=True):
        file.write_text(text)
    check_leakage(files[:1], files[1:2])
    assert leak(files[:2], files[2:]).duplicates == ((str(files[0]), str(files[2])),)


@pytest.mark.parametrize(
    ("make", "kind", "reason"),
    [
        (lambda path: None, ImageNotFoundError, "there is no such file"),
        (lambda path: path.mkdir(), ImageDecodeError, "is a folder, not an image"),
        (lambda path: path.touch(), ImageDecodeError, r"the file is empty \(0 bytes\)"),
    ],
    ids=["missing", "folder", "empty"],
)
@pytest.mark.parametrize("side", ["train", "test"])
def test_unreadable_file_raises(paths, tmp_path, make, kind, reason, side):
    path = tmp_path / "odd.png"
    make(path)
    other = [*paths[:2], path]
    sides = (other, paths[3:]) if side == "train" else (paths[3:], other)
    with pytest.raises(kind, match=reason) as caught:
        check_leakage(*sides)
    assert type(caught.value) is kind
    assert (caught.value.path, caught.value.index) == (str(path), 2)


# --- folds ---------------------------------------------------------------------------------


def test_folds_by_subject_pass_and_read_each_file_once(paths, three_classes, subjects):
    images = CountingSequence(paths)
    folds = subject_folds(three_classes, subjects, 4, random_state=0)
    check_fold_leakage(images, subjects, folds)
    assert images.read == list(range(24))


def test_check_stops_at_the_first_leaking_fold(pixels, subjects):
    pixels[20] = pixels[4]  # on two sides only where 20 is tested without 4, or 4 without 20
    drawn = []

    def folds():
        for test in ([0, 1], [4, 5, 20, 21], [2, 3, 20, 21], [6, 7]):
            drawn.append(test)
            yield np.setdiff1d(np.arange(24), test), np.array(test)

    images = CountingSequence(pixels)
    with pytest.raises(LeakageError) as caught:
        check_fold_leakage(images, subjects, folds())
    assert caught.value.duplicates == (("position 4", "position 20"),)
    assert caught.value.groups == ()
    assert drawn[-1] == [2, 3, 20, 21]
    assert images.read == list(range(24))


def test_fold_with_shared_subject_raises_if_groups_are_known(pixels, subjects):
    folds = [(np.arange(1, 24), np.array([0]))]
    check_fold_leakage(ImageSequence(pixels), None, folds)
    with pytest.raises(
        LeakageError, match="1 subject is in both parts of the split, such as 'S0': split"
    ) as caught:
        check_fold_leakage(ImageSequence(pixels), subjects, folds)
    assert caught.value.groups == ("S0",)


def test_copy_in_another_fold_is_reported_by_path(paths, subjects):
    Path(paths[23]).write_bytes(Path(paths[0]).read_bytes())
    folds = [(np.arange(12), np.arange(12, 24))]
    with pytest.raises(LeakageError) as caught:
        check_fold_leakage(ImageSequence(paths), subjects, folds)
    assert caught.value.duplicates == ((paths[0], paths[23]),)


@pytest.mark.parametrize(
    "settings", [{"frame": 450}, {"white_level": 255}, {"frame": 20, "white_level": 4095}]
)
def test_one_file_is_found_whatever_it_is_read_with(paths, settings):
    other = ImageSequence(paths[5:], **settings)
    with pytest.raises(LeakageError, match="identical images"):
        check_leakage(paths[:6], other)
    check_leakage(paths[:5], other)
    with pytest.raises(LeakageError, match="identical images"):
        check_leakage(pixels_of(paths), ImageSequence(pixels_of(paths), **settings))


def pixels_of(paths):
    return np.stack(list(ImageSequence(paths)))
