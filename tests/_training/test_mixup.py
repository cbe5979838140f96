import numpy as np
import pytest
import torch

from effboost import Regularization
from effboost._training.mixup import mix

TARGET = torch.arange(6)


def batch(kind):
    rng = np.random.default_rng(0)
    if kind == "pixels":
        x = torch.from_numpy(rng.integers(0, 256, (6, 20, 30, 3), dtype=np.uint8))
    else:
        x = torch.from_numpy(rng.normal(size=(6, 5, 20, 30)).astype(np.float32))
    return {"x": x, "weight": torch.arange(1.0, 7.0)}


def shares_of(mixed, inputs):
    """The share of the greater part of each image, by the weights."""
    return (mixed["weight"] / inputs["weight"]).numpy()


@pytest.mark.parametrize("kind", ["pixels", "maps"])
@pytest.mark.parametrize("seed", range(5))
def test_mixup_gives_weighted_means_and_their_weights(kind, seed):
    inputs = batch(kind)
    mixed = mix(inputs, TARGET, Regularization(mixup_alpha=0.8), np.random.default_rng(seed))
    share, other = shares_of(mixed, inputs), mixed["other"]
    assert 0.5 <= share[0] <= 1
    np.testing.assert_allclose(share, share[0], rtol=1e-6)
    assert sorted(other.tolist()) == list(range(6))
    expected = share[0] * inputs["x"].float() + (1 - share[0]) * inputs["x"][other].float()
    assert mixed["x"].dtype == inputs["x"].dtype
    tolerance = 0.501 if kind == "pixels" else 1e-5
    np.testing.assert_allclose(mixed["x"].float(), expected, atol=tolerance)
    np.testing.assert_allclose(
        mixed["other_weight"], (1 - share[0]) * inputs["weight"][other], rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["pixels", "maps"])
@pytest.mark.parametrize("seed", range(5))
def test_cutmix_pastes_a_rectangle_as_large_as_its_weight(kind, seed):
    inputs = batch(kind)
    kept = inputs["x"].clone()
    mixed = mix(inputs, TARGET, Regularization(cutmix_alpha=1), np.random.default_rng(seed))
    assert torch.equal(inputs["x"], kept)
    partner = inputs["x"][mixed["other"]]
    channels = 3 if kind == "pixels" else 1
    for i in np.flatnonzero(mixed["other"] != TARGET):
        foreign = (mixed["x"][i] != inputs["x"][i]).any(dim=channels - 1)
        rows, columns = (np.flatnonzero(foreign.any(dim=d)) for d in (1, 0))
        area = len(rows) * len(columns)
        box = np.zeros((20, 30), bool)
        box[np.ix_(rows, columns)] = True
        pasted = torch.from_numpy(box).unsqueeze(channels - 1)
        assert torch.equal(mixed["x"][i], torch.where(pasted, partner[i], inputs["x"][i]))
        assert shares_of(mixed, inputs)[i] == pytest.approx(1 - area / 600, rel=1e-5)


def test_each_batch_draws_one_of_two_ways():
    inputs, rng = batch("pixels"), np.random.default_rng(0)
    recipe = Regularization(mixup_alpha=1, cutmix_alpha=1)
    blended = []
    for _ in range(40):
        x = mix(inputs, TARGET, recipe, rng)["x"].numpy().astype(int)
        sources = inputs["x"].numpy().astype(int)
        # Pasted pixels are those of some image; means are of none.
        blended.append(bool((np.abs(x[:, None] - sources[None]).sum(-1).min(1) > 0).any()))
    assert 8 < sum(blended) < 32


def test_shares_follow_the_beta_distribution():
    inputs, rng = batch("pixels"), np.random.default_rng(0)
    inputs["x"] = inputs["x"][:, :2, :2]
    recipe = Regularization(mixup_alpha=0.3)
    shares = [shares_of(mix(inputs, TARGET, recipe, rng), inputs)[0] for _ in range(2000)]
    drawn = rng.beta(0.3, 0.3, 20000)
    assert np.mean(shares) == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.02)
