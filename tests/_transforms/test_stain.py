import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.color import hed_from_rgb, rgb_from_hed

from effboost._transforms import stain as stain_module
from effboost._transforms.stain import STAINS, jitter_stain, normalize_stain
from effboost.datasets import make_blood_cells

METHODS = sorted(STAINS)


def drawn(stains, amounts, light=239):
    """A picture of two stains by Beer and Lambert's law."""
    return Image.fromarray(np.rint(light * np.exp(-amounts @ stains)).astype(np.uint8))


@pytest.fixture
def amounts():
    rng = np.random.default_rng(0)
    share = rng.beta(0.4, 0.4, (60, 60, 1))
    amounts = rng.uniform(0.3, 1.2, (60, 60, 1)) * np.concatenate([share, 1 - share], axis=2)
    amounts[:6] = 0  # the light shows
    return amounts


@pytest.fixture(scope="module")
def cells():
    images = make_blood_cells(6, 1, image_size=64, random_state=0).images
    return [Image.fromarray(pixels) for pixels in images]


def test_macenko_finds_the_stains_that_an_image_was_drawn_with(amounts):
    stains = np.array([[0.65, 0.70, 0.29], [0.15, 0.95, 0.28]])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    absorbance = stain_module._absorbance(np.asarray(drawn(stains, amounts[6:])).reshape(-1, 3))
    assert np.abs(stain_module._find_stains(absorbance) - stains).max() < 0.03


def test_macenko_makes_images_of_different_stains_amounts_and_lights_similar(amounts):
    looks = [
        ([[0.65, 0.70, 0.29], [0.15, 0.95, 0.28]], 1.0, 239),
        ([[0.80, 0.55, 0.24], [0.25, 0.85, 0.46]], 0.7, [235, 230, 200]),
        ([[0.50, 0.75, 0.43], [0.10, 0.80, 0.60]], 1.4, 250),
    ]
    pictures = [
        drawn(np.array(stains), amounts * strength, light) for stains, strength, light in looks
    ]
    before, after = (
        [np.asarray(picture, dtype=float) for picture in some]
        for some in (pictures, [normalize_stain(picture, "macenko") for picture in pictures])
    )
    for other in (1, 2):
        assert np.abs(before[other] - before[0]).mean() > 15
        assert np.abs(after[other] - after[0]).mean() < 4


def test_reinhard_gives_stained_pixels_the_mean_and_the_spread_of_the_reference(amounts):
    picture = drawn(np.array([[0.65, 0.70, 0.29], [0.15, 0.95, 0.28]]), amounts)
    stained = stain_module._absorbance(np.asarray(picture)).max(axis=2) > 0.3
    colours = np.asarray(normalize_stain(picture, "reinhard"))[stained].astype(float)
    found = np.log10((colours + 1) / 240 @ stain_module._TO_CONES.T) @ stain_module._TO_OPPONENT.T
    np.testing.assert_allclose(found.mean(axis=0), stain_module._REFERENCE_MEANS, atol=0.002)
    np.testing.assert_allclose(found.std(axis=0), stain_module._REFERENCE_SPREADS, atol=0.002)


@pytest.mark.parametrize("method", METHODS)
def test_differences_between_smears_shrink_and_black_stays_black(method, cells):
    def colours(pictures):
        pixels = [np.asarray(picture).reshape(-1, 3).astype(float) for picture in pictures]
        return np.array([some[some.max(axis=1) > 16].mean(axis=0) for some in pixels])

    changed = [normalize_stain(cell, method) for cell in cells]
    assert colours(changed).std(axis=0).mean() < 0.6 * colours(cells).std(axis=0).mean()
    for before, after in zip(cells, changed, strict=True):
        black = np.asarray(before).max(axis=2) == 0
        assert black.any()
        assert not np.asarray(after)[black].any()
        assert after.size == before.size


@pytest.mark.parametrize("method", METHODS)
def test_a_black_frame_changes_nothing_in_the_cell(method, cells):
    framed = Image.new("RGB", (164, 164))
    framed.paste(cells[0], (50, 50))
    inside = normalize_stain(framed, method).crop((50, 50, 114, 114))
    assert np.array_equal(inside, normalize_stain(cells[0], method))


def plain(*colour):
    return np.full((40, 40, 3), colour, dtype=np.uint8)


def nearly_white():
    return np.random.default_rng(0).integers(225, 256, (40, 40, 3), dtype=np.uint8)


def cut_out():
    pixels = plain(0, 0, 0)
    pixels[10:30, 10:30] = 120, 60, 150
    return pixels


def speck():
    pixels = plain(240, 240, 240)
    pixels[3:8, 3:8] = np.random.default_rng(0).integers(60, 200, (5, 5, 3))
    return pixels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "pixels",
    [plain(0, 0, 0), plain(255, 255, 255), plain(120, 60, 150), cut_out(), nearly_white(), speck()],
    ids=["black", "white", "one colour", "one colour on black", "nearly white", "a speck"],
)
def test_an_image_without_stain_is_not_changed(method, pixels):
    assert np.array_equal(normalize_stain(Image.fromarray(pixels), method), pixels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_an_image_without_one_of_its_channels_is_not_changed(method, channel):
    pixels = np.random.default_rng(0).integers(60, 230, (64, 64, 3), dtype=np.uint8)
    pixels[..., channel] = 0
    assert np.array_equal(normalize_stain(Image.fromarray(pixels), method), pixels)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, (9, 9, 3), elements=st.integers(0, 255)),
    st.integers(0, 255),
    st.integers(0, 255),
)
def test_stain_functions_accept_any_image(method, noise, low, high):
    pixels = np.clip(noise, min(low, high), max(low, high)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NaN would warn where it becomes a grey level
        out = normalize_stain(Image.fromarray(pixels), method)
        jitter_stain(Image.fromarray(pixels), 0.2, np.random.default_rng(0))
    assert out.size == (9, 9)


def test_the_stains_of_ruifrok_and_johnston_are_scikit_images():
    assert np.array_equal(stain_module._HED, rgb_from_hed)
    np.testing.assert_allclose(np.linalg.inv(stain_module._HED), hed_from_rgb)


def test_jitter_scales_and_shifts_each_stain(cells):
    picture = cells[0]
    seen = np.asarray(picture).max(axis=2) > 16
    factor, added = np.random.default_rng(7).uniform(-0.05, 0.05, (2, 3))

    def amounts(image):
        stains = stain_module._HED / np.linalg.norm(stain_module._HED, axis=1, keepdims=True)
        return stain_module._absorbance(np.asarray(image)[seen]) @ np.linalg.inv(stains)

    changed = jitter_stain(picture, 0.05, np.random.default_rng(7))
    error = amounts(changed) - (amounts(picture) * (1 + factor) + added)
    assert np.abs(error).mean() < 0.03  # grey levels are whole
    assert not np.asarray(changed)[~seen & (np.asarray(picture).max(axis=2) == 0)].any()


def test_jitter_draws_six_numbers_and_follows_its_seed(cells):
    used, untouched = np.random.default_rng(5), np.random.default_rng(5)
    view = jitter_stain(cells[0], 0.1, used)
    untouched.random(6)
    assert used.random() == untouched.random()
    assert view == jitter_stain(cells[0], 0.1, np.random.default_rng(5))
    assert len({jitter_stain(cells[0], 0.1, used).tobytes() for _ in range(20)}) == 20
