import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.networks import TinyNet, tiny_featurizer
from effboost import CNNClassifier, ImageSequence, ImageTransform
from effboost.comparators import (
    BaggedNetworks,
    ColourAugmentation,
    JointNetwork,
    bagged_inception_resnets,
    crop_to_cell,
)
from effboost.datasets import make_blood_cells


@pytest.fixture
def uneven(pixels):
    """16 images of ALL, 6 of HEM."""
    return pixels[:22], np.array(["ALL"] * 16 + ["HEM"] * 6)


def tiny(**params):
    network = CNNClassifier(tiny_featurizer(fine_tune=True, max_epochs=1, random_state=None))
    return BaggedNetworks(network, **({"crop": False, "random_state": 0} | params))


@pytest.fixture
def fits(monkeypatch):
    """Records the images and labels of every network's training."""
    made = []
    fit = CNNClassifier.fit

    def recorded(self, X, y, **params):
        made.append((X, y, params))
        return fit(self, X, y, **params)

    monkeypatch.setattr(CNNClassifier, "fit", recorded)
    return made


def test_each_network_sees_its_part_of_the_largest_class_and_all_others(uneven, fits):
    X, y = uneven
    tiny().fit(X, y, groups=np.arange(22))
    (first, y_first, one), (second, y_second, other), (joint, y_joint, _) = fits
    assert sorted(y_first) == sorted(y_second) == ["ALL"] * 8 + ["HEM"] * 6
    parts = [set(params["groups"]) for params in (one, other)]
    assert parts[0] & parts[1] == set(range(16, 22))
    assert parts[0] | parts[1] == set(range(22))
    assert (len(first), len(second), len(joint)) == (14, 14, 22)
    assert y_joint.tolist() == y.tolist()


def test_three_networks_share_the_class_by_three(uneven, fits):
    bagged = tiny(n_networks=3).fit(*uneven)
    assert [(y == "ALL").sum() for _, y, _ in fits] == [6, 5, 5, 16]
    assert len(bagged.networks_) == 4


def test_the_joint_network_puts_two_layers_on_the_tuned_ones(uneven):
    bagged = tiny(n_joint=10).fit(*uneven)
    *networks, joint = (network.featurizer_ for network in bagged.networks_)
    module = joint.module_
    assert isinstance(module, JointNetwork)
    assert (module.joint[0].in_features, module.joint[0].out_features) == (16, 10)
    assert (joint.head_.in_features, joint.head_.out_features) == (10, 2)
    for trunk, network in zip(module.trunks, networks, strict=True):
        for key, value in network.module_.state_dict().items():
            assert torch.equal(trunk.state_dict()[key], value)
    trained = tiny(joint_trainable="all").fit(*uneven).networks_
    trunk, network = trained[-1].featurizer_.module_.trunks[0], trained[0].featurizer_.module_
    assert not torch.equal(trunk.features[0].weight, network.features[0].weight)


def test_prediction_is_that_of_the_surest_network(uneven):
    X, y = uneven
    bagged = tiny().fit(X, y)
    votes = np.stack([network.predict_proba(X) for network in bagged.networks_])
    for i, proba in enumerate(bagged.predict_proba(X)):
        assert proba.max() == votes[:, i].max()
        assert any(np.array_equal(proba, vote) for vote in votes[:, i])


def test_bags_and_networks_follow_the_seed(uneven):
    X, y = uneven
    one, same, other = (tiny(random_state=seed).fit(X, y).predict_proba(X) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_weights_of_images_reach_the_networks(uneven, fits):
    X, y = uneven
    weight = np.where(np.arange(22) == 3, 0, 2)
    tiny().fit(X, y, sample_weight=weight)
    assert [len(y) for _, y, _ in fits] == [14, 13, 21]
    assert all(set(params["sample_weight"]) == {2} for *_, params in fits)


def test_cells_are_cut_out_in_fit_and_predict(fits):
    cells = make_blood_cells(2, 4, image_size=64, random_state=0)
    bagged = tiny(crop=True).fit(cells.images, cells.target)
    assert all(max(image.shape) < 50 for images, *_ in fits for image in images)
    alone = ImageSequence(cells.images).map(crop_to_cell)
    votes = [network.predict_proba(alone) for network in bagged.networks_]
    assert np.array_equal(
        bagged.predict_proba(cells.images).max(axis=1), np.max(votes, axis=(0, 2))
    )


def test_saved_classifier_predicts_the_same(uneven, tmp_path):
    bagged = tiny().fit(*uneven)
    joblib.dump(bagged, tmp_path / "bagged.joblib")
    loaded = joblib.load(tmp_path / "bagged.joblib")
    first, *_, joint = (network.featurizer_ for network in loaded.networks_)
    assert joint.backbone.factory.trunks[0] is first.module_  # no third copy of the weights
    assert np.array_equal(loaded.predict_proba(uneven[0]), bagged.predict_proba(uneven[0]))


def test_the_crop_is_the_box_of_the_cell():
    cells = make_blood_cells(4, 2, image_size=96, return_masks=True, random_state=0)
    for image, mask in zip(cells.images, cells.masks, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        cut = crop_to_cell(Image.fromarray(image))
        assert abs(cut.height - height) <= 6
        assert abs(cut.width - width) <= 6


def test_the_largest_of_several_parts_is_taken():
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[2:12, 2:12] = 200
    pixels[20:50, 30:70] = 180
    assert crop_to_cell(Image.fromarray(pixels)).size == (40, 30)


@pytest.mark.parametrize("size", [0, 5])
def test_an_image_without_a_cell_is_not_changed(size):
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:size, :size] = 255
    assert crop_to_cell(Image.fromarray(pixels)).size == (40, 40)


def test_views_differ_in_colour_and_not_in_place(pixels):
    picture = Image.fromarray(pixels[0])
    rng = np.random.default_rng(0)
    views = [ColourAugmentation().apply(picture, rng) for _ in range(30)]
    assert len({view.tobytes() for view in views}) == 30
    assert {(view.size, view.mode) for view in views} == {((40, 40), "RGB")}
    again = ColourAugmentation().apply(picture, np.random.default_rng(0))
    assert again == views[0]


@pytest.mark.slow
def test_the_network_of_the_source_takes_small_images_and_trains(pixels):
    bagged = bagged_inception_resnets(weights=None)
    featurizer = bagged.network.featurizer
    assert featurizer.get_params()["transform"] == ImageTransform(None, 299)
    with torch.device("meta"):
        network = featurizer.backbone.build()
    assert sum(p.numel() for p in network.parameters()) == 55_843_464
    assert isinstance(network.get_submodule(featurizer.backbone.head), nn.Linear)
    single = bagged.network.set_params(
        featurizer__transform__image_size=75,
        featurizer__training__max_epochs=1,
        featurizer__runtime="torch",
    )
    assert single.fit(pixels[:4], ["ALL", "HEM"] * 2).predict_proba(pixels[:2]).shape == (2, 2)


def test_any_backbone_is_accepted():
    assert bagged_inception_resnets(TinyNet).network.featurizer.backbone is TinyNet
