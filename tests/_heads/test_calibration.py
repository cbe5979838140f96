"""Thresholds, calibrated probabilities and conformal sets: subjects whole at each step."""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, recall_score
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence, OnnxClassifier, export_onnx, load, save
from effboost._heads.calibration import calibrate_head
from effboost.datasets import make_blood_cells
from effboost.exceptions import UnsupportedInputError
from effboost.metrics import expected_calibration_error
from effboost.model_selection import SubjectKFold, one_image_per_subject, subject_split


@pytest.fixture(scope="module")
def data():
    """360 cells of 120 subjects, which so small a network tells apart only in part."""
    cells = make_blood_cells(120, 3, image_size=32, random_state=0)
    return ImageSequence(cells.images, groups=cells.groups), cells.target


@pytest.fixture(scope="module")
def parts(data):
    """The first third of the subjects, to learn from, and the others."""
    return np.arange(120), np.arange(120, 360)


@pytest.fixture
def fits(monkeypatch):
    """Records the images of each fit of a hybrid."""
    fit, made = HybridClassifier.fit, []

    def recorded(self, X, y, **params):
        made.append(X)
        return fit(self, X, y, **params)

    recorded.__wrapped__ = fit  # scikit-learn reads the signature
    monkeypatch.setattr(HybridClassifier, "fit", recorded)
    return made


def linear_hybrid():
    head = make_pipeline(StandardScaler(), LogisticRegression())
    return HybridClassifier(tiny_featurizer(), head, random_state=0)


def boosted_hybrid():
    booster = XGBClassifier(n_estimators=40, n_jobs=1)
    return HybridClassifier(tiny_featurizer(), booster, random_state=0)


def sensitivity_if_specific(y, predicted):
    specific = recall_score(y, predicted, pos_label="HEM", zero_division=0) >= 0.95
    return recall_score(y, predicted, pos_label="ALL", zero_division=0) if specific else 0.0


SCORER = make_scorer(sensitivity_if_specific)


def assert_whole_subjects(fits):
    for images in fits:
        assert set(np.unique(images.groups, return_counts=True)[1]) == {3}


def test_a_threshold_is_tuned_on_subjects_that_each_fold_has_not_seen(data, fits):
    images, y = data
    model = TunedThresholdClassifierCV(linear_hybrid(), scoring=SCORER, cv=SubjectKFold(3))
    model.fit(images, y)
    assert sorted(len(part) for part in fits) == [240, 240, 240, 360]
    assert_whole_subjects(fits)
    assert model.best_threshold_ != 0.5
    assert model.best_score_ > 0.1  # 0 where too few of the healthy are spared


def test_tuned_threshold_is_met_on_its_own_subjects(data, parts):
    (images, y), (train, rest) = data, parts
    clf = linear_hybrid().fit(images[train], y[train])
    tuned = TunedThresholdClassifierCV(
        FrozenEstimator(clf), scoring=SCORER, cv="prefit", refit=False
    ).fit(images[rest], y[rest])
    specificity = recall_score(y[rest], tuned.predict(images[rest]), pos_label="HEM")
    assert specificity >= 0.95
    assert recall_score(y[rest], clf.predict(images[rest]), pos_label="HEM") < 0.95
    fixed = FixedThresholdClassifier(FrozenEstimator(clf), threshold=tuned.best_threshold_)
    assert np.array_equal(fixed.fit(images, y).predict(images), tuned.predict(images))


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
@pytest.mark.parametrize(
    ("ensemble", "n_images"), [(True, [78, 81, 81]), (False, [78, 81, 81, 120])]
)
def test_calibration_is_by_subject(data, parts, fits, method, ensemble, n_images):
    (images, y), (train, rest) = data, parts
    model = CalibratedClassifierCV(
        boosted_hybrid(), method=method, cv=SubjectKFold(3), ensemble=ensemble
    ).fit(images[train], y[train])
    assert sorted(len(part) for part in fits) == n_images
    assert_whole_subjects(fits)
    plain = boosted_hybrid().fit(images[train], y[train]).predict_proba(images[rest])
    calibrated = model.predict_proba(images[rest])
    error, before = (expected_calibration_error(y[rest], p) for p in (calibrated, plain))
    assert error < 0.6 * before
    if method == "temperature":
        codes = np.searchsorted(model.classes_, y[rest])[:, np.newaxis]
        losses = [-np.log(np.take_along_axis(p, codes, 1)).mean() for p in (calibrated, plain)]
        assert losses[0] < losses[1]


@pytest.mark.parametrize("confidence", [0.8, 0.9])
def test_conformal_sets_cover_subjects_that_are_new(data, parts, confidence):
    (images, y), (train, rest) = data, parts
    clf = linear_hybrid().fit(images[train], y[train])
    others, labels = images[rest], y[rest]
    covered, sizes = [], []
    for seed in range(8):
        _, calibration, new = subject_split(
            labels, others.groups, validation_size=0.5, test_size=0.5 - 1e-9, random_state=seed
        )
        drawn = calibration[one_image_per_subject(others.groups[calibration], seed)]
        conformal = SplitConformalClassifier(clf, confidence_level=confidence)
        conformal.conformalize(others[drawn], labels[drawn])
        _, sets = conformal.predict_set(others[new])
        codes = np.searchsorted(clf.classes_, labels[new])
        covered.append(sets[np.arange(len(new)), codes, 0].mean())
        sizes.append(sets.sum(axis=1).mean())
    assert np.mean(covered) >= confidence - 0.02
    assert np.mean(covered) <= confidence + 0.08
    assert np.mean(sizes) < 1.9


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
def test_hybrid_is_calibrated_on_held_out_subjects(data, parts, method):
    (images, y), (train, rest) = data, parts
    clf = boosted_hybrid().set_params(validation_fraction=0.4)
    plain = boosted_hybrid().fit(images[train], y[train]).predict_proba(images[rest])
    clf.set_params(calibration=method).fit(images[train], y[train])
    calibrated = clf.predict_proba(images[rest])
    error, before = (expected_calibration_error(y[rest], p) for p in (calibrated, plain))
    assert error < 0.7 * before
    head = clf.classifier_.estimator.estimator
    assert head.n_features_in_ == clf.classifier_.n_features_in_
    assert set(clf.evals_result_) == {"train", "validation"}
    assert clf.predict(images[rest]).dtype == y.dtype


def test_a_temperature_does_not_change_predicted_classes(data, parts):
    (images, y), (train, rest) = data, parts
    calibration = {"X_val": images[rest[:90]], "y_val": y[rest[:90]]}
    plain = boosted_hybrid().fit(images[train], y[train], **calibration)
    calm = boosted_hybrid().set_params(calibration="temperature")
    calm.fit(images[train], y[train], **calibration)
    assert np.array_equal(plain.predict(images[rest]), calm.predict(images[rest]))
    # The images to calibrate on were named: none of the others was cut off.
    raw = calm.classifier_.estimator.predict_proba(plain.transform(images[rest]))
    assert np.array_equal(raw, plain.predict_proba(images[rest]))


@pytest.mark.parametrize("routing", [False, True])
def test_temperature_stays_moderate_without_mistakes(routing):
    X, calibration = np.arange(40.0).reshape(-1, 1), np.arange(16, 24)
    target = (X[:, 0] >= 20).astype(int)
    unsure = LogisticRegression(C=1e-4).fit(X, target)
    with config_context(enable_metadata_routing=routing):
        calm = calibrate_head(unsure, "temperature", (X[calibration], target[calibration]))
    found = calm.predict_proba(X[calibration])[np.arange(8), target[calibration]]
    assert (unsure.predict_proba(X[calibration]).max(axis=1) < 0.6).all()
    # Of eight, none was wrong: of the next one, nobody can say more than 9 in 10.
    assert 0.8 < found.mean() < 0.92


def test_class_missing_in_validation_raises(data, parts):
    (images, y), (train, rest) = data, parts
    sick = rest[y[rest] == "ALL"]
    clf = boosted_hybrid().set_params(calibration="temperature")
    with pytest.raises(
        UnsupportedInputError, match="y_val has no image of class 'HEM', which calibration needs"
    ):
        clf.fit(images[train], y[train], X_val=images[sick], y_val=y[sick])


@pytest.mark.slow
def test_a_calibrated_hybrid_is_saved_and_loaded(data, parts, tmp_path):
    (images, y), (train, rest) = data, parts
    clf = boosted_hybrid().set_params(
        calibration="temperature", featurizer__backbone="shufflenet_v2_x0_5"
    )
    clf.fit(images[train], y[train])
    save(clf, tmp_path / "calm.effboost")
    loaded = load(tmp_path / "calm.effboost")
    expected = clf.predict_proba(images[rest])
    assert np.array_equal(loaded.predict_proba(images[rest]), expected)
    assert loaded.calibration == "temperature"
    export_onnx(loaded, tmp_path / "calm.onnx")
    exported = OnnxClassifier(tmp_path / "calm.onnx").predict_proba(images[rest])
    np.testing.assert_allclose(exported, expected, atol=1e-4)
