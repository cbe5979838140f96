import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV, KFold, cross_validate, train_test_split
from sklearn.utils import resample, shuffle

from effboost import ImageSequence
from effboost._images import as_images, find_rgb
from effboost.exceptions import (
    ImageDecodeError,
    ImageNotFoundError,
    SplitError,
    UnsupportedInputError,
)

# --- every form ----------------------------------------------------------------------------

FORMS_OF_PATHS = {
    "list": list,
    "tuple": tuple,
    "Path": lambda paths: [Path(path) for path in paths],
    "object array": lambda paths: np.array(paths, dtype=object),
    "str array": np.array,
    "column": lambda paths: np.array(paths, dtype=object)[:, None],
    "pandas Series": pd.Series,
    "pandas index of its own": lambda paths: pd.Series(paths, index=range(50, 50 + len(paths))),
    "pandas DataFrame": lambda paths: pd.DataFrame({"file": paths}),
    "polars Series": pl.Series,
    "polars DataFrame": lambda paths: pl.DataFrame({"file": paths}),
    "sequence": ImageSequence,
}
FORMS_OF_PIXELS = {
    "uint8": lambda x: x,
    "float": lambda x: x / 255,
    "float32": lambda x: (x / 255).astype(np.float32),
    "alpha": lambda x: np.concatenate([x, x[..., :1]], axis=3),
    "list of arrays": list,
    "object array": lambda x: np.array([*x, None], dtype=object)[:-1],
    "PIL": lambda x: [Image.fromarray(picture) for picture in x],
    "tensor": lambda x: torch.from_numpy(np.moveaxis(x, -1, 1).copy()),
    "float tensor": lambda x: torch.from_numpy(np.moveaxis(x, -1, 1) / 255),
    "list of tensors": lambda x: [torch.from_numpy(np.moveaxis(p, -1, 0).copy()) for p in x],
    "Fortran order": np.asfortranarray,
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.uint8).reshape(x.shape),
}


@pytest.mark.parametrize("form", FORMS_OF_PATHS)
def test_all_forms_of_paths_give_the_same_images(paths, pixels, form):
    images = as_images(FORMS_OF_PATHS[form](paths))
    assert images.shape == (24,)
    assert all(np.array_equal(image, x) for image, x in zip(images, pixels, strict=True))
    assert images.paths.tolist() == paths
    assert images.path(3) == images.name(3) == paths[3]


@pytest.mark.parametrize("form", FORMS_OF_PIXELS)
def test_all_forms_of_pixels_give_the_same_images(pixels, form):
    images = as_images(FORMS_OF_PIXELS[form](pixels))
    assert images.shape == (24,)
    assert all(np.array_equal(image, x) for image, x in zip(images, pixels, strict=True))
    assert images.paths is None
    assert images[5:].name(2) == "position 7"


@pytest.mark.parametrize("channels", [(), (1,)])
def test_grey_arrays_become_rgb(channels):
    grey = np.random.default_rng(0).integers(0, 256, (3, 10, 12, *channels), dtype=np.uint8)
    for X in (grey, grey / 255, torch.from_numpy(grey.reshape(3, 10, 12)), list(grey)):
        assert np.array_equal(as_images(X)[1], np.repeat(grey[1].reshape(10, 12, 1), 3, axis=2))


@pytest.mark.parametrize("shape", [(10, 12), (10, 12, 1), (10, 12, 3), (10, 12, 4)])
@pytest.mark.parametrize("form", [np.asarray, lambda x: x.tolist(), pd.DataFrame])
def test_numeric_rows_are_reshaped_by_image_shape(shape, form):
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    images = ImageSequence(form(pixels.reshape(4, -1) / 255), image_shape=shape)
    assert np.array_equal(images[2], as_images(pixels)[2])


def test_images_may_differ_in_size(pixels):
    images = as_images([pixels[0], pixels[1, :20], Image.new("L", (30, 9), 7)])
    assert [image.shape for image in images] == [(40, 40, 3), (20, 40, 3), (9, 30, 3)]


@pytest.mark.filterwarnings("ignore:.*set white_level")
@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(8, 12), st.integers(8, 12))))
def test_floats_are_rounded_to_their_original_grey_levels(grey):
    for divided in (grey / 255, (grey / 255).astype(np.float32), (grey / 255).astype(np.float16)):
        assert np.array_equal(as_images(divided)[0][..., 0], grey[0])


# --- slicing -------------------------------------------------------------------------------

KEYS = st.one_of(
    st.slices(12),
    st.lists(st.integers(-12, 11), max_size=15),
    st.lists(st.integers(0, 11), max_size=15).map(lambda keys: np.array(keys, dtype=np.intp)),
    hnp.arrays(np.bool_, 12),
)


@given(KEYS, st.booleans())
def test_slices_match_numpy_and_keep_groups(key, with_ellipsis):
    pixels = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((12, 8, 8), np.uint8)
    images = ImageSequence(pixels, groups=np.arange(12))
    part = images[key, ...] if with_ellipsis else images[key]
    expected = np.arange(12)[np.array(key, dtype=np.intp) if isinstance(key, list) else key]
    assert isinstance(part, ImageSequence)
    assert part.shape == expected.shape
    assert part.groups.tolist() == expected.tolist()
    assert [int(image[0, 0, 0]) for image in part] == expected.tolist()


@given(st.integers(-12, 11))
def test_integer_index_returns_one_image(i):
    pixels = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((12, 8, 8), np.uint8)
    assert ImageSequence(pixels)[i][0, 0, 0] == range(12)[i]
    assert ImageSequence(pixels)[np.int64(i)][0, 0, 0] == range(12)[i]


@pytest.mark.parametrize("key", [24, -25, (1, 2), np.arange(2) + 30])
def test_invalid_index_raises(pixels, key):
    with pytest.raises(IndexError):
        ImageSequence(pixels)[key]


def test_slices_of_slices_keep_original_positions(pixels):
    part = ImageSequence(pixels)[4:20][[3, 0]][1:]
    assert np.array_equal(part[0], pixels[4])
    assert repr(part) == "<ImageSequence of 1 images>"


MISSING = [f"nowhere/{i}.png" for i in range(30)]


class Length(ClassifierMixin, BaseEstimator):
    """A classifier that looks at how many images there are, and at nothing else."""

    def __init__(self, answer=0):
        self.answer = answer

    def fit(self, X, y):
        assert isinstance(X, ImageSequence)
        assert len(X) == len(y)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        assert isinstance(X, ImageSequence)
        return np.full(len(X), self.answer)


def test_scikit_learn_slices_without_reading_files():
    images, y = ImageSequence(MISSING), np.arange(30) % 2
    train, test, y_train, _ = train_test_split(images, y, stratify=y, random_state=0)
    assert len(train) == len(y_train) == 22
    assert sorted([*train.paths, *test.paths]) == sorted(MISSING)
    assert len(cross_validate(Length(), images, y, cv=KFold(3))["test_score"]) == 3
    search = GridSearchCV(Length(), {"answer": [0, 1]}, cv=3).fit(images, y)
    assert search.predict(images[:4]).shape == (4,)
    assert sorted(shuffle(images, random_state=0).paths) == sorted(MISSING)
    assert len(resample(images, n_samples=50, random_state=0)) == 50


def test_pickled_slice_contains_only_its_images(pixels):
    images = ImageSequence(pixels, groups=np.arange(24))
    part = pickle.dumps(images[:2])
    assert len(part) < len(pickle.dumps(images)) / 6
    loaded = pickle.loads(part)
    assert np.array_equal(loaded[1], pixels[1])
    assert loaded.groups.tolist() == [0, 1]


def test_rgb_is_a_view_of_pixels_in_memory(pixels):
    images = ImageSequence(pixels)[[5, 3]]
    for i, pixel_rows in enumerate(pixels[[5, 3]]):
        np.testing.assert_array_equal(find_rgb(images, i), pixel_rows)
        np.testing.assert_array_equal(find_rgb(images, i), np.asarray(images[i]))
    assert np.shares_memory(find_rgb(ImageSequence(pixels), 2), pixels)


@pytest.mark.parametrize(
    "make",
    [
        lambda pixels: ImageSequence(pixels[..., 0]),
        lambda pixels: ImageSequence(pixels[..., :1]),
        lambda pixels: ImageSequence(np.concatenate([pixels, pixels[..., :1]], axis=3)),
        lambda pixels: ImageSequence(pixels / 255),
        lambda pixels: ImageSequence(list(pixels)),
        lambda pixels: ImageSequence(pixels, frame=20),
        lambda pixels: ImageSequence(pixels, boxes=[[0, 0, 9, 9]] * len(pixels)),
        lambda pixels: ImageSequence(pixels).map(lambda image: image.rotate(90)),
        lambda pixels: ImageSequence(pixels[:, :7]),
    ],
    ids=["grey", "channel", "alpha", "float", "list", "frame", "boxes", "map", "small"],
)
def test_rgb_is_none_for_images_that_have_to_be_converted(pixels, make):
    assert find_rgb(make(pixels), 0) is None


def test_frame_crops_only_larger_images(pixels):
    images = ImageSequence([pixels[0], pixels[1, :20, :20], pixels[2, :, :20]], frame=30)[::-1]
    assert np.array_equal(images[2], pixels[0, 5:35, 5:35])
    assert np.array_equal(images[1], pixels[1, :20, :20])
    assert np.array_equal(pickle.loads(pickle.dumps(images))[0], pixels[2, 5:35, :20])


def test_map_applies_function_on_reading(paths, pixels):
    images = ImageSequence(paths, groups=np.arange(24)).map(ImageOps.invert)[[3, 1]]
    assert np.array_equal(images[0], 255 - pixels[3])
    assert (images.groups.tolist(), images.path(1)) == ([3, 1], paths[1])
    loaded = pickle.loads(pickle.dumps(images))
    assert np.array_equal(loaded[1], 255 - pixels[1])
    # What counts is what comes out: no name of the function, whose code may change.
    inverted = ImageSequence([Image.fromarray(255 - pixels[3])])
    assert loaded.fingerprint(0) == inverted.fingerprint(0)
    twice = ImageSequence(paths).map(ImageOps.invert).map(ImageOps.invert)
    assert np.array_equal(twice[0], pixels[0])


def test_map_names_what_a_function_returns_instead_of_an_image(pixels):
    images = ImageSequence(pixels).map(np.asarray)
    for use in (images.fingerprint, images.__getitem__):
        with pytest.raises(UnsupportedInputError, match="map returned ndarray, not a PIL image"):
            use(0)


def test_map_does_not_hide_decode_errors(tmp_path):
    images = ImageSequence([tmp_path / "missing.png"]).map(ImageOps.invert)
    with pytest.raises(ImageDecodeError, match=r"position 0.*missing\.png"):
        images[0]


@given(
    hnp.arrays(np.uint8, (3, 8, 8, 3), elements=st.integers(0, 1)),
    hnp.arrays(np.uint8, (8, 8, 3), elements=st.integers(0, 1)),
)
def test_fingerprints_are_equal_if_pixels_are(pixels, other):
    images = ImageSequence([*pixels, other])
    prints = [images.fingerprint(i) for i in range(4)]
    for i in range(4):
        for j in range(4):
            same = np.array_equal(images[i], images[j])
            assert (prints[i] == prints[j]) == same


def test_fingerprints_of_files_depend_on_their_bytes(paths, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(paths[4]).read_bytes())
    images = ImageSequence([*paths[:5], copy])
    assert images.fingerprint(5) == images.fingerprint(4) != images.fingerprint(3)
    with pytest.raises(ImageNotFoundError, match=r"position 1, .*gone"):
        ImageSequence([copy, "gone.png"]).fingerprint(1)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("cells/", "one str where a sequence.*load_image_folder"),
        (Path("cells"), "one PosixPath where a sequence"),
        (Image.new("RGB", (9, 9)), "one Image where a sequence"),
        ({"a": 1}, "got dict; images can be"),
        ((path for path in "ab"), "got generator"),
        (None, "got NoneType"),
        (3, "got int"),
        ([], "no images: X is empty"),
        (np.zeros((0, 9, 9)), "no images"),
        ([None, "a.png"], "missing|NoneType at position 0"),
        (["a.png", None], r"path at position 1 is missing \(None\)"),
        (pd.Series(["a.png", np.nan]), "path at position 1 is missing"),
        (pd.Series(["a.png", pd.NA], dtype="string"), "path at position 1 is missing"),
        (pl.Series(["a.png", None]), "path at position 1 is missing"),
        (["a.png", ""], "path at position 1 is empty"),
        (["a.png", b"b.png"], "got bytes at position 1"),
        (["a.png", {"x": 1}], "got dict at position 1"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"2 columns \['a', 'b'\]"),
        (np.zeros((4, 9)), "as rows also need image_shape"),
        (np.zeros((9, 9, 3)), r"looks like one image: give X\[np.newaxis\]"),
        (np.zeros((2, 3, 9, 9)), r"channels seem to come first: give np\.moveaxis"),
        (np.zeros((2, 9, 9, 2)), "1, 3 or 4 channels on the last axis, not 2"),
        (np.zeros((2, 9, 9, 3), np.int64), "type int64"),
        (np.zeros((1, 2, 9, 9, 3)), "images can be"),
        (torch.zeros(2, 2, 9, 9), r"tensor of shape \(2, 2, 9, 9\)"),
        (np.array([["a", "b"]], dtype=object), r"paths come as \(n,\) or \(n, 1\)"),
        ([[1, 2], [3]], "lists that cannot be converted to an array"),
        ([["a"], ["b"]], "got a list of list"),
    ],
)
def test_unsupported_input_raises_with_remedy(X, message):
    with pytest.raises(UnsupportedInputError, match=message) as caught:
        as_images(X)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("X", "shape", "message"),
    [
        (np.zeros((2, 10)), (3, 3), r"10 columns, but image_shape=\(3, 3\) needs 9"),
        (np.zeros((2, 10)), (10,), r"must be \(height, width\)"),
        (np.zeros((2, 10)), (0, 3), r"must be \(height, width\)"),
    ],
)
def test_wrong_image_shape_raises(X, shape, message):
    with pytest.raises(UnsupportedInputError, match=message):
        ImageSequence(X, image_shape=shape)


def test_groups_of_wrong_length_raise(pixels):
    with pytest.raises(UnsupportedInputError, match=r"groups has shape \(3,\), but .* 24 images"):
        ImageSequence(pixels, groups=[1, 2, 3])


def test_asarray_decodes_nothing_and_keeps_groups(tmp_path):
    images = ImageSequence(["gone_0.png", "gone_1.png", "gone_2.png"], groups=["a", "b", "c"])
    column = np.asarray(images)
    assert column.shape == (3, 1)
    assert repr(column[1, 0]) == "<image gone_1.png>"
    back = ImageSequence(column[[2, 0]])
    assert back.groups.tolist() == ["c", "a"]
    assert back.paths.tolist() == ["gone_2.png", "gone_0.png"]
    with pytest.raises(FileNotFoundError, match=r"position 1, 'gone_0.png'"):
        back[1]


@pytest.mark.parametrize("form", ["column", "list", "frame", "pickle", "two sequences"])
def test_images_are_restored_from_asarray(pixels, paths, form):
    images = ImageSequence(paths, frame=24)[[5, 1, 7]]
    column = np.asarray(images)
    X = {
        "column": lambda: column,
        "list": lambda: column[:, 0].tolist(),
        "frame": lambda: pd.DataFrame({"image": column[:, 0]}),
        "pickle": lambda: pickle.loads(pickle.dumps(column)),
        "two sequences": lambda: np.vstack([column[:1], np.asarray(ImageSequence(paths)[[1, 7]])]),
    }[form]()
    back = ImageSequence(X)
    assert back.groups is None
    assert back[0].shape == (24, 24, 3)
    np.testing.assert_array_equal(back[0], pixels[5, 8:32, 8:32])
    assert back.fingerprint(0) == images.fingerprint(0)
    assert back[2].shape == ((40, 40, 3) if form == "two sequences" else (24, 24, 3))


def test_asarray_of_numeric_dtype_raises(pixels):
    with pytest.raises(TypeError, match=r"converted to an array of float64: use np\.stack"):
        np.asarray(ImageSequence(pixels), dtype=float)


def test_fingerprints_depend_on_palette_and_frame(pixels, paths):
    indexed = Image.new("P", (16, 16))
    prints = []
    for palette in ([0, 0, 0], [255, 0, 0]):
        indexed.putpalette(palette)
        prints.append(ImageSequence([indexed]).fingerprint(0))
    prints += [ImageSequence(paths, frame=frame).fingerprint(0) for frame in (None, 20, 24)]
    assert len(set(prints)) == 5


def test_joining_images_with_groups_and_images_without_raises_with_position(paths):
    known = np.asarray(ImageSequence(paths[:3], groups=["a", "b", "c"]))
    unknown = np.asarray(ImageSequence(paths[3:5]))
    with pytest.raises(UnsupportedInputError, match="at position 3 carries no group, but others"):
        ImageSequence(np.vstack([known, unknown]))
    assert ImageSequence(np.vstack([known, unknown]), groups=list("abcde")).groups.size == 5


def test_joining_images_with_groups_of_different_types_raises(paths):
    strings = np.asarray(ImageSequence(paths[:2], groups=["1", "2"]))
    integers = np.asarray(ImageSequence(paths[2:4], groups=[1, 2]))
    with pytest.raises(SplitError, match="'1' at position 0, 1 at position 2"):
        ImageSequence(np.vstack([strings, integers]))


def test_boxes_select_parts_of_images():
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(1, 20, 30, 3)
    boxes = [(0, 0, 30, 20), (2, 3, 12, 15), (18, 4, 40, 60)]
    images = ImageSequence(np.repeat(pixels, 3, axis=0), boxes=boxes, groups=list("aab"))
    for image, (left, upper, right, lower) in zip(images, boxes, strict=True):
        assert np.array_equal(image, pixels[0, upper:lower, left:right])
    prints = [images.fingerprint(i) for i in range(3)]
    assert len(set(prints)) == 3
    part = pickle.loads(pickle.dumps(images[[2, 0]]))
    assert [part.fingerprint(i) for i in range(2)] == [prints[2], prints[0]]
    assert np.array_equal(part[0], images[2])


def test_invalid_boxes_raise():
    pixels = np.zeros((2, 20, 30, 3), dtype=np.uint8)
    with pytest.raises(UnsupportedInputError, match=r"boxes has shape \(1, 4\)"):
        ImageSequence(pixels, boxes=[(0, 0, 9, 9)])
    with pytest.raises(UnsupportedInputError, match="type float64"):
        ImageSequence(pixels, boxes=np.zeros((2, 4)))
    with pytest.raises(UnsupportedInputError, match=r"box at position 1, \(5, 5, 5, 9\), is empty"):
        ImageSequence(pixels, boxes=[(0, 0, 9, 9), (5, 5, 5, 9)])
    outside = ImageSequence(pixels, boxes=[(0, 0, 9, 9), (40, 5, 50, 9)])
    with pytest.raises(ImageDecodeError, match=r"position 1: the box .* is outside of the image"):
        outside[1]
    small = ImageSequence(pixels, boxes=[(0, 0, 9, 9), (0, 0, 4, 9)])
    with pytest.raises(ImageDecodeError, match="is 4 x 9 pixels"):
        small[1]
