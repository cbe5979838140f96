import numpy as np
import pytest
import scipy.fft
import torch
import torchvision
from sklearn import config_context
from sklearn.model_selection import GridSearchCV

from common.networks import TinyNet
from effboost import CNNClassifier
from effboost.backbones import build_backbone
from effboost.comparators import CNNRNN, DCTLSTM, alexnet_cnnrnn_dctlstm
from effboost.comparators._alexnet_cnnrnn_dctlstm import _CNN_RNN
from effboost.model_selection import SubjectKFold


def count(module):
    return sum(p.numel() for p in module.parameters())


def tiny(**params):
    settings = {
        "backbone": TinyNet,
        "weights": None,
        "crop_size": None,
        "image_size": 24,
        "max_epochs": 1,
        "batch_size": 8,
        "runtime": "torch",
        "random_state": 0,
    }
    return alexnet_cnnrnn_dctlstm(**(settings | params))


def test_parameter_counts_are_those_of_the_docstring():
    with torch.device("meta"):
        assert count(torchvision.models.alexnet()) == 61_100_840
        assert count(CNNRNN()) == 2_667_328
        assert count(DCTLSTM()) == 99_328


def test_networks_return_128_values_for_any_image_size():
    with torch.device("meta"):
        for side in (63, 224):
            x = torch.empty(2, 3, side, side)
            assert CNNRNN()(x).shape == DCTLSTM()(x).shape == (2, 128)


@pytest.mark.parametrize("side", [64, 90])
def test_the_transform_is_the_orthonormal_one(side):
    grey = torch.rand(2, side, side, dtype=torch.float64)
    expected = scipy.fft.dctn(grey.numpy(), axes=(1, 2), norm="ortho")[:, :64, :64]
    spectrum = np.sign(expected) * np.log1p(np.abs(expected))
    np.testing.assert_allclose(DCTLSTM().transform(grey), spectrum, atol=1e-10)


def test_the_cnn_rnn_begins_with_alexnets_convolutions(tmp_path):
    alexnet = torchvision.models.alexnet(weights=None)
    torch.save(alexnet.state_dict(), tmp_path / "alexnet.pth")
    network = build_backbone(_CNN_RNN, tmp_path / "alexnet.pth", seed=0)
    assert torch.equal(network.features[0].weight, alexnet.features[0].weight)
    assert _CNN_RNN.weights == torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url


def test_networks_start_from_the_documented_weights():
    weights = {
        name: network.featurizer.weights for name, network in alexnet_cnnrnn_dctlstm().estimators
    }
    assert weights == {"alexnet": "imagenet", "cnn_rnn": "imagenet", "dct_lstm": None}


def test_probabilities_are_the_mean_of_the_three(pixels, three_classes):
    voting = tiny().fit(pixels, three_classes)
    each = [network.predict_proba(pixels) for network in voting.estimators_]
    np.testing.assert_allclose(voting.predict_proba(pixels), np.mean(each, axis=0))
    assert len(each) == 3


@pytest.mark.parametrize("routing", [False, True])
def test_subjects_reach_every_network(pixels, three_classes, subjects, monkeypatch, routing):
    seen = []
    fit = CNNClassifier.fit

    def recorded(self, X, y, **params):
        seen.append(X.groups)
        return fit(self, X, y, **params)

    monkeypatch.setattr(CNNClassifier, "fit", recorded)
    with config_context(enable_metadata_routing=routing):
        tiny().fit(pixels, three_classes, groups=subjects)
        assert [groups.tolist() for groups in seen] == [subjects.tolist()] * 3
        if routing:
            search = GridSearchCV(
                tiny(), {"alexnet__featurizer__training__lr": [0.1]}, cv=SubjectKFold(2)
            )
            search.fit(pixels, three_classes, groups=subjects)
            assert len(seen) == 3 + 3 * 3
            assert all(groups is not None for groups in seen)
