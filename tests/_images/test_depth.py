"""Pixels of more than 8 bits, and the value that is white."""

import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from effboost import ImageSequence
from effboost.exceptions import ImageDecodeError, ImageWarning, UnsupportedInputError

RNG = np.random.default_rng(0)
EIGHT = RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)
EIGHT[0, 0], EIGHT[0, 1] = 0, 255
GREY = EIGHT[..., 0]
ALL_16 = np.arange(2**16, dtype=np.uint16).reshape(256, 256)


def with_bits(pixels, bits):
    """Return 8-bit pixels as a camera of more bits gives them, in 16-bit integers."""
    return np.rint(pixels * ((2**bits - 1) / 255)).astype(np.uint16)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, pixels, sbit=None, orientation=None):
    """Write 16-bit grey, grey with alpha, RGB or RGBA, none of which but grey Pillow writes."""
    height, width = pixels.shape[:2]
    kind = {2: 0, 3: {2: 4, 3: 2, 4: 6}.get(pixels.shape[-1])}[pixels.ndim]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation or 1
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + (b"" if sbit is None else chunk(b"sBIT", bytes(sbit)))
        + (b"" if orientation is None else chunk(b"eXIf", exif.tobytes()[6:]))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def write_tiff_of_12_bits(path, pixels):
    """Write packed 12-bit grey, which no installed library writes."""
    pairs = pixels.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags[279] = packed.size
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = struct.pack("<2sHI", b"II", 42, 8 + packed.size)
    path.write_bytes(header + packed.tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4))


WRITERS = {
    "grey.png": lambda path, x: write_png(path, x[..., 0]),
    "grey.tif": lambda path, x: tifffile.imwrite(path, x[..., 0]),
    "big endian grey.tif": lambda path, x: tifffile.imwrite(path, x[..., 0], byteorder=">"),
    "deflate grey.tif": lambda path, x: tifffile.imwrite(path, x[..., 0], compression="zlib"),
    "32 bits.tif": lambda path, x: tifffile.imwrite(path, x[..., 0].astype(np.int32)),
    "signed.tif": lambda path, x: tifffile.imwrite(path, x[..., 0].astype(np.int16)),
    "grey.pgm": lambda path, x: path.write_bytes(
        b"P5 %d %d 65535\n" % x.shape[1::-1] + x[..., 0].astype(">u2").tobytes()
    ),
    "rgb.png": write_png,
    "rgba.png": lambda path, x: write_png(path, np.dstack([x, x[..., 0] // 2])),
    "rgb.tif": lambda path, x: tifffile.imwrite(path, x, photometric="rgb"),
    "big endian rgb.tif": lambda path, x: tifffile.imwrite(
        path, x, photometric="rgb", byteorder=">"
    ),
    "deflate rgb.tif": lambda path, x: tifffile.imwrite(
        path, x, photometric="rgb", compression="zlib"
    ),
    "big endian deflate rgb.tif": lambda path, x: tifffile.imwrite(
        path, x, photometric="rgb", byteorder=">", compression="zlib"
    ),
    "tiles rgb.tif": lambda path, x: tifffile.imwrite(path, x, photometric="rgb", tile=(16, 16)),
    "rgba.tif": lambda path, x: tifffile.imwrite(
        path, np.dstack([x, x[..., 0]]), photometric="rgb", extrasamples=["unassalpha"]
    ),
}


def expected_of(kind):
    return EIGHT if "rgb" in kind else np.repeat(EIGHT[..., :1], 3, axis=2)


@pytest.fixture
def deep_file(tmp_path):
    def write(kind, bits):
        path = tmp_path / kind
        WRITERS[kind](path, with_bits(EIGHT, bits))
        return path

    return write


# --- the default is what it was ------------------------------------------------------------


@pytest.mark.parametrize("white_level", [None, 65535])
def test_every_16_bit_value_is_divided_by_257(tmp_path, white_level):
    tifffile.imwrite(tmp_path / "all.tif", ALL_16)
    picture = ImageSequence([tmp_path / "all.tif"], white_level=white_level)[0]
    np.testing.assert_array_equal(picture[..., 0], np.rint(ALL_16 / 257))


@pytest.mark.parametrize("kind", WRITERS)
def test_12_bits_keep_default_values_and_warn_with_remedy(deep_file, kind):
    path = deep_file(kind, 12)
    with pytest.warns(ImageWarning, match=r"are left; .* 12 bits, set white_level=4095") as seen:
        picture = ImageSequence([path])[0]
    assert len(seen) == 1
    assert repr(str(path)) in str(seen[0].message)
    assert "white_level=65535 if it is meant to be dark" in str(seen[0].message)
    twelve = with_bits(expected_of(kind), 12)
    # Pillow keeps the upper byte of 16-bit colours.
    np.testing.assert_array_equal(picture, twelve >> 8 if "rgb" in kind else np.rint(twelve / 257))
    assert picture.max() <= 16


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if "signed" not in kind])
def test_full_range_of_16_bits_does_not_warn(deep_file, kind):
    picture = ImageSequence([deep_file(kind, 16)])[0]
    np.testing.assert_array_equal(picture, expected_of(kind))


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383)])
def test_bits_of_the_camera_are_estimated_from_the_values(tmp_path, bits, white):
    for name in ("grey.png", "rgb.png"):
        WRITERS[name](tmp_path / name, with_bits(EIGHT, bits))
        with pytest.warns(ImageWarning, match=f"{bits} bits, set white_level={white} "):
            ImageSequence([tmp_path / name])[0]


# --- scaled by name ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_white_level_restores_the_8_bit_image(deep_file, kind):
    picture = ImageSequence([deep_file(kind, 12)], white_level=4095)[0]
    np.testing.assert_array_equal(picture, expected_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if "signed" not in kind])
def test_white_level_of_65535_silences_the_warning(deep_file, kind):
    path = deep_file(kind, 12)
    with pytest.warns(ImageWarning):
        default = ImageSequence([path])[0]
    np.testing.assert_array_equal(ImageSequence([path], white_level=65535)[0], default)


@pytest.mark.parametrize("kind", ["grey.png", "rgb.png", "rgb.tif", "grey.pgm"])
def test_values_above_the_white_level_raise(deep_file, kind):
    images = ImageSequence([deep_file(kind, 12)], white_level=1023)
    with pytest.raises(ImageDecodeError, match=r"range from 0 to 4095; with white_level=1023"):
        images[0]


def test_white_level_does_not_change_8_bit_images(tmp_path):
    Image.fromarray(EIGHT).save(tmp_path / "rgb.png")
    Image.fromarray(GREY).save(tmp_path / "grey.tif")
    items = [tmp_path / "rgb.png", tmp_path / "grey.tif", EIGHT, Image.fromarray(EIGHT)]
    scaled, plain = ImageSequence(items, white_level=4095), ImageSequence(items)
    assert all(np.array_equal(a, b) for a, b in zip(scaled, plain, strict=True))


def test_images_with_a_white_level_are_rotated_upright(tmp_path):
    for orientation in range(1, 9):
        write_png(tmp_path / "deep.png", with_bits(EIGHT, 12), orientation=orientation)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(EIGHT).save(tmp_path / "plain.png", exif=exif)
        deep = ImageSequence([tmp_path / "deep.png"], white_level=4095)[0]
        np.testing.assert_array_equal(deep, ImageSequence([tmp_path / "plain.png"])[0])


def test_white_level_is_kept_by_slices_pickles_and_frames(deep_file):
    images = ImageSequence([deep_file("rgb.png", 12)] * 3, white_level=4095, frame=12)
    for part in (images[1:], pickle.loads(pickle.dumps(images)), ImageSequence(np.asarray(images))):
        np.testing.assert_array_equal(part[0], EIGHT[2:14, 4:16])


def test_white_level_changes_the_fingerprint(deep_file):
    items = [deep_file("rgb.png", 12), EIGHT, Image.fromarray(EIGHT)]
    levels = (None, 4095, 4096)
    for i in range(3):
        prints = {ImageSequence(items, white_level=level).fingerprint(i) for level in levels}
        assert len(prints) == 3
    stack = {ImageSequence(EIGHT[None], white_level=level).fingerprint(0) for level in levels}
    assert len(stack) == 3


@pytest.mark.parametrize("white_level", [0, -1, np.inf, np.nan])
def test_white_levels_that_are_not_positive_numbers_raise(white_level):
    with pytest.raises(UnsupportedInputError, match="must be a number above 0, such as 4095"):
        ImageSequence(EIGHT[None], white_level=white_level)


# --- what a file says itself ---------------------------------------------------------------


def test_tiff_with_12_bits_per_sample_warns(tmp_path):
    write_tiff_of_12_bits(tmp_path / "packed.tif", with_bits(GREY, 12))
    with pytest.warns(ImageWarning, match=r"its tags say that 4095 is white.* white_level=4095"):
        ImageSequence([tmp_path / "packed.tif"])[0]
    picture = ImageSequence([tmp_path / "packed.tif"], white_level=4095)[0]
    np.testing.assert_array_equal(picture[..., 0], GREY)


@pytest.mark.parametrize("tag", [281, 341])
def test_tiff_tags_of_the_largest_value_are_used(tmp_path, tag):
    dim = with_bits(GREY, 16) // 3  # dark by a third alone: nothing that values would show
    tifffile.imwrite(tmp_path / "tagged.tif", dim, extratags=[(tag, "H", 1, 30000, True)])
    with pytest.warns(ImageWarning, match=r"its tags say that 30000 is white.* white_level=30000"):
        ImageSequence([tmp_path / "tagged.tif"])[0]


@pytest.mark.parametrize("largest", [4095, 65535])
def test_dark_image_with_tags_of_16_bits_does_not_warn(tmp_path, largest):
    values = with_bits(GREY, 12) if largest == 65535 else with_bits(GREY, 16)
    tags = [(281, "H", 1, largest, True)]  # 4095: a tag that the values contradict
    tifffile.imwrite(tmp_path / "tagged.tif", values, extratags=tags)
    ImageSequence([tmp_path / "tagged.tif"])[0]


def test_png_chunk_of_significant_bits_is_read(tmp_path):
    bright, dim = with_bits(EIGHT, 16), with_bits(EIGHT, 12)
    write_png(tmp_path / "scaled.png", bright, sbit=[12, 12, 12])
    ImageSequence([tmp_path / "scaled.png"])[0]  # scaled to 16 bits, as the standard says
    write_png(tmp_path / "raw.png", dim, sbit=[12, 12, 12])
    with pytest.warns(ImageWarning, match=r"its tags say that 4095 is white"):
        ImageSequence([tmp_path / "raw.png"])[0]


def test_pgm_is_scaled_by_its_own_largest_value(tmp_path):
    twelve = with_bits(GREY, 12)
    header = b"P5 %d %d 4095\n" % GREY.shape[::-1]
    (tmp_path / "a.pgm").write_bytes(header + twelve.astype(">u2").tobytes())
    np.testing.assert_array_equal(ImageSequence([tmp_path / "a.pgm"])[0][..., 0], GREY)


# --- floats and arrays ---------------------------------------------------------------------


def test_float_tiff_of_12_bits_is_refused_or_scaled(tmp_path):
    tifffile.imwrite(tmp_path / "f.tif", with_bits(GREY, 12).astype(np.float32))
    with pytest.raises(ImageDecodeError, match=r"from 0 to 4095; .* or set white_level to it"):
        ImageSequence([tmp_path / "f.tif"])[0]
    picture = ImageSequence([tmp_path / "f.tif"], white_level=4095)[0]
    np.testing.assert_array_equal(picture[..., 0], GREY)


def test_float_tiff_that_was_divided_by_65535_warns(tmp_path):
    values = (with_bits(GREY, 12) / 65535).astype(np.float32)
    tifffile.imwrite(tmp_path / "f.tif", values)
    with pytest.warns(ImageWarning, match=r"largest pixel is 0\.0624\d+, but 1 is white"):
        ImageSequence([tmp_path / "f.tif"])[0]
    picture = ImageSequence([tmp_path / "f.tif"], white_level=4095 / 65535)[0]
    np.testing.assert_array_equal(picture[..., 0], GREY)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("form", [lambda x: x[None], lambda x: [x]], ids=["stack", "list"])
def test_arrays_are_scaled_by_white_level(dtype, form):
    images = ImageSequence(form(with_bits(EIGHT, 12).astype(dtype)), white_level=4095)
    np.testing.assert_array_equal(images[0], EIGHT)


def test_16_bit_arrays_without_white_level_raise_with_the_remedy():
    with pytest.raises(UnsupportedInputError, match=r"type uint16; .*: set white_level"):
        ImageSequence(with_bits(EIGHT, 12)[None])


def test_pil_images_of_16_bits_are_scaled_or_warned_about():
    image = Image.fromarray(with_bits(GREY, 12))
    with pytest.warns(ImageWarning, match=r"a PIL image: .*set white_level=4095"):
        ImageSequence([image])[0]
    np.testing.assert_array_equal(ImageSequence([image], white_level=4095)[0][..., 0], GREY)


def test_white_level_that_turns_an_image_black_raises():
    with pytest.raises(ImageDecodeError, match="which white_level=4095 turns black"):
        ImageSequence([EIGHT / 255], white_level=4095)[0]


def test_black_images_do_not_warn(tmp_path):
    tifffile.imwrite(tmp_path / "black.tif", np.zeros((9, 9), np.uint16))
    write_png(tmp_path / "black.png", np.zeros((9, 9, 3), np.uint16))
    write_png(tmp_path / "alpha.png", np.zeros((9, 9, 2), np.uint16))
    files = [tmp_path / name for name in ("black.tif", "black.png", "alpha.png")]
    items = [*files, np.zeros((9, 9))]
    assert all(not image.any() for image in ImageSequence(items))


# --- other ways to be wrong in silence -----------------------------------------------------


def test_warning_is_raised_once_per_sequence(deep_file):
    images = ImageSequence([deep_file(kind, 12) for kind in ("grey.png", "grey.tif", "rgb.png")])
    with pytest.warns(ImageWarning, match="Other images like it are not reported") as seen:
        assert len([*images, *images[1:]]) == 5
    assert len(seen) == 1


def test_white_is_zero_is_inverted_for_16_bits_as_for_8(tmp_path):
    tifffile.imwrite(tmp_path / "8.tif", 255 - GREY, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "16.tif", 65535 - with_bits(GREY, 16), photometric="miniswhite")
    tifffile.imwrite(tmp_path / "12.tif", 4095 - with_bits(GREY, 12), photometric="miniswhite")
    for name, level in (("8.tif", None), ("16.tif", None), ("12.tif", 4095)):
        picture = ImageSequence([tmp_path / name], white_level=level)[0]
        np.testing.assert_array_equal(picture[..., 0], GREY)


def test_white_is_zero_is_inverted_in_pil_images_too(tmp_path):
    tifffile.imwrite(tmp_path / "16.tif", 65535 - with_bits(GREY, 16), photometric="miniswhite")
    with Image.open(tmp_path / "16.tif") as image:
        images = ImageSequence([image])
        for one in (images, pickle.loads(pickle.dumps(images))):
            np.testing.assert_array_equal(one[0][..., 0], GREY)
        same_values = ImageSequence([Image.fromarray(np.asarray(image))])
        assert images.fingerprint(0) != same_values.fingerprint(0)


@pytest.mark.parametrize("kind", ["rgb.png", "rgba.png", "rgb.tif"])
def test_pil_images_of_16_bit_colours_are_refused_whatever_was_read_before(deep_file, kind):
    with Image.open(deep_file(kind, 12)) as image:
        images = ImageSequence([image], white_level=4095)
        for use in (images.fingerprint, images.__getitem__):
            with pytest.raises(ImageDecodeError, match="give the path of the file instead"):
                use(0)
        with pytest.raises(ImageDecodeError, match="give the path of the file instead"):
            pickle.loads(pickle.dumps(images))[0]
        with pytest.raises(ImageDecodeError, match="give the path of the file instead"):
            images[0]  # pickling has read the pixels


def test_uncompressed_planar_16_bits_raise(tmp_path):
    planes = np.moveaxis(with_bits(EIGHT, 16), 2, 0)
    options = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "raw.tif", planes, **options)
    with pytest.raises(ImageDecodeError, match=r"uncompressed TIFF with planar channels"):
        ImageSequence([tmp_path / "raw.tif"])[0]
    tifffile.imwrite(tmp_path / "packed.tif", planes, compression="zlib", **options)
    np.testing.assert_array_equal(ImageSequence([tmp_path / "packed.tif"])[0], EIGHT)
    with pytest.raises(ImageDecodeError, match="save it as 16-bit RGB, or leave white_level out"):
        ImageSequence([tmp_path / "packed.tif"], white_level=4095)[0]


def test_white_level_raises_for_16_bit_grey_with_alpha(tmp_path):
    write_png(tmp_path / "grey_alpha.png", with_bits(EIGHT[..., :2], 16))
    picture = ImageSequence([tmp_path / "grey_alpha.png"])[0]
    np.testing.assert_array_equal(picture[..., 0], GREY)
    with pytest.raises(ImageDecodeError, match="save it as 16-bit RGB, or leave white_level out"):
        ImageSequence([tmp_path / "grey_alpha.png"], white_level=4095)[0]


def test_white_level_raises_for_16_bit_colours_of_pil_images(deep_file):
    with Image.open(deep_file("rgb.png", 12)) as image:
        images = ImageSequence([image], white_level=4095)
        with pytest.raises(ImageDecodeError, match="give the path of the file instead"):
            images[0]


def test_warnings_as_errors_are_not_decode_errors(deep_file):
    """They used to become "is damaged or truncated"."""
    with pytest.raises(ImageWarning, match="white_level=4095"):
        ImageSequence([deep_file("grey.png", 12)])[0]
