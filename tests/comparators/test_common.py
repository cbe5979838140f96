"""What every comparator can do, on a tiny network; and that each runs on its own."""

import functools
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from common.networks import TinyNet
from effboost import comparators, evaluate
from effboost.comparators import COMPARATORS, Comparator
from effboost.datasets import make_blood_cells
from effboost.exceptions import MissingDependencyError, WeightsNotFoundError

NAMES = list(COMPARATORS)
# What the classifiers call a parameter of their (first) network.
PREFIXES = {
    "bagged_inception_resnets": "network__featurizer__",
    "alexnet_cnnrnn_dctlstm": "alexnet__featurizer__",
}
QUICK = {
    "weights": None,
    "crop_size": None,
    "image_size": 32,
    "runtime": "torch",  # an export takes longer than all else here
    "random_state": 0,
}
BRIEF = {"max_epochs": 1, "batch_size": 8}
# The smallest images that a network takes.
SIDES = {
    "hybrid_inception_v3": 75,
    "inception_xgboost": 75,
    "alexnet_cnnrnn_dctlstm": 63,
}


@functools.cache
def cells(n_subjects=6, n_images=3):
    return make_blood_cells(n_subjects, n_images, image_size=48, random_state=0)


def tiny(name, **params):
    training = BRIEF if COMPARATORS[name].is_tuned else {}
    own = {"backbone": TinyNet, "image_size": 24}
    return COMPARATORS[name].factory(**(QUICK | training | own | params))


def fit(classifier):
    data = cells()
    return classifier.fit(data.images, data.target, groups=data.groups)


@functools.cache
def fitted(name):
    return fit(tiny(name))


def outputs(classifier):
    """Probabilities, or the scores of a classifier that has none."""
    method = "predict_proba" if hasattr(classifier, "predict_proba") else "decision_function"
    return getattr(classifier, method)(cells().images)


def test_the_registry_names_each_system_once_and_cannot_be_changed():
    assert all(system.name == name for name, system in COMPARATORS.items())
    assert all(
        isinstance(system, Comparator) and system.citation for system in COMPARATORS.values()
    )
    assert {s.table for s in COMPARATORS.values()} == {
        "Table 1",
        "Table 3",
        "challenge",
        "baseline",
    }
    with pytest.raises(TypeError):
        COMPARATORS["another"] = COMPARATORS["prellberg"]


def test_reported_scores_equal_those_of_the_paper_and_the_sources():
    reported = {
        name: {r.metric: r.value for r in system.reported}
        for name, system in COMPARATORS.items()
        if system.reported
    }
    assert reported == {
        "hybrid_efficientnet_b0": {"accuracy": 0.85},
        "efficientnet_b0": {"accuracy": 0.81},
        "vgg16_eca": {"accuracy": 0.911},
        "rezayi_resnet50": {"accuracy": 0.8163},
        "rezayi_cnn": {"accuracy": 0.8210},
        "rezayi_vgg16": {"accuracy": 0.8462},
        "bagged_inception_resnets": {"weighted_f1": 0.876},
        "alexnet_cnnrnn_dctlstm": {"accuracy": 0.866},
        "res_rand_svm": {"accuracy": 0.9, "precision": 0.902, "recall": 0.957, "f1": 0.929},
        "inception_xgboost": {"weighted_f1": 0.986},
        "prellberg": {"weighted_f1": 0.889},
    }


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_listed_set_and_cloned(name):
    classifier = COMPARATORS[name].factory(image_size=100, random_state=3)
    assert is_classifier(classifier)
    size, weights = (
        f"{PREFIXES.get(name, 'featurizer__')}{key}" for key in ("transform__image_size", "weights")
    )
    assert classifier.get_params()[size] == 100
    assert classifier.set_params(**{size: 120}) is classifier
    copy = clone(classifier)
    assert copy.get_params()[size] == 120
    assert repr(copy) == repr(classifier)
    # Pretrained weights are the default wherever the source began with them.
    from_scratch = name.startswith("rezayi")
    assert classifier.get_params()[weights] == (None if from_scratch else "imagenet")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("rezayi")])
def test_unavailable_weights_raise(name):
    classifier = COMPARATORS[name].factory(crop_size=None, image_size=75)
    with pytest.raises(WeightsNotFoundError):
        fit(classifier)


@pytest.mark.parametrize("name", NAMES)
def test_string_labels_and_subjects(name):
    classifier, data = fitted(name), cells()
    assert classifier.classes_.tolist() == ["ALL", "HEM"]
    labels = classifier.predict(data.images)
    assert set(labels) <= {"ALL", "HEM"}
    if hasattr(classifier, "predict_proba"):
        proba = classifier.predict_proba(data.images)
        assert proba.shape == (18, 2)
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
        assert np.array_equal(labels, classifier.classes_[proba.argmax(axis=1)])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name):
    assert np.array_equal(outputs(fit(tiny(name))), outputs(fitted(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_classifier_predicts_the_same(name, tmp_path):
    joblib.dump(fitted(name), tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    assert np.array_equal(outputs(loaded), outputs(fitted(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_search_by_nested_name_with_folds_by_subject(name):
    data, prefix = cells(), PREFIXES.get(name, "featurizer__")
    grid = {f"{prefix}transform__normalize": ["unit", "imagenet"]}
    search = GridSearchCV(tiny(name), grid, cv=StratifiedGroupKFold(2), refit=False)
    search.fit(data.images, data.target, groups=data.groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_evaluate_reports_on_it(name):
    data = cells()
    report = evaluate(
        tiny(name), data.images, data.target, groups=data.groups, cv=2, n_bootstrap=10
    )
    assert report.confusion_matrix.sum() == 18
    assert report.shared_subjects == 0


# VGG16 and four Inception-ResNets take too long: tests beside this one look at their structure.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in NAMES if "vgg16" not in name and not name.startswith("bagged")]
)
def test_each_runs_on_the_network_of_its_source(name):
    data = cells(4, 2)
    training = BRIEF if COMPARATORS[name].is_tuned else {}
    settings = QUICK | training | {"image_size": SIDES.get(name, 32)}
    classifier = COMPARATORS[name].factory(**settings)
    classifier.fit(data.images, data.target, groups=data.groups)
    assert classifier.predict(data.images[:2]).shape == (2,)


@pytest.mark.parametrize("use", [comparators.timm_logistic, comparators.prellberg])
def test_a_missing_extra_is_named(use, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"effboost\[comparators\]"):
        use()
