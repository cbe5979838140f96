import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.filters import threshold_otsu

from effboost._transforms.foreground import cell_box, crop_foreground, crop_masked, otsu_threshold
from effboost.datasets import make_blood_cells


@given(arrays(np.uint8, (6, 7)))
def test_otsus_threshold_parts_pixels_as_scikit_images_does(grey):
    assert np.array_equal(grey > otsu_threshold(grey), grey > threshold_otsu(grey))


def test_the_square_contains_the_whole_cell_in_its_middle():
    cells = make_blood_cells(4, 3, image_size=96, return_masks=True, random_state=0)
    for pixels, mask in zip(cells.images, cells.masks, strict=True):
        cut = np.asarray(crop_foreground(Image.fromarray(pixels)))
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert cut.shape[0] == cut.shape[1]
        assert longest <= cut.shape[0] <= 1.2 * longest + 1
        # Cells are brighter than 0 in all their pixels, the background is not.
        assert (cut.max(axis=2) > 0).sum() >= 0.99 * mask.sum()


def scene(background, cell, box, size=(60, 80)):
    pixels = np.full((*size, 3), background, dtype=np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = cell
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("background", "cell"), [(0, 150), (230, 90)])
def test_cells_are_found_on_black_and_in_bright_light(background, cell):
    cut = crop_foreground(scene(background, cell, (30, 20, 50, 40)))
    assert cut.size == (24, 24)
    assert np.all(np.asarray(cut)[2:-2, 2:-2] == cell)
    assert np.all(np.asarray(cut)[[0, 1, -2, -1]] == background)


def test_the_largest_of_several_parts_is_taken():
    image = scene(0, 200, (2, 2, 12, 12))
    image.paste(scene(180, 180, (0, 0, 0, 0), (20, 20)), (40, 30))
    assert np.asarray(crop_foreground(image)).max() == 180


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 20, 20), (24, 24)),  # moved to stay within the picture
        ((62, 42, 80, 60), (22, 22)),
        ((10, 10, 70, 50), (72, 60)),  # a square has no room
    ],
)
def test_squares_stay_within_the_image(box, size):
    cut = crop_foreground(scene(0, 200, box))
    assert cut.size == size
    left, top, right, bottom = box
    assert (np.asarray(cut)[..., 0] == 200).sum() == (right - left) * (bottom - top)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("size", [0, 5])
def test_an_image_without_a_cell_is_not_cropped(value, size):
    image = scene(value, 255 - value // 2, (20, 20, 20 + size, 20 + size))
    assert crop_foreground(image).size == (80, 60)


def test_no_box_without_foreground():
    assert cell_box(np.zeros((20, 20), bool)) is None
    assert cell_box(np.ones((20, 30), bool)) == (0, 0, 30, 20)


@pytest.mark.parametrize(
    ("box", "left_of_it", "size"),
    [
        ((30, 20, 50, 40), 30, 20),
        ((30, 20, 50, 30), 30, 20),  # a square, also around what is not
        ((0, 20, 20, 40), 0, 20),  # cut at the border
        ((70, 10, 80, 40), 50, 30),  # moved to stay within the picture
    ],
)
def test_an_image_whose_background_was_cut_out_is_cropped_to_the_square_around_the_rest(
    box, left_of_it, size
):
    image = scene(0, 150, box)
    columns = np.arange(80, dtype=np.uint8)
    pixels = np.asarray(image).copy()
    pixels[..., 1] = np.where(pixels[..., 1] > 0, 100 + columns, 0)
    cut = np.asarray(crop_masked(Image.fromarray(pixels)))
    assert cut.shape == (size, size, 3)
    left, top, right, bottom = box
    np.testing.assert_array_equal(
        cut[..., 1].max(axis=0)[left - left_of_it : right - left_of_it], 100 + columns[left:right]
    )
    assert (cut[..., 0] == 150).sum() == (right - left) * (bottom - top)


def test_specks_and_traces_of_compression_do_not_count():
    pixels = np.asarray(scene(0, 150, (30, 20, 50, 40))).copy()
    pixels[pixels.sum(axis=2) == 0] = 8
    pixels[5, 70] = 255
    assert crop_masked(Image.fromarray(pixels)).size == (20, 20)


@pytest.mark.parametrize(
    "image",
    [
        scene(230, 90, (30, 20, 50, 40)),  # in bright light
        scene(9, 90, (30, 20, 50, 40)),
        scene(0, 90, (0, 10, 80, 40)),  # more than an eighth of the border
        scene(0, 90, (30, 20, 37, 40)),  # below 8 pixels
        scene(0, 0, (0, 0, 0, 0)),
    ],
)
def test_other_images_are_not_cropped_as_masked(image):
    assert crop_masked(image).size == image.size
