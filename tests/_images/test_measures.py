import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from effboost._images.measures import MEASURES, measure
from effboost.datasets import make_blood_cells


@pytest.fixture(scope="module")
def cell():
    cells = make_blood_cells(n_subjects=2, images_per_subject=1, image_size=96, random_state=0)
    return Image.fromarray(cells.images[0])


def test_sides_are_in_doublings(cell):
    short, long = measure(cell.resize((64, 128)))[:2]
    assert (short, long) == (6, 7)


def test_blur_lowers_sharpness_and_contrast_does_not(cell):
    sharpness = [
        measure(cell.filter(ImageFilter.GaussianBlur(radius)))[-1] for radius in (0, 1, 2, 4)
    ]
    assert (np.diff(sharpness) < -0.05).all()
    dull = ImageEnhance.Contrast(cell).enhance(0.6)
    assert abs(measure(dull)[-1] - sharpness[0]) < 0.1


def test_light_raises_exposure(cell):
    bright, dark = (measure(ImageEnhance.Brightness(cell).enhance(by)) for by in (1.2, 0.5))
    assert (bright[2:4] > measure(cell)[2:4]).all()
    assert (dark[2:4] < measure(cell)[2:4]).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 700), (3, 3), (2000, 40)])
@pytest.mark.parametrize("level", [0, 255])
def test_images_of_any_size_without_content(size, level):
    found = measure(Image.new("RGB", size, (level,) * 3))
    assert found.shape == (len(MEASURES),)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[2:4], level)
