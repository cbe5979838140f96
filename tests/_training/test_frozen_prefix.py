"""Frozen first stages: the same training, for less work."""

import numpy as np
import pytest
import torch
from torch import nn

import effboost._training.module
from common.networks import TinyNet, tiny_featurizer
from effboost import Augmentation, ImageSequence
from effboost._training.frozen_prefix import PrefixedDataset, find_prefix
from effboost.backbones import build_backbone, get_backbone_spec, list_frozen, remove_head


def network(name, n_last, seed=0, image_size=None):
    spec = get_backbone_spec(name)
    module = build_backbone(spec, None, seed=seed, image_size=image_size)
    frozen = list_frozen(module, spec, n_last)
    return remove_head(module, spec), frozen


@pytest.mark.parametrize(
    ("name", "n_last", "side", "last"),
    [
        ("efficientnet_b0", 2, 64, "features.6"),
        ("efficientnet_b0", 0, 64, "avgpool"),
        ("resnet18", 1, 64, "layer3"),
        ("mobilenet_v2", 3, 64, "features.15"),
        ("vgg16", 2, 64, "features.27"),
        (TinyNet, 2, 24, "features.2"),
        ("timm/test_vit", 1, 32, "blocks.4"),
        ("timm/test_vit", 0, 32, "head_drop"),
        ("timm/test_vit3", 2, 32, "blocks.7"),
        ("timm/vit_tiny_patch16_dinov3_qkvb", 3, 32, "blocks.8"),
        ("timm/test_efficientnet", 2, 32, "blocks.3"),
    ],
    ids=str,
)
def test_the_rest_of_a_network_continues_from_the_output_of_its_first_stages(
    name, n_last, side, last
):
    body, frozen = network(name, n_last, image_size=side)
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = body(x)
    prefix = find_prefix(body, frozen, x)
    assert list(prefix._parts)[-1] == last
    names = [name for name, _ in body.named_modules()]
    with torch.no_grad():
        middle = prefix.as_network()(x)
        prefix.detach()
        got = body(middle)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    prefix.reattach()
    assert [name for name, _ in body.named_modules()] == names
    with torch.no_grad():
        assert torch.equal(body(x), expected)


class Skipping(nn.Module):
    """Its second stage also sees the picture."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.second(self.first(x) + x).mean(dim=(2, 3))


class Dropping(nn.Module):
    """Draws lots between frozen stages."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Conv2d(4, 4, 3)
        self.third = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.third(self.second(self.drop(self.first(x)))).mean(dim=(2, 3))


def test_a_network_that_is_not_a_chain_is_unchanged():
    body = Skipping()
    assert find_prefix(body, [body.first], torch.rand(2, 3, 8, 8)) is None
    assert isinstance(body.first, nn.Conv2d)


def test_a_network_that_changes_its_input_first_is_left_as_it_is():
    body, frozen = network("inception_v3", 1)
    assert find_prefix(body, frozen, torch.rand(2, 3, 96, 96)) is None


def test_lots_are_drawn_anew_in_each_epoch():
    body = Dropping()
    prefix = find_prefix(body, [body.first, body.second], torch.rand(2, 3, 8, 8))
    assert list(prefix._parts) == ["first"]


def test_nothing_is_kept_where_all_is_trained():
    body, _ = network(TinyNet, 1)
    assert find_prefix(body, [], torch.rand(2, 3, 24, 24)) is None


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 180, (20, 24, 24, 3), dtype=np.uint8)
    X[::2, :, :, 0] += 60
    return X, np.array(["ALL", "HEM"] * 10)


@pytest.mark.parametrize("trainable", ["head", 1])
def test_without_views_the_training_is_the_same(cells, trainable, monkeypatch):
    X, y = cells
    settings = {"fine_tune": True, "trainable": trainable, "augmentation": None, "max_epochs": 4}
    kept = tiny_featurizer(**settings, lr=0.01).fit(X, y, X_val=X[:6], y_val=y[:6])
    monkeypatch.setattr(effboost._training.module, "find_prefix", lambda *_: None)
    plain = tiny_featurizer(**settings, lr=0.01).fit(X, y, X_val=X[:6], y_val=y[:6])
    for name in ("train_loss", "valid_loss", "valid_acc"):
        losses = [[epoch[name] for epoch in f.history_] for f in (kept, plain)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
    features = kept.transform(X), plain.transform(X)
    np.testing.assert_allclose(*features, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        kept.head_.weight.detach(), plain.head_.weight.detach(), rtol=1e-3, atol=1e-5
    )


def test_each_image_is_decoded_once_and_each_view_seen_once_by_the_first_stages(cells, monkeypatch):
    X, y = cells
    decoded, seen = [], []
    decode, init = ImageSequence.decode, PrefixedDataset.__init__

    def counted_decode(self, i, *function):
        decoded.append(i)
        return decode(self, i, *function)

    def counted_init(self, data, run, *rest):
        def counted(pixels):
            seen.append(len(pixels))
            return run(pixels)

        init(self, data, counted, *rest)

    monkeypatch.setattr(ImageSequence, "decode", counted_decode)
    monkeypatch.setattr(PrefixedDataset, "__init__", counted_init)
    views = Augmentation(n_views=2)
    tiny_featurizer(
        fine_tune=True, trainable=1, max_epochs=7, frozen_views=3, augmentation=views
    ).fit(list(X), y)
    assert len(decoded) == 20
    # Twice in an epoch, in three epochs; and once as it is, for the batch norms at the end.
    assert sum(seen) == 20 * 2 * 3 + 20


def test_views_differ_and_come_back(cells):
    """With two views, epochs 0 and 2 show the same pictures and epoch 1 others."""
    from effboost._extraction.prepared_images import PreparedImages
    from effboost._training.dataset import TrainingDataset
    from effboost._transforms import ImageTransform

    X, y = cells
    data = TrainingDataset(
        PreparedImages(ImageSequence(X), ImageTransform(None, 24)),
        (y == "HEM").astype(np.int64),
        np.ones(20, np.float32),
        augmentations=(Augmentation(frozen_views=2), Augmentation(frozen_views=1)),
    )
    as_they_are = PrefixedDataset(data, lambda pixels: pixels.float(), (24, 24, 3), seed=0)
    items, rng = np.arange(20), np.random.default_rng(0)
    first, second, third = (as_they_are.read(items, e, rng)[0]["x"] for e in range(3))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
    again = PrefixedDataset(data, lambda pixels: pixels.float(), (24, 24, 3), seed=0)
    reordered = again.read(items[::-1].copy(), 0, rng)[0]["x"]
    assert torch.equal(reordered.flip(0), first)  # whatever the order of the epoch


def test_a_fit_that_fails_leaves_the_network_whole(cells):
    X, y = cells
    module = TinyNet()
    featurizer = tiny_featurizer(
        backbone=lambda: module, fine_tune=True, trainable=1, lr=1e30, optimizer="sgd", max_epochs=3
    )
    with pytest.raises(ArithmeticError, match="loss became"):
        featurizer.fit(X, y)
    assert not any(isinstance(part, nn.Identity) for part in module.features)
