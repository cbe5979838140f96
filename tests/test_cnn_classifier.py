import joblib
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_score

from common.networks import tiny_featurizer
from effboost import CNNClassifier, ImageSequence
from effboost.exceptions import UnsupportedInputError


def tiny_cnn(**params):
    settings = {"max_epochs": 12, "batch_size": 8, "lr": 0.02, "random_state": None}
    featurizer = tiny_featurizer(fine_tune=True, **(settings | params))
    return CNNClassifier(featurizer, random_state=0)


def test_fit_predict_score_as_scikit_learn_has_them(pixels, three_classes):
    cnn = tiny_cnn()
    assert cnn.fit(pixels, three_classes) is cnn
    assert cnn.classes_.tolist() == ["blast", "healthy", "other"]
    proba = cnn.predict_proba(pixels)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(cnn.predict(pixels), cnn.classes_[proba.argmax(axis=1)])
    assert cnn.score(pixels, three_classes) > 0.8
    assert len(cnn.history_) == 12


def test_a_few_steps_suffice_because_batch_norms_are_estimated_again(pixels, three_classes):
    """Six steps: statistics averaged since the start would still be those of no image at all."""
    cnn = tiny_cnn(max_epochs=2, lr=0.1).fit(pixels, three_classes)
    assert cnn.score(pixels, three_classes) > 0.6


def test_probabilities_do_not_depend_on_other_images(pixels, three_classes):
    cnn = tiny_cnn(max_epochs=1).fit(pixels, three_classes)
    everything = cnn.predict_proba(pixels)
    for n in (1, 5, 23):
        assert np.array_equal(cnn.predict_proba(pixels[:n]), everything[:n])


def test_logits_are_decided_by_their_first_outputs(pixels, three_classes):
    cnn = tiny_cnn(max_epochs=1, features="logits").fit(pixels, three_classes)
    logits = cnn.featurizer_.transform(pixels)
    np.testing.assert_allclose(cnn.predict_proba(pixels), softmax(logits[:, :3], axis=1))


def test_grid_search_and_cross_validation_by_subject(paths, three_classes, subjects):
    images = ImageSequence(paths, groups=subjects)
    folds = StratifiedGroupKFold(2)
    scores = cross_val_score(
        tiny_cnn(max_epochs=1), images, three_classes, groups=subjects, cv=folds
    )
    assert len(scores) == 2
    search = GridSearchCV(
        tiny_cnn(max_epochs=1), {"featurizer__training__lr": [1e-3, 2e-2]}, cv=folds
    )
    search.fit(images, three_classes, groups=subjects)
    assert search.best_params_["featurizer__training__lr"] in (1e-3, 2e-2)


def test_a_saved_classifier_predicts_the_same(pixels, three_classes, tmp_path):
    cnn = tiny_cnn(max_epochs=1).fit(pixels, three_classes)
    joblib.dump(cnn, tmp_path / "cnn.joblib")
    loaded = joblib.load(tmp_path / "cnn.joblib")
    assert np.array_equal(loaded.predict_proba(pixels), cnn.predict_proba(pixels))


def test_nothing_set_means_the_papers_network_by_nested_name():
    cnn = CNNClassifier()
    assert cnn.get_params()["featurizer__backbone"] == "efficientnet_b0"
    assert clone(cnn).featurizer is None
    assert cnn.set_params(featurizer__training__lr=3e-4).featurizer.training.lr == 3e-4
    with pytest.raises(NotFittedError):
        cnn.predict(["a.png"])


def test_a_frozen_network_has_no_decision_of_its_own(pixels, three_classes):
    with pytest.raises(UnsupportedInputError, match="training=None"):
        CNNClassifier(tiny_featurizer()).fit(pixels, three_classes)
