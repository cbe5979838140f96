import numpy as np
import pytest

from effboost._transforms.colours import N_COLOURS, measure_colours


@pytest.mark.parametrize("side", [2, 15, 16, 24, 50])
def test_colours_of_any_side_are_finite(side, pixels):
    found = measure_colours(np.resize(pixels[0], (side, side, 3)))
    assert found.shape == (N_COLOURS,)
    assert np.isfinite(found).all()


def test_a_mirror_image_has_the_same_colours(pixels):
    picture = pixels[0][:32, :32]
    np.testing.assert_allclose(measure_colours(picture[:, ::-1]), measure_colours(picture))
    turned = measure_colours(np.rot90(picture))
    np.testing.assert_allclose(
        np.delete(turned, [12, 13, 14]), np.delete(measure_colours(picture), [12, 13, 14])
    )


def test_channels_are_told_apart(pixels):
    red, green = (measure_colours(pixels[i])[:3] for i in (0, 1))
    assert red.argmax() == 0
    assert green.argmax() == 1
