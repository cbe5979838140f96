import io
import os
import signal
import struct
import tempfile
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from effboost import ImageSequence
from effboost._images import as_images
from effboost.exceptions import (
    ImageDecodeError,
    ImageNotFoundError,
    ImageWarning,
)

# --- formats -------------------------------------------------------------------------------


def rgb(side=12):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def written(tmp_path, picture, suffix, **options):
    file = tmp_path / f"picture{suffix}"
    picture.save(file, **options)
    return as_images([file])[0]


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tif", ".ppm", ".dib"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix, mode):
    picture = Image.fromarray(rgb()).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(written(tmp_path, picture, suffix), expected)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff_is_read_exactly(tmp_path, compression):
    got = written(tmp_path, Image.fromarray(rgb()), ".tiff", compression=compression)
    assert np.array_equal(got, rgb())


@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {"quality": 95}), (".webp", {})])
def test_lossy_formats_are_read_approximately(tmp_path, suffix, options):
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


def test_alpha_is_dropped_without_blending(tmp_path):
    pixels = np.concatenate([rgb(), np.zeros((12, 12, 1), np.uint8)], axis=2)
    for suffix in (".png", ".tif"):
        assert np.array_equal(written(tmp_path, Image.fromarray(pixels), suffix), rgb())
    grey = Image.fromarray(rgb()).convert("LA")
    expected = np.asarray(Image.fromarray(rgb()).convert("L").convert("RGB"))
    assert np.array_equal(written(tmp_path, grey, ".png"), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_palettes_are_converted_to_rgb(tmp_path, suffix):
    picture = Image.fromarray(rgb()).quantize(16)
    assert np.array_equal(written(tmp_path, picture, suffix), picture.convert("RGB"))


def test_palette_with_transparent_colour_keeps_its_colours(tmp_path):
    picture = Image.fromarray(rgb()).quantize(16)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(written(tmp_path, picture, ".png", transparency=3), expected)


def test_cmyk_is_converted(tmp_path):
    picture = Image.fromarray(rgb()).convert("CMYK")
    got = written(tmp_path, picture, ".tif")
    assert np.abs(got.astype(int) - np.asarray(picture.convert("RGB"))).max() <= 1


def test_float_tiff_must_be_in_0_to_1(tmp_path):
    grey = np.random.default_rng(0).random((9, 9), dtype=np.float32)
    got = written(tmp_path, Image.fromarray(grey), ".tif")
    assert np.array_equal(got[..., 0], np.rint(grey * 255))
    with pytest.raises(ImageDecodeError, match=r"range from .* must lie in \[0, 1\]"):
        written(tmp_path, Image.fromarray(grey * 300), ".tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_rotated_by_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.kron(rgb(4)[:, :3], np.ones((8, 8, 1), np.uint8))
    got = written(tmp_path, Image.fromarray(pixels), ".png", exif=exif)
    plain = Image.open(tmp_path / "picture.png")
    assert np.array_equal(got, ImageOps.exif_transpose(plain))
    assert got.shape[:2] == ((24, 32) if orientation > 4 else (32, 24))


def test_first_of_several_pages_is_read_with_warning(tmp_path):
    pages = [Image.fromarray(rgb()), Image.new("RGB", (12, 12))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(ImageWarning, match=r"pages\.tif' has several pages; only the first is read"):
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
    "text": (b"this is no picture\n" * 10, "is not an image that effboost reads"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image that effboost reads"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that effboost"),
    "truncated png": (encoded("PNG", 0.5), "damaged or truncated"),
    "truncated jpeg": (encoded("JPEG", 0.5), "damaged or truncated"),
    "truncated bmp": (encoded("BMP", 0.5), "damaged or truncated"),
    "truncated tiff": (encoded("TIFF", 0.5), "damaged|not an image that effboost"),
    "header alone": (encoded("PNG")[:20], "not an image that effboost|damaged"),
    "bomb png": (png_header(60_000, 60_000), "60000 x 60000 pixels|too large"),
    "bomb bmp": (bmp_header(60_000, 60_000), "60000 x 60000 pixels|too large"),
    "one pixel": (png_header(1, 1), "is 1 x 1 pixels; at least 8 x 8"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_raises_with_position_path_and_reason(tmp_path, paths, kind):
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


@pytest.mark.parametrize("between", [b"", b"\xff\xff", b"\0junk", b"\xff\xd0"])
def test_much_exif_data_raise_quickly(tmp_path, between):
    """Pillow joins the segments of EXIF data one by one, which took 85 seconds for 98 MB."""
    content = encoded("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 65_008) + b"Exif\0\0" + bytes(65_000) + between
    files = [tmp_path / "some.jpg", tmp_path / "many.jpg"]
    for file, n in zip(files, (10, 1500), strict=True):
        file.write_bytes(content[:2] + segment * n + content[2:])
    np.testing.assert_array_equal(as_images(files)[0].shape, (40, 40, 3))
    start = time.perf_counter()
    with pytest.raises(ImageDecodeError, match=r"more than 1\.0 MB of EXIF data: remove them"):
        as_images(files)[1]
    assert time.perf_counter() - start < 5


def test_many_pages_are_not_counted(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for _ in range(3000):
            writer.write(np.full((8, 8), 9, np.uint8), metadata=None)
    start = time.perf_counter()
    with pytest.warns(ImageWarning, match="several pages"):
        as_images([tmp_path / "pages.tif"])[0]
    assert time.perf_counter() - start < 1


def test_missing_or_irregular_file_raises(tmp_path, monkeypatch):
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
        (np.zeros((9, 9), np.uint16), "type uint16; .*set white_level .* or divide by it"),
        (np.zeros((9, 9), bool), r"type bool; .*astype\(float\)"),
        (np.zeros((9, 9), complex), "type complex128"),
        (np.zeros((1, 1, 3), np.uint8), "is 1 x 1 pixels"),
        (np.zeros((7, 90, 3), np.uint8), "is 90 x 7 pixels"),
    ],
)
def test_invalid_array_raises_with_position_and_reason(pixels, array, reason):
    with pytest.raises(ImageDecodeError, match=reason) as caught:
        as_images([pixels[0], array])[1]
    assert caught.value.index == 1
    assert caught.value.path is None


def test_pil_image_of_broken_file_raises(tmp_path):
    file = tmp_path / "half.png"
    file.write_bytes(encoded("PNG", 0.5))
    with (
        Image.open(file) as image,
        pytest.raises(ImageDecodeError, match=r"position 0: .*truncated"),
    ):
        as_images([image])[0]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "TIFF", "GIF", "WEBP"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_give_an_image_or_an_error_with_the_path(kind, data):
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


def test_pil_images_are_rotated_by_exif_orientation(tmp_path):
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


def test_fingerprint_of_broken_pil_image_raises(tmp_path):
    file = tmp_path / "cut.png"
    Image.fromarray(rgb(40)).save(file)
    file.write_bytes(file.read_bytes()[:-900])
    with (
        Image.open(file) as picture,
        pytest.raises(ImageDecodeError, match="position 0: is damaged"),
    ):
        ImageSequence([picture]).fingerprint(0)


@pytest.mark.parametrize(
    "head", [b"", b"RIFF\xff\xff\xff\xffWEBPVP8L", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0"]
)
def test_files_larger_than_any_image_are_refused_quickly(head, tmp_path):
    """Neither read nor hashed."""
    path = tmp_path / "sparse.webp"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(10 * 2**30)
    images = ImageSequence([path])
    for use in (images.decode, images.fingerprint):
        with pytest.raises(ImageDecodeError, match="has 10,737,418,240 bytes; files of single"):
            use(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_reads_pil_images_while_another_thread_does():
    reading, done = threading.Event(), threading.Event()

    class Slow(Image.Image):
        def getexif(self):
            reading.set()
            done.wait(10)
            return super().getexif()

    slow = Slow()
    slow.__dict__.update(Image.new("RGB", (8, 8)).__dict__)
    reader = threading.Thread(target=lambda: ImageSequence([slow])[0])
    reader.start()
    reading.wait(10)
    child = os.fork()
    if not child:
        os._exit(7 if ImageSequence([Image.new("RGB", (8, 8))])[0].shape == (8, 8, 3) else 1)
    killer = threading.Timer(10, os.kill, (child, signal.SIGKILL))
    killer.start()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    killer.cancel()
    done.set()
    reader.join(10)
    assert status == 7


def test_colours_of_portable_pixmaps_of_12_bits_are_not_scaled_in_silence(tmp_path):
    """Pillow reduces them to 8 bits when it reads them."""
    values = np.random.default_rng(0).integers(0, 4096, (16, 16, 3)).astype(">u2")
    values[0, 0] = 4095
    file = tmp_path / "picture.ppm"
    file.write_bytes(b"P6\n16 16\n65535\n" + values.tobytes())
    with pytest.warns(ImageWarning, match="white_level"):
        assert ImageSequence([file])[0].max() == 16
    with pytest.raises(ImageDecodeError, match="white_level cannot be applied"):
        ImageSequence([file], white_level=4095)[0]
    file.write_bytes(b"P6\n16 16\n4095\n" + values.tobytes())
    np.testing.assert_array_equal(ImageSequence([file])[0], np.rint(values / 4095 * 255))
