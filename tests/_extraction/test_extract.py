import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effboost._extraction.extract import _compute, extract_features
from effboost._extraction.prepared_images import PreparedImages
from effboost._images import ImageSequence
from effboost._transforms import ORIGINAL, ImageTransform, Views
from effboost.exceptions import ImageDecodeError


def prepare(X, side):
    return PreparedImages(ImageSequence(X), ImageTransform(None, side))


class ColourMeans:
    """The simplest engine there is: the mean of each channel."""

    name = "means"

    def __init__(self, batch_size=8, n_workers=3):
        self.batch_size, self.n_workers = batch_size, n_workers

    def run(self, pixels):
        assert len(pixels) == self.batch_size
        assert pixels.dtype == np.uint8
        return pixels.mean(axis=(1, 2)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24])
@pytest.mark.parametrize("engine", [(8, 1), (8, 3), (1, 4)], ids=str)
def test_rows_are_those_of_the_images_in_order_whatever_the_batches(pixels, n, engine):
    got = extract_features(prepare(pixels[:n], 40), lambda: ColourMeans(*engine), 3)
    np.testing.assert_array_equal(got, pixels[:n].mean(axis=(1, 2)).astype(np.float32))


def test_a_broken_image_stops_the_extraction_by_its_position(paths):
    Path(paths[13]).write_bytes(b"no picture")
    with pytest.raises(ImageDecodeError, match=r"position 13.*cell_13"):
        extract_features(prepare(paths, 24), ColourMeans, 3)


def test_the_first_broken_image_is_the_one_that_is_named(paths):
    for i in (5, 6, 7, 20):
        Path(paths[i]).write_bytes(b"no picture")
    for _ in range(5):
        with pytest.raises(ImageDecodeError, match="position 5"):
            extract_features(prepare(paths, 24), lambda: ColourMeans(1, 4), 3)


def test_no_more_is_begun_after_an_error_and_no_thread_is_left(pixels):
    begun = []

    class Failing(ColourMeans):
        def run(self, pixels):
            begun.append(1)
            raise KeyboardInterrupt

    many = ImageSequence(np.repeat(pixels[:1], 200, axis=0))
    with pytest.raises(KeyboardInterrupt):
        extract_features(PreparedImages(many, ImageTransform(None, 24)), lambda: Failing(1, 2), 3)
    assert len(begun) < 20
    assert not [t for t in threading.enumerate() if t.name.startswith("effboost")]


def test_few_pictures_are_in_memory_at_a_time(pixels):
    """However slow the reader of the features is, the workers do not run ahead."""
    done = []

    class Counting(ColourMeans):
        def run(self, pixels):
            done.append(1)
            return super().run(pixels)

    many = np.repeat(pixels[:1], 200, axis=0)
    found = _compute(prepare(many, 24), range(200), Counting(1, 2), ORIGINAL)
    next(found)
    time.sleep(0.1)
    assert len(done) <= 12
    del found  # or the pool would wait for its garbage collection


def test_one_picture_that_stands_there_often_is_read_by_one_thread_at_a_time(tmp_path):
    """Pillow reads a picture when it is first looked at, and is not made for two who look."""
    Image.fromarray(np.full((64, 64, 3), 7, np.uint8)).save(tmp_path / "a.png")
    for _ in range(20):
        with Image.open(tmp_path / "a.png") as picture:
            got = extract_features(
                prepare([picture] * 16, 24),
                lambda: ColourMeans(1, 4),
                3,
            )
        np.testing.assert_array_equal(got, np.full((16, 3), 7))


def test_features_that_are_not_finite_are_an_error_and_not_a_missing_value(paths):
    class Broken(ColourMeans):
        def run(self, pixels):
            out = super().run(pixels)
            out[2] = np.nan
            return out

    with pytest.raises(ImageDecodeError, match=r"position 2, .*NaN or infinity"):
        extract_features(prepare(paths, 24), Broken, 3)


def test_progress_is_shown_on_stderr_when_asked_for(pixels, capsys):
    extract_features(prepare(pixels, 24), ColourMeans, 3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "24/24" in err


class Corner(ColourMeans):
    """The top left pixel: other views have other ones."""

    def run(self, pixels):
        assert len(pixels) == self.batch_size
        return pixels[:, 0, 0].astype(np.float32)


@pytest.mark.parametrize("engine", [(8, 1), (1, 4), (3, 2), (20, 1)], ids=str)
def test_the_eight_views_are_all_there_is_to_a_square_whatever_the_batches(pixels, engine):
    images = prepare(pixels[:9], 40)
    each = extract_features(
        images, lambda: Corner(*engine), 24, views=Views(dihedral=True, average=False)
    ).reshape(9, 8, 3)
    mean = extract_features(images, lambda: Corner(*engine), 3, views=Views(dihedral=True))
    corners = pixels[:9][:, [0, 0, -1, -1], [0, -1, -1, 0]]
    # Each corner comes to the top left by a turn, and once more by a mirrored one.
    np.testing.assert_array_equal(each[:, :4], corners)
    assert sorted(map(tuple, each[0, 4:])) == sorted(map(tuple, corners[0].astype(float)))
    np.testing.assert_allclose(mean, each.mean(axis=1))
