"""Counts of what one fit does: each image is decoded once, arguments are checked once, ..."""

from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils import validation

import effboost._cnn_classifier
import effboost._extraction.feature_extractor
import effboost._featurizer
import effboost._featurizer_base
import effboost._hybrid_base
import effboost._hybrid_classifier
import effboost._training.network_fit
from common.networks import TinyNet, tiny_featurizer
from effboost import CNNClassifier, HybridClassifier, ImageSequence, presets
from effboost._images.decoding import Decoder
from effboost._validation import LabelledImages

TUNED = {"fine_tune": True, "max_epochs": 3, "batch_size": 8}


@pytest.fixture
def decoded(monkeypatch):
    """How often each file is decoded."""
    counts = Counter()
    read = Decoder.read_file

    def counting(self, path, *args, **kwargs):
        counts[str(path)] += 1
        return read(self, path, *args, **kwargs)

    monkeypatch.setattr(Decoder, "read_file", counting)
    return counts


@pytest.mark.parametrize(
    "make",
    [
        lambda: HybridClassifier(tiny_featurizer(**TUNED), random_state=0),
        lambda: HybridClassifier(tiny_featurizer(**TUNED), head_protocol="holdout", random_state=0),
        lambda: HybridClassifier(tiny_featurizer(**TUNED, early_stopping=2), random_state=0),
        lambda: HybridClassifier(tiny_featurizer(**TUNED, trainable="head"), random_state=0),
        lambda: HybridClassifier(tiny_featurizer(), random_state=0),
        lambda: CNNClassifier(tiny_featurizer(**TUNED), random_state=0),
    ],
    ids=["tuned", "holdout", "stopping", "head only", "frozen", "network alone"],
)
def test_a_fit_decodes_each_image_once(make, decoded, paths, three_classes):
    make().fit(paths, three_classes)
    assert decoded == Counter(paths)


@pytest.mark.parametrize("tuned", [False, True])
def test_fit_transform_decodes_each_image_once(tuned, decoded, paths, three_classes):
    featurizer = tiny_featurizer(**(TUNED if tuned else {}))
    features = featurizer.fit_transform(paths, three_classes)
    assert decoded == Counter(paths)
    np.testing.assert_array_equal(features, featurizer.transform(paths))


def test_fits_with_a_cache_decode_each_image_once(decoded, paths, three_classes, tmp_path):
    for C in (1, 2):
        clf = HybridClassifier(tiny_featurizer(cache=tmp_path), LogisticRegression(C=C))
        clf.fit(paths, three_classes)
    assert decoded == Counter(paths)


def test_a_fit_on_cached_features_hashes_each_image_once(
    monkeypatch, pixels, three_classes, tmp_path
):
    clf = HybridClassifier(tiny_featurizer(cache=tmp_path), LogisticRegression())
    clf.fit(pixels, three_classes)
    hashed, fingerprint = [], ImageSequence.fingerprint
    monkeypatch.setattr(
        ImageSequence, "fingerprint", lambda self, i: (hashed.append(i), fingerprint(self, i))[1]
    )
    clf.fit(pixels, three_classes)
    assert sorted(hashed) == list(range(len(pixels)))


def test_validation_images_are_decoded_once(decoded, paths, three_classes):
    clf = HybridClassifier(tiny_featurizer(**TUNED), random_state=0)
    clf.fit(paths[:16], three_classes[:16], X_val=paths[16:], y_val=three_classes[16:])
    assert decoded == Counter(paths)


def test_a_fit_checks_its_labels_once(monkeypatch, pixels, three_classes):
    calls = []
    check = LabelledImages.check.__func__

    def counting(cls, images, y, **others):
        calls.append(len(images))
        return check(cls, images, y, **others)

    monkeypatch.setattr(LabelledImages, "check", classmethod(counting))
    X, y = pixels[:18], three_classes[:18]
    clf = HybridClassifier(tiny_featurizer(**TUNED), random_state=0)
    clf.fit(X, y, X_val=pixels[18:], y_val=three_classes[18:])
    assert calls == [18, 6]  # the training images, and those to validate on


def test_a_prediction_checks_once_that_the_model_is_fitted(monkeypatch, pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), random_state=0).fit(pixels, three_classes)
    calls = []
    for module in (
        effboost._hybrid_base,
        effboost._hybrid_classifier,
        effboost._featurizer,
        effboost._featurizer_base,
        effboost._cnn_classifier,
    ):
        if hasattr(module, "check_is_fitted"):
            monkeypatch.setattr(
                module, "check_is_fitted", lambda model: calls.append(type(model).__name__)
            )
    for method in ("predict", "predict_proba", "transform"):
        calls.clear()
        getattr(clf, method)(ImageSequence(pixels[:2]))
        assert calls == ["HybridClassifier"], method
    assert validation.check_is_fitted(clf) is None


def test_a_recommended_fit_takes_its_network_apart_once(monkeypatch, pixels, three_classes):
    module = effboost._extraction.feature_extractor
    calls, append = [], module.append_stages

    def counting(*args):
        calls.append(args)
        return append(*args)

    monkeypatch.setattr(module, "append_stages", counting)
    clf = presets.recommended(TinyNet, weights=None, image_size=24, random_state=0)
    clf.set_params(featurizer__runtime="torch").fit(pixels, three_classes)
    clf.predict_proba(pixels[:2])
    assert len(calls) == 1


def test_fits_run_a_network_once_to_see_its_width(monkeypatch, pixels):
    module = effboost._training.network_fit
    sizes, measure = [], module.feature_width
    monkeypatch.setattr(module, "_WIDTHS", {})
    monkeypatch.setattr(
        module,
        "feature_width",
        lambda network, size: (sizes.append(size), measure(network, size))[1],
    )
    featurizer = tiny_featurizer(backbone="shufflenet_v2_x0_5")
    for size in (32, 32, 48, 32):
        featurizer.set_params(transform__image_size=size).fit(pixels)
        assert featurizer.transform(pixels[:1]).shape == (1, 1024)
    assert sizes == [32, 48]


def test_each_fit_measures_the_width_of_a_network_of_the_user(pixels):
    widths = iter((8, 16))

    def build():
        return TinyNet(next(widths))

    featurizer = tiny_featurizer(backbone=build)
    for width in (8, 16):
        assert featurizer.fit(pixels).transform(pixels[:1]).shape == (1, width)
