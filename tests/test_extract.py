from pathlib import Path

import numpy as np
import pytest

from effboost._extract import extract_features
from effboost._images import ImageSequence
from effboost._transforms import ImageTransform
from effboost.exceptions import ImageDecodeError


class ColourMeans:
    """The simplest engine there is: the mean of each channel."""

    def __init__(self, batch_size=8):
        self.batch_size = batch_size

    def run(self, pixels):
        assert len(pixels) == self.batch_size
        assert pixels.dtype == np.uint8
        return pixels.mean(axis=(1, 2)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24])
def test_rows_are_those_of_the_images_in_order_whatever_the_batches(pixels, n):
    transform = ImageTransform(None, 40)
    got = extract_features(ImageSequence(pixels[:n]), transform, ColourMeans, 3)
    np.testing.assert_array_equal(got, pixels[:n].mean(axis=(1, 2)).astype(np.float32))


def test_a_broken_image_stops_the_extraction_by_its_position(paths):
    Path(paths[13]).write_bytes(b"no picture")
    with pytest.raises(ImageDecodeError, match=r"position 13.*cell_13"):
        extract_features(ImageSequence(paths), ImageTransform(None, 24), ColourMeans, 3)


def test_features_that_are_not_finite_are_an_error_and_not_a_missing_value(paths):
    class Broken(ColourMeans):
        def run(self, pixels):
            out = super().run(pixels)
            out[2] = np.nan
            return out

    with pytest.raises(ImageDecodeError, match=r"position 2, .*NaN or infinity"):
        extract_features(ImageSequence(paths), ImageTransform(None, 24), Broken, 3)


def test_progress_is_shown_on_stderr_when_asked_for(pixels, capsys):
    extract_features(ImageSequence(pixels), ImageTransform(None, 24), ColourMeans, 3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "24/24" in err
