import copy

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from common.networks import TinyNet
from effboost import CNNClassifier, ImageSequence
from effboost.backbones import list_stages
from effboost.comparators import (
    LearningRateSteps,
    RotationAveragedCNN,
    ShiftAugmentation,
    prellberg,
)

QUICK = {
    "backbone": TinyNet,
    "weights": None,
    "crop_size": None,
    "image_size": 24,
    "runtime": "torch",
    "random_state": 0,
}


def test_the_settings_are_those_of_the_source():
    featurizer = prellberg().featurizer
    assert featurizer.get_params()["transform__crop_size"] == 300
    training = featurizer.training
    assert (training.max_epochs, training.batch_size) == (6, 16)
    assert (training.optimizer, training.lr) == ("adam", (1e-6, 1e-4, 1e-2))
    assert training.class_weight == "balanced"
    assert training.augmentation == ShiftAugmentation(0.5, 0.5, rotation=180.0, shift=0.2)
    assert prellberg().n_rotations == 8
    with torch.device("meta"):
        network = featurizer.backbone.build()
    assert sum(p.numel() for p in network.parameters()) == 27_559_896
    stem = list_stages(network, featurizer.backbone)[0]
    assert network.layer0.conv1 in stem
    assert network.layer0.bn1 in stem
    assert network.layer1[0].conv1 not in stem


class Recorder(LearningRateSteps):
    rates = ()

    def on_epoch_begin(self, net, **_):
        if len(net.history) == 1:
            type(self).rates = []
        self.rates.append([group["lr"] for group in net.optimizer_.param_groups])


def test_rates_fall_to_a_tenth_after_epochs_2_and_4(pixels, three_classes):
    prellberg(**QUICK, callbacks=[Recorder((2, 4))]).fit(pixels, three_classes)
    rates = np.array(Recorder.rates)
    np.testing.assert_allclose(
        rates / rates[0], np.array([[1, 1, 0.1, 0.1, 0.01, 0.01]]).T + 0 * rates
    )
    assert sorted(set(rates[0].tolist())) == [1e-6, 1e-4, 1e-2]


def test_a_fitted_model_keeps_no_optimizer(pixels, three_classes):
    classifier = prellberg(**QUICK, max_epochs=1).fit(pixels, three_classes)
    assert vars(classifier.featurizer_.callbacks[0]) == {"epochs": (2, 4), "factor": 0.1}


def test_logits_are_averaged_over_rotations(pixels, three_classes):
    classifier = prellberg(**QUICK, max_epochs=1).set_params(n_rotations=4)
    classifier.fit(pixels, three_classes)
    plain = copy.copy(classifier)
    plain.__class__ = CNNClassifier
    turned = [np.rot90(pixels, k, axes=(1, 2)) for k in range(4)]
    logits = np.mean([np.log(plain.predict_proba(x)) for x in turned], axis=0)
    np.testing.assert_allclose(classifier.predict_proba(pixels), softmax(logits, axis=1), rtol=1e-4)


def test_one_rotation_equals_no_rotation(pixels, three_classes):
    featurizer = prellberg(**QUICK, max_epochs=1).featurizer
    one = RotationAveragedCNN(featurizer, n_rotations=1, random_state=0)
    plain = CNNClassifier(featurizer, random_state=0)
    assert np.array_equal(
        one.fit(pixels, three_classes).predict_proba(pixels),
        plain.fit(pixels, three_classes).predict_proba(pixels),
    )


def test_features_of_rotations_are_found_in_the_cache(pixels, three_classes, tmp_path):
    classifier = prellberg(**QUICK, max_epochs=1, cache=tmp_path).fit(pixels, three_classes)
    images = ImageSequence(pixels[:3])
    assert np.array_equal(classifier.predict_proba(images), classifier.predict_proba(images))


@pytest.mark.parametrize("n", [0, 2.5])
def test_other_numbers_of_rotations_are_refused(pixels, three_classes, n):
    with pytest.raises(ValueError, match="n_rotations"):
        RotationAveragedCNN(n_rotations=n).fit(pixels, three_classes)


def test_shifts_are_bounded_and_filled_with_black():
    white = Image.new("RGB", (50, 50), (255, 255, 255))
    still = ShiftAugmentation(0, 0, rotation=0, shift=0)
    assert still.apply(white, np.random.default_rng(0)) == white
    rng = np.random.default_rng(0)
    moved = ShiftAugmentation(0, 0, rotation=0)
    views = [np.asarray(moved.apply(white, rng))[..., 0] for _ in range(40)]
    covered = [[(view.max(axis=axis) == 255).sum() for axis in (0, 1)] for view in views]
    assert np.min(covered) in (40, 41)
    assert all(set(np.unique(view)) <= {0, 255} for view in views)
    assert len({view.tobytes() for view in views}) > 30
