import io
import os
import pickle
import struct
import tempfile
import warnings
import zlib
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
from effboost._images import as_images
from effboost.exceptions import (
    ImageDecodeError,
    ImageNotFoundError,
    ImageWarning,
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
def test_every_form_of_paths_gives_the_same_pictures(paths, pixels, form):
    images = as_images(FORMS_OF_PATHS[form](paths))
    assert images.shape == (24,)
    assert all(np.array_equal(image, x) for image, x in zip(images, pixels, strict=True))
    assert images.paths.tolist() == paths
    assert images.path(3) == images.name(3) == paths[3]


@pytest.mark.parametrize("form", FORMS_OF_PIXELS)
def test_every_form_of_pixels_gives_the_same_pictures(pixels, form):
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
def test_rows_of_numbers_become_images_by_their_shape(shape, form):
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    images = ImageSequence(form(pixels.reshape(4, -1) / 255), image_shape=shape)
    assert np.array_equal(images[2], as_images(pixels)[2])


def test_pictures_may_differ_in_size(pixels):
    images = as_images([pixels[0], pixels[1, :20], Image.new("L", (30, 9), 7)])
    assert [image.shape for image in images] == [(40, 40, 3), (20, 40, 3), (9, 30, 3)]


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(8, 12), st.integers(8, 12))))
def test_floats_are_rounded_to_the_grey_levels_they_came_from(grey):
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
def test_slices_are_those_of_numpy_and_take_the_groups_along(key, with_ellipsis):
    pixels = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((12, 8, 8), np.uint8)
    images = ImageSequence(pixels, groups=np.arange(12))
    part = images[key, ...] if with_ellipsis else images[key]
    expected = np.arange(12)[np.array(key, dtype=np.intp) if isinstance(key, list) else key]
    assert isinstance(part, ImageSequence)
    assert part.shape == expected.shape
    assert part.groups.tolist() == expected.tolist()
    assert [int(image[0, 0, 0]) for image in part] == expected.tolist()


@given(st.integers(-12, 11))
def test_an_integer_gives_one_picture(i):
    pixels = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((12, 8, 8), np.uint8)
    assert ImageSequence(pixels)[i][0, 0, 0] == range(12)[i]
    assert ImageSequence(pixels)[np.int64(i)][0, 0, 0] == range(12)[i]


@pytest.mark.parametrize("key", [24, -25, (1, 2), np.arange(2) + 30])
def test_what_lies_outside_is_an_index_error(pixels, key):
    with pytest.raises(IndexError):
        ImageSequence(pixels)[key]


def test_slices_of_slices_keep_their_origin(pixels):
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


def test_scikit_learn_slices_without_reading_a_file():
    images, y = ImageSequence(MISSING), np.arange(30) % 2
    train, test, y_train, _ = train_test_split(images, y, stratify=y, random_state=0)
    assert len(train) == len(y_train) == 22
    assert sorted([*train.paths, *test.paths]) == sorted(MISSING)
    assert len(cross_validate(Length(), images, y, cv=KFold(3))["test_score"]) == 3
    search = GridSearchCV(Length(), {"answer": [0, 1]}, cv=3).fit(images, y)
    assert search.predict(images[:4]).shape == (4,)
    assert sorted(shuffle(images, random_state=0).paths) == sorted(MISSING)
    assert len(resample(images, n_samples=50, random_state=0)) == 50


def test_a_pickled_part_takes_its_own_images_alone(pixels):
    images = ImageSequence(pixels, groups=np.arange(24))
    part = pickle.dumps(images[:2])
    assert len(part) < len(pickle.dumps(images)) / 6
    loaded = pickle.loads(part)
    assert np.array_equal(loaded[1], pixels[1])
    assert loaded.groups.tolist() == [0, 1]


def test_a_frame_cuts_the_centre_of_larger_pictures_alone(pixels):
    images = ImageSequence([pixels[0], pixels[1, :20, :20], pixels[2, :, :20]], frame=30)[::-1]
    assert np.array_equal(images[2], pixels[0, 5:35, 5:35])
    assert np.array_equal(images[1], pixels[1, :20, :20])
    assert np.array_equal(pickle.loads(pickle.dumps(images))[0], pixels[2, 5:35, :20])


@given(
    hnp.arrays(np.uint8, (3, 8, 8, 3), elements=st.integers(0, 1)),
    hnp.arrays(np.uint8, (8, 8, 3), elements=st.integers(0, 1)),
)
def test_fingerprints_are_equal_where_the_pixels_are(pixels, other):
    images = ImageSequence([*pixels, other])
    prints = [images.fingerprint(i) for i in range(4)]
    for i in range(4):
        for j in range(4):
            same = np.array_equal(images[i], images[j])
            assert (prints[i] == prints[j]) == same


def test_fingerprints_of_files_are_those_of_their_bytes(paths, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(paths[4]).read_bytes())
    images = ImageSequence([*paths[:5], copy])
    assert images.fingerprint(5) == images.fingerprint(4) != images.fingerprint(3)
    with pytest.raises(ImageNotFoundError, match=r"position 1, .*gone"):
        ImageSequence([copy, "gone.png"]).fingerprint(1)


# --- formats -------------------------------------------------------------------------------


def rgb(side=12):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def written(tmp_path, picture, suffix, **options):
    file = tmp_path / f"picture{suffix}"
    picture.save(file, **options)
    return as_images([file])[0]


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tif", ".ppm", ".dib"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_lossless_formats_come_back_exactly(tmp_path, suffix, mode):
    picture = Image.fromarray(rgb()).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(written(tmp_path, picture, suffix), expected)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff_comes_back_exactly(tmp_path, compression):
    got = written(tmp_path, Image.fromarray(rgb()), ".tiff", compression=compression)
    assert np.array_equal(got, rgb())


@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {"quality": 95}), (".webp", {})])
def test_lossy_formats_come_back_nearly(tmp_path, suffix, options):
    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    got = written(tmp_path, Image.fromarray(smooth), suffix, **options)
    assert np.abs(got.astype(int) - smooth).mean() < 12


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_is_divided_by_257(tmp_path, suffix):
    grey = np.random.default_rng(0).integers(0, 65536, (9, 11), dtype=np.uint16)
    grey[0, :2] = 0, 65535
    got = written(tmp_path, Image.fromarray(grey), suffix)
    assert np.array_equal(got[..., 0], np.rint(grey / 257))
    assert got[0, 1].tolist() == [255] * 3


def test_alpha_is_dropped_not_blended(tmp_path):
    pixels = np.concatenate([rgb(), np.zeros((12, 12, 1), np.uint8)], axis=2)
    for suffix in (".png", ".tif"):
        assert np.array_equal(written(tmp_path, Image.fromarray(pixels), suffix), rgb())
    grey = Image.fromarray(rgb()).convert("LA")
    expected = np.asarray(Image.fromarray(rgb()).convert("L").convert("RGB"))
    assert np.array_equal(written(tmp_path, grey, ".png"), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_palettes_are_looked_up(tmp_path, suffix):
    picture = Image.fromarray(rgb()).quantize(16)
    assert np.array_equal(written(tmp_path, picture, suffix), picture.convert("RGB"))


def test_a_palette_with_a_transparent_colour_keeps_its_colours(tmp_path):
    picture = Image.fromarray(rgb()).quantize(16)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(written(tmp_path, picture, ".png", transparency=3), expected)


def test_cmyk_is_converted(tmp_path):
    picture = Image.fromarray(rgb()).convert("CMYK")
    got = written(tmp_path, picture, ".tif")
    assert np.abs(got.astype(int) - np.asarray(picture.convert("RGB"))).max() <= 1


def test_floats_in_tiff_lie_between_0_and_1(tmp_path):
    grey = np.random.default_rng(0).random((9, 9), dtype=np.float32)
    got = written(tmp_path, Image.fromarray(grey), ".tif")
    assert np.array_equal(got[..., 0], np.rint(grey * 255))
    with pytest.raises(ImageDecodeError, match=r"range from .* must lie in \[0, 1\]"):
        written(tmp_path, Image.fromarray(grey * 300), ".tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.kron(rgb(4)[:, :3], np.ones((8, 8, 1), np.uint8))
    got = written(tmp_path, Image.fromarray(pixels), ".png", exif=exif)
    plain = Image.open(tmp_path / "picture.png")
    assert np.array_equal(got, ImageOps.exif_transpose(plain))
    assert got.shape[:2] == ((24, 32) if orientation > 4 else (32, 24))


def test_of_several_pages_the_first_is_read_with_a_warning(tmp_path):
    pages = [Image.fromarray(rgb()), Image.new("RGB", (12, 12))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(ImageWarning, match=r"pages\.tif' holds 2 pages; only the first is read"):
        assert np.array_equal(as_images([tmp_path / "pages.tif"])[0], rgb())


# --- what cannot be read -------------------------------------------------------------------


def png_header(width, height):
    """A PNG of a few bytes that claims to be of any size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def bmp_header(width, height):
    start = b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    return (
        start + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + b"\0" * 46
    )


def encoded(kind, keep=1.0, side=40):
    buffer = io.BytesIO()
    Image.fromarray(rgb(side)).save(buffer, kind)
    return buffer.getvalue()[: int(keep * len(buffer.getvalue()))]


BROKEN = {
    "empty": (b"", "file is empty"),
    "text": (b"this is no picture\n" * 10, "is no image that effboost reads"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image that effboost reads"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image that effboost"),
    "truncated png": (encoded("PNG", 0.5), "damaged or truncated"),
    "truncated jpeg": (encoded("JPEG", 0.5), "damaged or truncated"),
    "truncated bmp": (encoded("BMP", 0.5), "damaged or truncated"),
    "truncated tiff": (encoded("TIFF", 0.5), "damaged|no image that effboost"),
    "header alone": (encoded("PNG")[:20], "no image that effboost|damaged"),
    "bomb png": (png_header(60_000, 60_000), "60000 x 60000 pixels|too large"),
    "bomb bmp": (bmp_header(60_000, 60_000), "60000 x 60000 pixels|too large"),
    "one pixel": (png_header(1, 1), "is 1 x 1 pixels; at least 8 x 8"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_by_position_path_and_reason(tmp_path, paths, kind):
    content, reason = BROKEN[kind]
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    images = ImageSequence([*paths[:3], file])
    with pytest.raises(ImageDecodeError, match=reason) as caught:
        images.decode(3)
    error = caught.value
    assert str(error).startswith(f"image at position 3, {str(file)!r}: ")
    assert (error.index, error.path) == (3, str(file))
    assert isinstance(error, ValueError | OSError)
    with pytest.raises(
        ImageDecodeError, match=r"position 0 \(position 3 before slicing\), .*broken"
    ):
        images[3:].decode(0)


def test_what_is_no_file_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no such file \\(looked for it from {tmp_path}"):
        as_images(["gone.png"])[0]
    with pytest.raises(ImageNotFoundError, match=r"there is no such file$"):
        as_images([tmp_path / "gone.png"])[0]
    with pytest.raises(ImageDecodeError, match=r"is a folder.*load_image_folder"):
        as_images([tmp_path])[0]
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageDecodeError, match="not a regular file"):
        as_images(["pipe.png"])[0]
    with pytest.raises(ImageDecodeError, match=r"'null\\x00byte\.png'"):
        as_images(["null\0byte.png"])[0]
    with pytest.raises(ImageDecodeError):
        as_images(["x" * 5000])[0]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((9, 9, 3), np.nan), "243 NaN or infinite pixels"),
        (np.full((9, 9), np.inf), "81 NaN or infinite"),
        (np.full((9, 9, 3), 255.0), r"range from 255 to 255; they must lie in \[0, 1\]: divide"),
        (np.full((9, 9), -0.1), r"range from -0\.1"),
        (np.zeros((9, 9, 2)), r"shape \(9, 9, 2\)"),
        (np.zeros((9, 9, 5), np.uint8), r"shape \(9, 9, 5\)"),
        (np.zeros(9, np.uint8), r"shape \(9,\)"),
        (np.zeros((0, 9, 3), np.uint8), "is empty"),
        (np.zeros((9, 9), np.int64), r"type int64; .*astype\(np.uint8\)"),
        (np.zeros((9, 9), np.uint16), "type uint16; .*divide by the largest"),
        (np.zeros((9, 9), bool), r"type bool; .*astype\(float\)"),
        (np.zeros((9, 9), complex), "type complex128"),
        (np.zeros((1, 1, 3), np.uint8), "is 1 x 1 pixels"),
        (np.zeros((7, 90, 3), np.uint8), "is 90 x 7 pixels"),
    ],
)
def test_a_broken_array_is_named_by_position_and_reason(pixels, array, reason):
    with pytest.raises(ImageDecodeError, match=reason) as caught:
        as_images([pixels[0], array])[1]
    assert caught.value.index == 1
    assert caught.value.path is None


def test_a_pil_image_whose_file_is_broken_is_named(tmp_path):
    file = tmp_path / "half.png"
    file.write_bytes(encoded("PNG", 0.5))
    with (
        Image.open(file) as image,
        pytest.raises(ImageDecodeError, match=r"position 0: .*truncated"),
    ):
        as_images([image])[0]


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
        ([[1, 2], [3]], "lists that make no array"),
        ([["a"], ["b"]], "got a list of list"),
    ],
)
def test_what_is_no_sequence_of_images_is_told_with_what_would_do(X, message):
    with pytest.raises(UnsupportedInputError, match=message) as caught:
        as_images(X)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("X", "shape", "message"),
    [
        (np.zeros((2, 10)), (3, 3), r"10 columns, but image_shape=\(3, 3\) needs 9"),
        (np.zeros((2, 10)), (10,), r"it is \(height, width\)"),
        (np.zeros((2, 10)), (0, 3), r"it is \(height, width\)"),
    ],
)
def test_a_shape_that_does_not_fit_is_told(X, shape, message):
    with pytest.raises(UnsupportedInputError, match=message):
        ImageSequence(X, image_shape=shape)


def test_groups_of_the_wrong_length_are_told(pixels):
    with pytest.raises(UnsupportedInputError, match=r"groups has shape \(3,\), but .* 24 images"):
        ImageSequence(pixels, groups=[1, 2, 3])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "TIFF", "GIF", "WEBP"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_an_error_that_names_the_file(kind, data):
    content = bytearray(encoded(kind, side=16))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "damaged")
        file.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own on odd metadata
            try:
                picture = as_images([file])[0]
            except ImageDecodeError as error:
                said = str(error)
                picture = None
        if picture is None:
            assert said.startswith(f"image at position 0, {str(file)!r}: ")
        else:
            assert picture.dtype == np.uint8
            assert picture.shape[2] == 3


def test_the_column_that_stands_for_images_decodes_nothing_and_keeps_their_groups(tmp_path):
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
def test_images_come_back_from_their_column(pixels, paths, form):
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


def test_images_give_no_array_of_numbers(pixels):
    with pytest.raises(TypeError, match=r"no array of float64; np.stack"):
        np.asarray(ImageSequence(pixels), dtype=float)


def test_fingerprints_tell_palettes_and_frames_apart(pixels, paths):
    indexed = Image.new("P", (16, 16))
    prints = []
    for palette in ([0, 0, 0], [255, 0, 0]):
        indexed.putpalette(palette)
        prints.append(ImageSequence([indexed]).fingerprint(0))
    prints += [ImageSequence(paths, frame=frame).fingerprint(0) for frame in (None, 20, 24)]
    assert len(set(prints)) == 5


def test_pictures_in_memory_are_turned_upright_like_files(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    Image.fromarray(rgb(16)[:, :10]).save(file, exif=exif)
    with Image.open(file) as picture:
        from_memory = ImageSequence([picture])
        assert from_memory[0].shape == (10, 16, 3)
        np.testing.assert_array_equal(from_memory[0], ImageSequence([file])[0])
        turned = from_memory.fingerprint(0)
    assert turned != ImageSequence([Image.fromarray(rgb(16)[:, :10])]).fingerprint(0)


def test_a_picture_in_memory_that_cannot_be_read_has_no_fingerprint(tmp_path):
    file = tmp_path / "cut.png"
    Image.fromarray(rgb(40)).save(file)
    file.write_bytes(file.read_bytes()[:-900])
    with (
        Image.open(file) as picture,
        pytest.raises(ImageDecodeError, match="position 0: is damaged"),
    ):
        ImageSequence([picture]).fingerprint(0)
