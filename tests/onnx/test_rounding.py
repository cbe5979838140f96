import numpy as np
import pytest
import torch
from torch.nn import functional

from effboost.onnx._rounding import extract_patches, round_weights


@pytest.mark.parametrize(
    ("kernel", "groups", "strides", "pads", "dilations"),
    [
        ((1, 1), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
        ((3, 3), 6, (2, 2), (0, 0, 1, 1), (1, 1)),
        ((3, 3), 2, (1, 1), (2, 2, 2, 2), (2, 2)),
        ((5, 3), 1, (2, 1), (1, 0, 2, 1), (1, 1)),
    ],
)
def test_patches_times_weights_are_the_convolution(kernel, groups, strides, pads, dilations):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 6, 13, 12)).astype(np.float32)
    weights = rng.normal(size=(12, 6 // groups, *kernel)).astype(np.float32)
    found = extract_patches(
        x, kernel, groups=groups, strides=strides, pads=pads, dilations=dilations
    )
    got = weights.reshape(groups, 12 // groups, -1) @ found
    top, left, bottom, right = pads
    padded = functional.pad(torch.from_numpy(x), (left, right, top, bottom))
    expected = functional.conv2d(
        padded, torch.from_numpy(weights), stride=strides, dilation=dilations, groups=groups
    )
    np.testing.assert_allclose(got.reshape(12, -1), expected.numpy().reshape(12, -1), atol=1e-4)


def test_of_large_maps_a_part_of_the_patches_is_used():
    found = extract_patches(
        np.zeros((1, 2, 100, 90), np.float32),
        (1, 1),
        groups=1,
        strides=(1, 1),
        pads=(0, 0, 0, 0),
        dilations=(1, 1),
    )
    assert found.shape == (1, 2, 1000)


def test_inputs_that_are_alike_change_less_than_by_plain_rounding():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 5, 9))
    inputs = 1 + 0.1 * rng.normal(size=(2, 9, 400))
    moments = inputs @ inputs.transpose(0, 2, 1) / 400
    scales = np.abs(weights).max(axis=2) / 64
    plain = np.round(weights / scales[:, :, None])
    better = round_weights(weights, moments, scales, 64)
    assert (better == np.round(better)).all()
    assert np.abs(better).max() <= 64

    def error(whole):
        return np.abs((whole * scales[:, :, None] - weights) @ inputs).mean()

    assert error(better) < error(plain) / 2


def test_independent_inputs_and_dead_ones_are_rounded_to_the_nearest():
    weights = np.random.default_rng(0).normal(size=(1, 4, 6))
    scales = np.full((1, 4), 0.1)
    for moments in (np.eye(6)[None], np.zeros((1, 6, 6))):
        got = round_weights(weights, moments, scales, 64)
        np.testing.assert_array_equal(got, np.round(weights / 0.1))
