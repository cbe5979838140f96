import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effboost._extraction.cache import Cache
from effboost._extraction.extract import FeatureCache, _compute, compute_features
from effboost._extraction.prepared_images import PreparedImages
from effboost._images import ImageSequence
from effboost._transforms import ORIGINAL, ImageTransform, Views
from effboost.exceptions import ImageDecodeError


def prepare(X, side):
    return PreparedImages(ImageSequence(X), ImageTransform(None, side))


class ColourMeans:
    """The simplest runtime: the mean of each channel."""

    name = "means"

    def __init__(self, batch_size=8, n_workers=3):
        self.batch_size, self.n_workers = batch_size, n_workers

    def run(self, pixels):
        assert len(pixels) == self.batch_size
        assert pixels.dtype == np.uint8
        return pixels.mean(axis=(1, 2)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24])
@pytest.mark.parametrize("sizes", [(8, 1), (8, 3), (1, 4)], ids=str)
def test_rows_are_in_the_order_of_the_images_for_any_batch_size(pixels, n, sizes):
    got = compute_features(prepare(pixels[:n], 40), lambda: ColourMeans(*sizes), 3)
    np.testing.assert_array_equal(got, pixels[:n].mean(axis=(1, 2)).astype(np.float32))


@pytest.mark.parametrize(
    "transform",
    [
        ImageTransform(None, 40),
        ImageTransform(None, 24),
        ImageTransform(30, 40),
        ImageTransform(None, 40, foreground=True),
        ImageTransform(None, 40, stain="reinhard"),
    ],
    ids=["as it is", "resized", "cropped", "foreground", "stain"],
)
def test_pixels_in_memory_are_prepared_like_images(pixels, transform):
    """Arrays of the right size are not converted to images and back."""
    found = PreparedImages(ImageSequence(pixels)[::-2], transform).pixels([3, 0])
    expected = [transform.prepare(Image.fromarray(pixels[i])) for i in (17, 23)]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_arrays_that_are_too_small_raise(pixels):
    with pytest.raises(ImageDecodeError, match=r"position 0.*7 x 7 pixels; at least 8 x 8"):
        prepare(pixels[:, :7, :7], 7).pixels([0])


def test_broken_image_raises_with_its_position(paths):
    Path(paths[13]).write_bytes(b"no picture")
    with pytest.raises(ImageDecodeError, match=r"position 13.*cell_13"):
        compute_features(prepare(paths, 24), ColourMeans, 3)


def test_first_of_several_broken_images_is_reported(paths):
    for i in (5, 6, 7, 20):
        Path(paths[i]).write_bytes(b"no picture")
    for _ in range(5):
        with pytest.raises(ImageDecodeError, match="position 5"):
            compute_features(prepare(paths, 24), lambda: ColourMeans(1, 4), 3)


def test_error_stops_the_extraction_and_its_threads(pixels):
    begun = []

    class Failing(ColourMeans):
        def run(self, pixels):
            begun.append(1)
            raise KeyboardInterrupt

    many = ImageSequence(np.repeat(pixels[:1], 200, axis=0))
    with pytest.raises(KeyboardInterrupt):
        compute_features(PreparedImages(many, ImageTransform(None, 24)), lambda: Failing(1, 2), 3)
    assert len(begun) < 20
    assert not [t for t in threading.enumerate() if t.name.startswith("effboost")]


def test_workers_do_not_run_ahead_of_the_reader(pixels):
    """However slow the reader of the features is, the workers do not run ahead."""
    done = []

    class Counting(ColourMeans):
        def run(self, pixels):
            done.append(1)
            return super().run(pixels)

    many = np.repeat(pixels[:1], 200, axis=0)
    found = _compute(prepare(many, 24), range(200), Counting(1, 2), ORIGINAL, 3)
    next(found)
    time.sleep(0.1)
    assert len(done) <= 12
    del found  # or the pool would wait for its garbage collection


def test_repeated_image_is_decoded_by_one_thread_at_a_time(tmp_path):
    """Pillow reads a picture when it is first looked at, and is not made for two who look."""
    Image.fromarray(np.full((64, 64, 3), 7, np.uint8)).save(tmp_path / "a.png")
    for _ in range(20):
        with Image.open(tmp_path / "a.png") as picture:
            got = compute_features(
                prepare([picture] * 16, 24),
                lambda: ColourMeans(1, 4),
                3,
            )
        np.testing.assert_array_equal(got, np.full((16, 3), 7))


def test_features_that_are_not_finite_raise_with_the_position(paths):
    class Broken(ColourMeans):
        def run(self, pixels):
            out = super().run(pixels)
            out[2] = np.nan
            return out

    with pytest.raises(ImageDecodeError, match=r"position 2, .*NaN or infinity"):
        compute_features(prepare(paths, 24), Broken, 3)


def test_progress_is_shown_on_stderr(pixels, capsys):
    compute_features(prepare(pixels, 24), ColourMeans, 3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "24/24" in err


class Corner(ColourMeans):
    """The top left pixel: other views have other ones."""

    def run(self, pixels):
        assert len(pixels) == self.batch_size
        return pixels[:, 0, 0].astype(np.float32)


@pytest.mark.parametrize("sizes", [(8, 1), (1, 4), (3, 2), (20, 1)], ids=str)
def test_dihedral_views_are_the_eight_orientations_for_any_batch_size(pixels, sizes):
    images = prepare(pixels[:9], 40)
    each = compute_features(
        images, lambda: Corner(*sizes), 24, views=Views("dihedral", average=False)
    ).reshape(9, 8, 3)
    mean = compute_features(images, lambda: Corner(*sizes), 3, views=Views("dihedral"))
    corners = pixels[:9][:, [0, 0, -1, -1], [0, -1, -1, 0]]
    # Each corner comes to the top left by a turn, and once more by a mirrored one.
    np.testing.assert_array_equal(each[:, :4], corners)
    assert sorted(map(tuple, each[0, 4:])) == sorted(map(tuple, corners[0].astype(float)))
    np.testing.assert_allclose(mean, each.mean(axis=1))


def test_cached_rows_that_cannot_be_features_are_computed_again(pixels, tmp_path):
    images = prepare(pixels, 40)
    kept = FeatureCache(Cache(tmp_path), b"origin")

    def extract():
        return compute_features(images, ColourMeans, 3, feature_cache=kept)

    expected = extract()
    right = {kept.key(images.fingerprint(i)): row.tobytes() for i, row in enumerate(expected)}
    for wrong in (
        np.float32([1]),  # would be spread over the whole row
        np.zeros(4, np.float32),
        np.zeros(3, np.float64),
        np.float32([1, np.nan, 1]),
        np.float32([1, np.inf, 1]),
        np.float32([]),
    ):
        keys = list(right)[::5]
        kept.cache.put(dict.fromkeys(keys, wrong.tobytes()))
        np.testing.assert_array_equal(extract(), expected)
        assert kept.cache.get(list(right)) == right  # and kept as they should be
    kept.cache.put(dict.fromkeys(right, b"123"))  # not even numbers
    np.testing.assert_array_equal(extract(), expected)
