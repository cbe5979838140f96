"""Memory of large pictures: of one, and of several threads together."""

import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from effboost import ImageSequence
from effboost._images.budget import BUDGET, MemoryBudget
from effboost.exceptions import ImageDecodeError

# The largest square below the limit of pixels.
SIDE = 9459
GIGABYTE = 2**30

needs_data_limit = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux counts all private memory in RLIMIT_DATA"
)


LARGE = {
    "16-bit grey": ("I;16", 9000, ".png", {}),
    "32-bit integers": ("I", 9000, ".tif", {"compression": "tiff_lzw"}),
    "floats": ("F", 0.5, ".tif", {"compression": "tiff_lzw"}),
    "alpha": ("RGBA", (10, 90, 200, 50), ".png", {}),
    "turned alpha": ("RGBA", (10, 90, 200, 50), ".png", {"turned": True}),
    "progressive": ("RGB", (10, 90, 200), ".jpg", {"progressive": True}),
}


def write_large(folder, kind):
    mode, colour, suffix, options = LARGE[kind]
    if options.get("turned"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif}
    path = folder / f"large {kind}{suffix}"
    Image.new(mode, (SIDE, SIDE), colour).save(path, **options)
    return str(path)


def run_with_memory(code, n_bytes):
    """Run code in a process that may take some bytes more than what its imports take."""
    limit = (
        "import resource, warnings\n"
        "from effboost import ImageSequence\n"
        "import numpy, PIL.TiffImagePlugin, PIL.PngImagePlugin, PIL.JpegImagePlugin\n"
        "warnings.simplefilter('ignore')\n"
        "status = open('/proc/self/status').read()\n"
        "base = 1024 * int(status.partition('VmData:')[2].split()[0])\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, (base + {n_bytes},) * 2)\n"
    )
    return subprocess.run([sys.executable, "-c", limit + code], capture_output=True, text=True)


@pytest.mark.slow
@needs_data_limit
def test_largest_images_are_decoded_within_a_gigabyte(tmp_path):
    paths = {kind: write_large(tmp_path, kind) for kind in LARGE}
    code = (
        f"for kind, path in {paths!r}.items():\n"
        "    print(kind, ImageSequence([path]).decode(0).resize((2, 2)).size)\n"
    )
    result = run_with_memory(code, GIGABYTE)
    assert result.stdout.splitlines() == [f"{kind} (2, 2)" for kind in LARGE], result.stderr


@pytest.mark.slow
@needs_data_limit
def test_threads_share_one_gigabyte(tmp_path):
    """Two of these pictures fit at a time: four threads at once would take 2.2 GB."""
    path = write_large(tmp_path, "16-bit grey")
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        f"images = ImageSequence([{path!r}] * 4)\n"
        "shrink = lambda image: image.resize((2, 2)).size\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    print(set(pool.map(lambda i: images.decode(i, shrink), range(4))))\n"
    )
    result = run_with_memory(code, int(1.4 * GIGABYTE))
    assert result.stdout == "{(2, 2)}\n", result.stderr


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_large_webp_raises_before_memory_is_reserved(tmp_path, mode):
    options = {"lossless": mode == "RGB", "quality": 0, "method": 0}
    Image.new(mode, (8000, 8000), (1, 2, 3, 4)[: len(mode)]).save(tmp_path / "a.webp", **options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageDecodeError, match=r"is 8000 x 8000 pixels; WebP .* 17 bytes") as error:
        ImageSequence([tmp_path / "a.webp"])[0]
    assert "save it in another format, or cut it into cells first" in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_webp_sizes_are_read_from_every_kind_of_header(tmp_path, monkeypatch, mode, lossless):
    Image.new(mode, (60, 40), (9,) * len(mode)).save(tmp_path / "a.webp", lossless=lossless)
    assert ImageSequence([tmp_path / "a.webp"])[0].shape == (40, 60, 3)
    monkeypatch.setattr(BUDGET, "limit", 60 * 40 * 17 - 1)
    with pytest.raises(ImageDecodeError, match="is 60 x 40 pixels; WebP"):
        ImageSequence([tmp_path / "a.webp"])[0]


def test_file_that_is_read_at_once_must_be_below_half_a_gigabyte(tmp_path):
    path = tmp_path / "sparse.webp"
    Image.new("RGB", (20, 20)).save(path)
    with path.open("r+b") as file:
        file.truncate(3 * 10**9)
    with pytest.raises(ImageDecodeError, match=r"3\.0 GB of it would have to be read at once"):
        ImageSequence([path])[0]


def test_large_files_with_small_first_page_are_read(tmp_path):
    path = tmp_path / "sparse.tif"
    Image.new("RGB", (2000, 1000), (1, 2, 3)).save(path)
    with path.open("r+b") as file:
        file.truncate(3 * 10**9)
    assert ImageSequence([path])[0].mean(axis=(0, 1)).tolist() == [1, 2, 3]


# --- pictures in strips --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "F", "I;16"])
def test_strips_give_the_same_pixels(tmp_path, monkeypatch, mode):
    rgb = np.random.default_rng(0).integers(0, 256, (61, 37, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    if mode == "P":
        image = image.quantize(16)
        image.info["transparency"] = 3
    elif mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        values = rgb[..., 0].astype(np.float64) * (1 / 255 if mode == "F" else 257)
        image = Image.fromarray(values.astype(kind))
    else:
        image = image.convert(mode)
    path = tmp_path / ("a.png" if mode == "P" else "a.tif")
    image.save(path)
    whole = [ImageSequence(X)[0] for X in ([path], [image])]
    monkeypatch.setattr("effboost._images.depth._STRIP_PIXELS", 100)
    np.testing.assert_array_equal([ImageSequence(X)[0] for X in ([path], [image])], whole)


def test_strips_of_arrays_give_the_same_pixels(monkeypatch):
    floats = np.random.default_rng(0).random((61, 37, 3))
    whole = ImageSequence([floats])[0]
    monkeypatch.setattr("effboost._images.depth._STRIP_PIXELS", 100)
    np.testing.assert_array_equal(ImageSequence([floats])[0], whole)
    floats[50, 3, 1] = np.nan
    floats[3, 4, 0] = np.inf
    with pytest.raises(ImageDecodeError, match="has 2 NaN or infinite pixels"):
        ImageSequence([floats])[0]


# --- the budget ----------------------------------------------------------------------------


def test_thread_waits_until_memory_is_free():
    budget, order = MemoryBudget(10), []

    def take(n_bytes):
        with budget.hold(n_bytes):
            order.append(n_bytes)

    with budget.hold(6):
        large = threading.Thread(target=take, args=(5,))
        large.start()
        time.sleep(0.05)
        small = threading.Thread(target=take, args=(1,))
        small.start()
        time.sleep(0.05)
        assert order == []  # the small one does not overtake the large one
    large.join(5)
    small.join(5)
    assert sorted(order) == [1, 5]
    assert budget._used == 0


def test_nested_requests_do_not_wait():
    budget = MemoryBudget(10)
    with budget.hold(8), budget.hold(8), budget.hold(10**9):
        assert budget._used == 26
    assert budget._used == 0


def test_budget_is_released_after_an_error():
    budget = MemoryBudget(10)
    with pytest.raises(KeyError), budget.hold(8):
        raise KeyError
    with budget.hold(10):
        pass


def test_function_may_decode_other_images(paths):
    images = ImageSequence(paths)
    other = images.decode(0, lambda image: (image.size, images.decode(1).size))
    assert other == ((40, 40), (40, 40))
    assert BUDGET._used == 0


def test_errors_of_the_function_are_not_changed(paths):
    def fail(image):
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match="of the user"):
        ImageSequence(paths).decode(0, fail)
    with pytest.raises(ZeroDivisionError, match="of the user"):
        ImageSequence(paths).map(fail)[0]
    assert BUDGET._used == 0
