import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import clone
from torchvision.transforms import v2

from effboost import Augmentation, ImageTransform
from effboost._transforms.foreground import crop_foreground
from effboost._transforms.image_transform import _pad_and_resize
from effboost._transforms.stain import jitter_stain, normalize_stain
from effboost.datasets import make_blood_cells
from effboost.exceptions import ImageWarning

SIDES = st.integers(8, 90)


def picture(width, height, seed=0):
    """Noise over a slope: neither flat, where any resize agrees, nor noise alone."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 150, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray((slope + rng.integers(0, 100, (height, width, 3))).astype(np.uint8))


def quietly(transform, image):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        return np.asarray(transform.prepare(image)).astype(int)


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, st.none() | st.integers(8, 64), st.integers(8, 48), st.integers(0, 99))
def test_resize_equals_torchvision_within_one_grey_level(width, height, crop, size, seed):
    image = picture(width, height, seed)
    steps = [] if crop is None else [v2.CenterCrop(crop)]
    steps.append(v2.Resize((size, size), antialias=True))
    expected = np.asarray(v2.Compose(steps)(image)).astype(int)
    got = quietly(ImageTransform(crop, size), image)
    assert np.abs(got - expected).max() <= 1


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(8, 64), st.integers(0, 99))
def test_it_equals_torchvisions_tensors_too(width, height, crop, seed):
    image = picture(width, height, seed)
    size = max(8, crop // 2)
    steps = [v2.ToImage(), v2.CenterCrop(crop), v2.Resize((size, size), antialias=True)]
    expected = v2.Compose(steps)(image).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(quietly(ImageTransform(crop, size), image) - expected).max() <= 1


@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (0.485, 0.456, 0.406)])
def test_normalize_equals_torchvision(mean):
    std = (1.0, 1.0, 1.0) if mean[0] == 0 else (0.229, 0.224, 0.225)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 10, 10, 3), dtype=np.uint8)
    steps = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    )
    expected = torch.stack([steps(Image.fromarray(x)) for x in pixels]).numpy()
    transform = ImageTransform(None, 10, normalize=(mean, std))
    np.testing.assert_allclose(transform.normalize_pixels(pixels), expected, atol=1e-6)
    scale, shift = transform.scale_and_shift()
    other = pixels.astype(np.float32) * scale + shift
    np.testing.assert_allclose(np.moveaxis(other, -1, 1), expected, atol=2e-6)


def test_the_paper_crops_448_of_450_and_resizes_to_224():
    image = picture(450, 450)
    expected = image.crop((1, 1, 449, 449)).resize((224, 224), Image.Resampling.BILINEAR)
    assert np.array_equal(ImageTransform().prepare(image), expected)


@pytest.mark.parametrize(("width", "height"), [(20, 50), (50, 20), (20, 20)])
def test_small_images_are_padded_with_black_with_a_warning(width, height):
    image = Image.new("RGB", (width, height), (255, 255, 255))
    with pytest.warns(ImageWarning, match="smaller than crop_size=40 x 40 are padded with black"):
        padded = np.asarray(ImageTransform(40, 40).prepare(image))
    assert padded.shape == (40, 40, 3)
    assert (padded == 255).sum() == 3 * min(width, 40) * min(height, 40)
    assert np.array_equal(padded, v2.CenterCrop(40)(image))


def test_without_a_crop_the_whole_image_is_used_at_its_own_size():
    image = picture(60, 30)
    whole = image.resize((30, 30), Image.Resampling.BILINEAR)
    assert np.array_equal(ImageTransform(None, 30).prepare(image), whole)
    square = picture(30, 30)
    assert np.array_equal(ImageTransform(None, 30).prepare(square), square)


@given(
    st.none() | st.integers(1, 999),
    st.integers(2, 999),
    st.tuples(*[st.floats(0, 1)] * 3),
    st.tuples(*[st.floats(0.1, 2)] * 3),
)
def test_a_transform_survives_json(crop, size, mean, std):
    transform = ImageTransform(crop, size, normalize=(mean, std)).check()
    described = json.loads(json.dumps(transform.describe()))
    normalize = (tuple(described.pop("mean")), tuple(described.pop("std")))
    assert ImageTransform(**described, normalize=normalize) == transform


def test_normalisations_by_name_are_resolved_to_numbers():
    own = ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    resolved = {
        name: ImageTransform(normalize=name).resolve(*own, 224).normalize
        for name in ("unit", "imagenet", "backbone")
    }
    assert resolved["unit"] == ((0, 0, 0), (1, 1, 1))
    assert resolved["imagenet"] == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert resolved["backbone"] == own
    assert ImageTransform(normalize=own).resolve((0, 0, 0), (1, 1, 1), 224).normalize == own
    with pytest.raises(ValueError, match="depends on the backbone"):
        ImageTransform(normalize="backbone").scale_and_shift()


def test_a_resolved_transform_does_not_follow_later_changes():
    transform = ImageTransform()
    resolved = transform.resolve((0, 0, 0), (1, 1, 1), 224)
    transform.set_params(image_size=96)
    assert resolved.image_size == 224


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_size": 0}, "'crop_size' parameter of ImageTransform must be"),
        ({"image_size": 1.5}, "'image_size' parameter of ImageTransform must be"),
        ({"normalize": "vgg"}, "'normalize' parameter of ImageTransform must be"),
        ({"normalize": ((0, 0), (1, 1))}, "expected .mean, std., each of 3 numbers"),
        ({"normalize": ((0, 0, 0), (1, 0, 1))}, "standard deviations must be above 0"),
        ({"stain": "vahadane"}, "'stain' parameter of ImageTransform must be a str among"),
        ({"foreground": 1.5}, "'foreground' parameter of ImageTransform must be"),
    ],
)
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        ImageTransform(**wrong).check()


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(91, 200), st.integers(8, 48), st.integers(0, 99))
def test_a_large_crop_is_padded_without_drawing_all_of_it(width, height, crop, size, seed):
    image = picture(width, height, seed)
    expected = quietly(ImageTransform(crop, size), image)
    got = np.asarray(_pad_and_resize(image, crop, size)).astype(int)
    assert np.abs(got - expected).max() <= 2


def test_a_crop_of_20000_pixels_is_not_drawn():
    with pytest.warns(ImageWarning, match="smaller than crop_size"):
        prepared = ImageTransform(20_000, 224).prepare(picture(450, 450))
    seen = np.argwhere(np.asarray(prepared).any(axis=2))
    assert seen.min() >= 107
    assert seen.max() <= 116


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (Augmentation(0, 0, rotation=0), lambda x: x),
        (Augmentation(1, 0, rotation=0), lambda x: x[:, ::-1]),
        (Augmentation(0, 1, rotation=0), lambda x: x[::-1]),
        (Augmentation(1, 1, rotation=0), lambda x: x[::-1, ::-1]),
    ],
)
def test_flips_that_are_certain_are_exact(augmentation, expected):
    image = picture(20, 30)
    view = augmentation.apply(image, np.random.default_rng(0))
    assert np.array_equal(view, expected(np.asarray(image)))


def test_flips_come_as_often_as_they_should():
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    rng = np.random.default_rng(0)
    augmentation = Augmentation(0.2, 0.3, rotation=0)
    views = [np.asarray(augmentation.apply(image, rng)) for _ in range(3000)]
    # The first pixel says which flips there were.
    corners = np.array([view[0, 0, 0] for view in views])
    horizontal, vertical = np.isin(corners, [3, 9]).mean(), np.isin(corners, [6, 9]).mean()
    assert horizontal == pytest.approx(0.2, abs=0.03)
    assert vertical == pytest.approx(0.3, abs=0.03)


@given(st.integers(0, 10_000))
def test_the_rotation_is_the_third_random_number_within_its_bounds(seed):
    image = picture(24, 24)
    angle = 10 * (2 * np.random.default_rng(seed).random(3)[2] - 1)
    expected = image.rotate(angle, Image.Resampling.BILINEAR)
    view = Augmentation(0, 0, rotation=10).apply(image, np.random.default_rng(seed))
    assert np.array_equal(view, expected)


def test_rotations_go_to_both_sides():
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[18:23, 36:41] = 255
    rng = np.random.default_rng(0)
    views = [Augmentation(0, 0, rotation=30).apply(Image.fromarray(dot), rng) for _ in range(200)]
    heights = [np.asarray(view)[:, :, 0].sum(axis=1) @ np.arange(41) for view in views]
    masses = [np.asarray(view, dtype=float)[:, :, 0].sum() for view in views]
    centres = np.array(heights) / masses - 20
    assert centres.min() < -5
    assert centres.max() > 5
    assert np.abs(centres).max() <= 18 * np.sin(np.radians(30)) + 1


def test_quarter_turns_and_flips_give_the_eight_views_equally_often():
    image, rng = picture(20, 20), np.random.default_rng(0)
    augmentation = Augmentation(0.5, 0.5, rotation=0, quarter_turns=True)
    pixels = np.asarray(image)
    views = [np.rot90(side, k) for side in (pixels, pixels[:, ::-1]) for k in range(4)]
    expected = {view.tobytes(): i for i, view in enumerate(views)}
    counts = np.zeros(8)
    for _ in range(1600):
        counts[expected[np.asarray(augmentation.apply(image, rng)).tobytes()]] += 1
    assert counts.min() > 140
    assert counts.max() < 260


@pytest.mark.parametrize("settings", [(0.2, 0.2, 10), (1, 0, 0), (0, 0, 0)])
def test_three_numbers_are_drawn_for_all_settings(settings):
    used, untouched = np.random.default_rng(5), np.random.default_rng(5)
    augmentation = Augmentation(*settings[:2], rotation=settings[2])
    augmentation.apply(picture(10, 10), used)
    untouched.random(3)
    assert used.random() == untouched.random()


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 180),
    st.integers(1, 9),
    st.booleans(),
    st.floats(0, 1),
)
def test_an_augmentation_survives_json(horizontal, vertical, rotation, views, turns, jitter):
    augmentation = Augmentation(
        horizontal,
        vertical,
        rotation=rotation,
        n_views=views,
        quarter_turns=turns,
        stain_jitter=jitter,
    )
    assert Augmentation.from_dict(json.loads(json.dumps(augmentation.to_dict()))) == augmentation


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_views": 0},
        {"n_views": 1.5},
        {"frozen_views": 0},
        {"rotation": np.nan},
        {"rotation": "a"},
        {"horizontal_flip": 2},
        {"vertical_flip": None},
        {"quarter_turns": 1.5},
        {"stain_jitter": 1.5},
    ],
    ids=str,
)
def test_augmentations_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' parameter of Augmentation must"):
        Augmentation(**wrong).check()


def test_colour_and_foreground_are_off_and_then_nothing_changes():
    transform = ImageTransform(None, 24)
    assert (transform.stain, transform.foreground) == (None, False)
    image = picture(30, 50)
    assert transform.prepare(image) == image.resize((24, 24), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("stain", ["reinhard", "macenko"])
def test_the_cell_is_cut_out_then_its_stains_are_normalised_then_it_is_cropped(stain):
    pixels = make_blood_cells(2, 1, image_size=96, random_state=0).images[0]
    image = Image.fromarray(pixels)
    cut = normalize_stain(crop_foreground(image), stain)
    assert cut != image
    both = ImageTransform(40, 24, stain=stain, foreground=True)
    assert both.prepare(image) == ImageTransform(40, 24).prepare(cut)
    assert both != clone(both).set_params(stain=None)
    assert ImageTransform.from_dict(json.loads(json.dumps(both.to_dict()))) == both


def test_views_without_jitter_are_the_bits_that_they_always_were():
    image, rng = picture(24, 24), np.random.default_rng(11)
    views = [Augmentation().apply(image, rng) for _ in range(5)]
    expected, rng = [], np.random.default_rng(11)
    for _ in range(5):
        horizontal, vertical, turn = rng.random(3)
        view = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if horizontal < 0.2 else image
        view = view.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if vertical < 0.2 else view
        expected.append(view.rotate(10 * (2 * turn - 1), Image.Resampling.BILINEAR))
    assert views == expected


def test_stain_jitter_follows_flips_and_rotation():
    image, rng = picture(24, 24), np.random.default_rng(3)
    view = Augmentation(stain_jitter=0.2).apply(image, np.random.default_rng(3))
    assert view == jitter_stain(Augmentation().apply(image, rng), 0.2, rng)
    assert view != Augmentation().apply(image, np.random.default_rng(3))
