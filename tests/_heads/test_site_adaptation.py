"""Adaptation to a site at prediction, against direct formulas and on shifted features."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, LinearBoostedClassifier, SiteAdaptedClassifier
from effboost._heads.site_adaptation import correct_prior
from effboost.exceptions import UnsupportedInputError


def head(**options):
    return SiteAdaptedClassifier(LogisticRegression(max_iter=1000), **options)


@pytest.fixture(scope="module")
def sites():
    """Make two sites; at the second one, each feature has another scale and another zero."""
    X, y = make_classification(600, 12, n_informative=6, n_classes=3, class_sep=1.5, random_state=0)
    X, there, y, y_there = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    rng = np.random.default_rng(0)
    there = there * rng.uniform(0.5, 2, 12) + rng.normal(0, 3, 12)
    names = np.array(["a", "b", "c"])
    return X, names[y], there, names[y_there]


def test_shifted_and_scaled_features_are_recognised(sites):
    X, y, there, y_there = sites
    plain = head(adapt=None).fit(X, y)
    adapted = head().fit(X, y)
    assert plain.score(there, y_there) < 0.6
    assert adapted.score(there, y_there) > plain.score(X, y) - 0.1
    assert adapted.score(X, y) == pytest.approx(plain.score(X, y), abs=0.03)


def test_standardize_brings_moments_to_those_of_training(sites):
    X, y, there, _ = sites
    clf = head().fit(X, y)
    aligned = clf._align(there)
    np.testing.assert_allclose(aligned.mean(axis=0), X.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(aligned.std(axis=0), X.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(clf.predict_proba(there), clf.estimator_.predict_proba(aligned))
    np.testing.assert_allclose(clf.mean_, X.mean(axis=0))


def test_constant_features_stay_finite(sites):
    X, y, there, _ = sites
    X, there = X.copy(), there.copy()
    X[:, 0], there[:, 1] = 5, 7
    assert np.isfinite(head().fit(X, y).predict_proba(there)).all()


def test_frequencies_of_classes_are_estimated_and_corrected_for():
    """Probabilities of a calibrated model, at a site with other frequencies."""
    rng = np.random.default_rng(0)
    prior, there = np.array([0.5, 0.5]), np.array([0.95, 0.05])
    codes = rng.choice(2, 4000, p=there)
    signal = rng.normal(np.array([-0.7, 0.7])[codes], 1)
    up = 1 / (1 + np.exp(-1.4 * signal))
    probabilities = np.column_stack([1 - up, up])
    corrected = correct_prior(probabilities, prior)
    np.testing.assert_allclose(corrected.mean(axis=0), there, atol=0.02)
    np.testing.assert_allclose(corrected.sum(axis=1), 1)
    expected = probabilities * there / prior
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.abs(corrected - expected).max() < 0.1
    right, before = ((p.argmax(axis=1) == codes).mean() for p in (corrected, probabilities))
    assert right > before + 0.1


def test_prior_is_that_of_training_with_weights(sites):
    X, y, there, _ = sites
    weight = np.where(y == "a", 3.0, 1.0)
    clf = head(prior="saerens", adapt=None).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(
        clf.prior_, [weight[y == label].sum() / weight.sum() for label in "abc"]
    )
    found = clf.estimator_.predict_proba(there)
    np.testing.assert_allclose(clf.predict_proba(there), correct_prior(found, clf.prior_))


def test_few_images_are_not_adapted_with_a_warning(sites):
    X, y, there, _ = sites
    clf = head().fit(X, y)
    with pytest.warns(UserWarning, match="5 images are too few to adapt"):
        found = clf.predict_proba(there[:5])
    np.testing.assert_array_equal(found, clf.estimator_.predict_proba(there[:5]))
    clf.set_params(adapt=None).predict_proba(there[:5])
    clf.set_params(adapt="standardize", min_samples=5).predict_proba(there[:5])


def test_invalid_parameters_and_unfitted_heads_raise(sites):
    X, y, there, _ = sites
    for options in ({"adapt": "mean"}, {"prior": "em"}, {"min_samples": 1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            head(**options).fit(X, y)
    with pytest.raises(NotFittedError):
        head().predict(there)


def test_default_head_gets_seed_and_nested_parameters():
    clf = SiteAdaptedClassifier(random_state=3)
    assert clf.get_params()["estimator__linear_weight"] == 0.7
    clf.set_params(estimator__linear_weight=1.0)
    assert isinstance(clone(clf).estimator, LinearBoostedClassifier)


def test_head_of_a_hybrid_adapts_to_images_with_less_red():
    rng = np.random.default_rng(0)
    X = rng.integers(60, 120, (80, 16, 16, 3))
    y = np.repeat(["HEM", "ALL"], 40)
    X[40:, :, :, 0] += 60
    paler = X.copy()
    paler[..., 0] -= 60
    paler = paler.astype(np.uint8)
    clf = HybridClassifier(tiny_featurizer(), head(), random_state=0)
    clf.fit(X[::2].astype(np.uint8), y[::2])
    assert clf.score(paler[1::2], y[1::2]) > 0.9
    clf.classifier_.set_params(adapt=None)
    assert clf.score(paler[1::2], y[1::2]) < 0.7


def test_a_class_without_weight_stays_impossible():
    probabilities = np.array([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0]])
    found = correct_prior(probabilities, np.array([0.5, 0.5, 0.0]))
    assert np.isfinite(found).all()
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(
    "weighted",
    [
        LogisticRegression(class_weight="balanced"),
        make_pipeline(StandardScaler(), LogisticRegression(class_weight={0: 3, 1: 1})),
        XGBClassifier(scale_pos_weight=9),
    ],
)
def test_heads_that_weight_the_classes_cannot_be_corrected(weighted):
    X, y = make_classification(100, 12, random_state=0)
    with pytest.raises(UnsupportedInputError, match=r"weight='balanced'|0: 3, 1: 1|weight=9"):
        SiteAdaptedClassifier(weighted, adapt=None, prior="saerens").fit(X, y)
    SiteAdaptedClassifier(weighted).fit(X, y)
    SiteAdaptedClassifier(XGBClassifier(scale_pos_weight=1), prior="saerens").fit(X, y)


def test_weights_give_the_prior_that_is_corrected():
    """As many positive images at the new site as in training: there is nothing to correct."""
    X, y = make_classification(3000, 12, weights=[0.9], class_sep=0.7, flip_y=0, random_state=0)
    X, there, y, _ = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    clf = head(adapt=None, prior="saerens")
    plain = clf.fit(X, y).predict_proba(there)[:, 1].mean()
    clf.fit(X, y, sample_weight=np.where(y == 1, 9.0, 1.0))
    assert clf.prior_[1] == pytest.approx(0.5, abs=0.02)
    assert clf.predict_proba(there)[:, 1].mean() == pytest.approx(plain, abs=0.03)
    assert clf.estimator_.predict_proba(there)[:, 1].mean() > plain + 0.1


def test_heads_without_weights_or_probabilities_are_refused(sites):
    X, y, _, _ = sites
    neighbours = SiteAdaptedClassifier(KNeighborsClassifier())
    neighbours.fit(X, y, sample_weight=np.ones(len(y)))
    with pytest.raises(UnsupportedInputError, match="does not take sample_weight"):
        neighbours.fit(X, y, sample_weight=np.arange(1, len(y) + 1))
    with pytest.raises(UnsupportedInputError, match="LinearSVC has no predict_proba"):
        SiteAdaptedClassifier(LinearSVC()).fit(X, y)


@pytest.mark.parametrize("outer", [SiteAdaptedClassifier, LinearBoostedClassifier])
def test_pipelines_in_heads_are_fitted_with_metadata_routing(sites, outer):
    X, y, _, _ = sites
    inner = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    weight = np.where(y == "a", 2.0, 1.0)
    trees = {"trees": XGBClassifier(n_estimators=2)} if outer is LinearBoostedClassifier else {}
    clf = outer(inner, **trees)
    expected = [clf.fit(X, y, sample_weight=w).predict_proba(X) for w in (None, weight)]
    with config_context(enable_metadata_routing=True):
        found = [clf.fit(X, y, sample_weight=w).predict_proba(X) for w in (None, weight)]
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(*found)
