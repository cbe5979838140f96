import numpy as np
import pytest
import torch
from torch import nn

from effboost import Regularization
from effboost._training.weight_averaging import WeightAverage


def run(recipe, n_steps=8):
    """Return the weights after each step and the average of them."""
    weight = nn.Parameter(torch.zeros(3, 2))
    average = WeightAverage([weight], recipe, n_steps)
    rng, path = np.random.default_rng(0), []
    for _ in range(n_steps):
        weight.data = torch.from_numpy(rng.normal(size=(3, 2)).astype(np.float32))
        path.append(weight.detach().numpy().copy())
        average.add()
    average.show()
    return path, weight.detach().numpy().copy(), average, weight


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_ema_equals_the_sum_made_by_hand(decay):
    path, got, *_ = run(Regularization(weight_average="ema", ema_decay=decay))
    expected = path[0]
    for t, weights in enumerate(path[1:], start=1):
        kept = min(decay, (1 + t) / (10 + t))
        expected = kept * expected + (1 - kept) * weights
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("start", "n_averaged"), [(0, 8), (0.5, 4), (0.9, 1)])
def test_swa_is_the_mean_of_the_last_steps(start, n_averaged):
    path, got, *_ = run(Regularization(weight_average="swa", swa_start=start))
    np.testing.assert_allclose(got, np.mean(path[-n_averaged:], axis=0), rtol=1e-5, atol=1e-6)


def test_weights_and_average_change_places_and_back():
    path, shown, average, weight = run(Regularization(weight_average="swa", swa_start=0))
    average.show()
    np.testing.assert_array_equal(weight.detach(), shown)
    average.show(False)
    np.testing.assert_array_equal(weight.detach(), path[-1])
    average.show()
    np.testing.assert_array_equal(weight.detach(), shown)
