import pytest
import torch
from torch import nn

from effboost.backbones import get_backbone_spec
from effboost.comparators import RezayiCNN, rezayi_cnn, rezayi_resnet50, rezayi_vgg16


def count(module):
    return sum(p.numel() for p in module.parameters())


def parts(network, kind):
    return [part for part in network.modules() if isinstance(part, kind)]


def test_ten_convolutions_pooling_dropout_and_one_connected_layer():
    network = RezayiCNN()
    assert len(parts(network, nn.Conv2d)) == 10
    pools = parts(network, nn.MaxPool2d)
    assert {(pool.kernel_size, pool.stride) for pool in pools} == {(2, 2)}
    assert parts(network, nn.Dropout)
    assert len(parts(network, nn.Linear)) == 1
    assert (count(network), count(network.features)) == (11_135_008, 4_712_224)


@pytest.mark.parametrize("side", [32, 100, 224])
def test_images_of_any_size_have_256_features(side):
    with torch.device("meta"):
        assert RezayiCNN()(torch.empty(2, 3, side, side)).shape == (2, 256)


@pytest.mark.parametrize(
    ("factory", "parameters"), [(rezayi_resnet50, 25_557_032), (rezayi_vgg16, 138_357_544)]
)
def test_known_networks_are_trained_from_scratch_for_100_epochs(factory, parameters):
    featurizer = factory().featurizer
    assert (featurizer.weights, featurizer.training.max_epochs) == (None, 100)
    with torch.device("meta"):
        assert count(get_backbone_spec(featurizer.backbone).build()) == parameters


def test_output_layer_follows_the_connected_layer(pixels):
    classifier = rezayi_cnn(crop_size=None, image_size=32, max_epochs=1, random_state=0)
    classifier.fit(pixels[:8], ["ALL", "HEM"] * 4)
    head = classifier.featurizer_.head_
    assert (head.in_features, head.out_features) == (256, 2)
