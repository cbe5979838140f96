import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_validate,
    train_test_split,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from skorch.callbacks import Callback
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import (
    EfficientNetFeaturizer,
    HybridClassifier,
    ImageFeaturizer,
    ImageSequence,
    ImageTransform,
)
from effboost._extraction.prepared_images import PreparedImages
from effboost.exceptions import ImageDecodeError, LeakageError, UnsupportedInputError


def tiny_hybrid(**params):
    booster = XGBClassifier(n_estimators=5, learning_rate=0.35, tree_method="hist", n_jobs=1)
    settings = {"featurizer": tiny_featurizer(), "classifier": booster, "random_state": 0}
    return HybridClassifier(**(settings | params))


def test_fit_predict_score_as_scikit_learn_has_them(pixels, three_classes):
    clf = tiny_hybrid()
    assert clf.fit(pixels, three_classes) is clf
    assert list(clf.classes_) == ["blast", "healthy", "other"]
    proba = clf.predict_proba(pixels)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(clf.predict(pixels), clf.classes_[proba.argmax(axis=1)])
    assert clf.score(pixels, three_classes) > 0.9
    assert clf.transform(pixels).shape == (24, 8)
    assert len(clf.get_feature_names_out()) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "side"),
    [("vgg16", 32), ("resnet18", 32), ("inception_v3", 75), ("efficientnet_b0", 32)],
)
def test_every_network_of_table_1_fits_and_predicts(pixels, three_classes, backbone, side):
    transform = ImageTransform(crop_size=None, image_size=side)
    featurizer = ImageFeaturizer(backbone, weights=None, transform=transform, runtime="torch")
    clf = tiny_hybrid(featurizer=featurizer).fit(pixels[:6], three_classes[:6])
    assert clf.predict_proba(pixels[:3]).shape == (3, 3)


@pytest.mark.parametrize(
    "y",
    [
        np.arange(24) % 2,
        np.arange(24) % 2 == 0,
        np.array(["b", "a"])[np.arange(24) % 2],
        [7, -3] * 12,
    ],
    ids=["int", "bool", "str", "list of odd ints"],
)
def test_labels_of_any_kind_come_back(pixels, y):
    clf = tiny_hybrid().fit(pixels, y)
    assert set(clf.predict(pixels).tolist()) <= set(np.asarray(y).tolist())
    assert clf.predict(pixels).dtype == np.asarray(y).dtype


def test_nothing_set_means_the_papers_parts():
    clf = HybridClassifier()
    assert clf.featurizer is None
    assert clf.classifier is None
    deep = clf.get_params()
    assert deep["featurizer__backbone"] == "efficientnet_b0"
    assert deep["featurizer__transform__crop_size"] == 448
    assert deep["featurizer__transform__image_size"] == 224
    assert deep["classifier__learning_rate"] == 0.35
    assert deep["classifier__tree_method"] == "hist"
    assert clone(clf).featurizer is None


def test_a_nested_name_first_replaces_none_by_the_default():
    clf = HybridClassifier().set_params(
        classifier__max_depth=3, featurizer__transform__image_size=96
    )
    assert isinstance(clf.classifier, XGBClassifier)
    assert (clf.classifier.max_depth, clf.classifier.learning_rate) == (3, 0.35)
    assert isinstance(clf.featurizer, EfficientNetFeaturizer)
    assert clf.get_params()["featurizer__transform__image_size"] == 96


def test_a_wrong_nested_name_is_refused():
    with pytest.raises(ValueError, match="Invalid parameter 'image_sise'"):
        HybridClassifier().set_params(featurizer__image_sise=96)


def test_grid_search_by_nested_name_with_grouped_folds(paths, three_classes, subjects):
    search = GridSearchCV(
        tiny_hybrid(),
        {"classifier__max_depth": [1, 3], "featurizer__transform__image_size": [24]},
        cv=StratifiedGroupKFold(2),
    ).fit(ImageSequence(paths), three_classes, groups=subjects)
    assert search.best_score_ > 0.8
    assert search.predict(paths[:2]).tolist() == three_classes[:2].tolist()


@pytest.mark.slow
def test_grid_search_over_the_defaults_of_a_hybrid_with_nothing_set(pixels, three_classes):
    grid = {
        "featurizer__weights": [None],
        "featurizer__training": [None],
        "featurizer__transform__crop_size": [None],
        "featurizer__transform__image_size": [32],
        "classifier__n_estimators": [2],
        "classifier__max_depth": [1, 2],
    }
    search = GridSearchCV(HybridClassifier(random_state=0), grid, cv=2, error_score="raise")
    search.fit(pixels[:12], three_classes[:12])
    assert search.best_estimator_.transform(pixels[:2]).shape == (2, 1280)


def test_cross_validate_pipeline_and_split(paths, three_classes, subjects):
    scores = cross_validate(
        make_pipeline(FunctionTransformer(lambda X: X), tiny_hybrid()),
        ImageSequence(paths),
        three_classes,
        groups=subjects,
        cv=StratifiedGroupKFold(3),
        return_train_score=True,
    )
    assert scores["test_score"].shape == (3,)
    assert scores["train_score"].min() > 0.9
    train, test, y_train, y_test = train_test_split(
        ImageSequence(paths), three_classes, stratify=three_classes, random_state=0
    )
    assert tiny_hybrid().fit(train, y_train).score(test, y_test) > 0.5


@pytest.mark.parametrize(
    "head",
    [make_pipeline(StandardScaler(), LogisticRegression()), SVC(), LogisticRegression(C=10)],
    ids=["pipeline", "svc", "logistic"],
)
def test_any_classifier_can_be_the_head(pixels, three_classes, head):
    clf = tiny_hybrid(classifier=head).fit(pixels, three_classes)
    assert clf.predict(pixels).shape == (24,)
    assert hasattr(clf, "predict_proba") == hasattr(head, "predict_proba")
    assert hasattr(clf, "decision_function")
    assert clf.decision_function(pixels).shape == (24, 3)


def test_boosted_trees_have_no_decision_function():
    assert not hasattr(HybridClassifier(), "decision_function")
    assert hasattr(HybridClassifier(), "predict_proba")


def test_a_saved_model_predicts_the_same(paths, three_classes, tmp_path):
    clf = tiny_hybrid().fit(paths, three_classes)
    expected = clf.predict_proba(paths)
    joblib.dump(clf, tmp_path / "model.joblib")
    assert np.array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(paths), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(paths), expected)


def test_the_seed_reaches_the_children_whose_own_is_none(pixels, three_classes):
    own = tiny_featurizer(random_state=None)
    one, same, other = (
        tiny_hybrid(featurizer=own, random_state=seed).fit(pixels, three_classes)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.predict_proba(pixels), same.predict_proba(pixels))
    assert not np.array_equal(one.transform(pixels), other.transform(pixels))
    assert one.classifier_.random_state is not None
    kept = tiny_hybrid(featurizer=tiny_featurizer(random_state=5), random_state=1)
    assert kept.fit(pixels, three_classes).featurizer_.random_state == 5
    assert own.random_state is None


def test_sample_weight_reaches_the_head(pixels):
    y = np.arange(24) % 2
    # Contradicting labels: two copies of every picture, one of each class.
    X = np.concatenate([pixels, pixels])
    labels = np.concatenate([y, 1 - y])
    weight = np.concatenate([np.full(24, 10.0), np.full(24, 0.1)])
    clf = tiny_hybrid().set_params(classifier__n_estimators=50, classifier__min_child_weight=0)
    assert clf.fit(X, labels, sample_weight=weight).score(pixels, y) > 0.9
    assert clf.fit(X, labels, sample_weight=weight[::-1]).score(pixels, y) < 0.1


def test_set_output_changes_transform_but_not_the_input_of_the_head(pixels, three_classes):
    clf = tiny_hybrid().set_output(transform="pandas").fit(pixels, three_classes)
    assert clf.transform(pixels).shape == (24, 8)
    assert hasattr(clf.transform(pixels), "columns")
    assert clf.score(pixels, three_classes) > 0.9


def test_one_class_is_an_error_that_names_it(pixels):
    with pytest.raises(UnsupportedInputError, match=r"one class only, 'ALL'.*at least two"):
        tiny_hybrid().fit(pixels, ["ALL"] * 24)


@pytest.mark.parametrize("name", ["y", "groups", "sample_weight"])
def test_lengths_that_differ_are_named(pixels, three_classes, name):
    arguments = {"y": three_classes, "groups": np.arange(24), "sample_weight": np.ones(24)}
    arguments[name] = arguments[name][:-1]
    with pytest.raises(UnsupportedInputError, match=f"24 images, but {name} has 23"):
        tiny_hybrid().fit(pixels, **arguments)


def test_real_valued_labels_are_refused(pixels):
    with pytest.raises(ValueError, match="Unknown label type"):
        tiny_hybrid().fit(pixels, np.linspace(0, 1, 24))


def test_a_broken_image_leaves_the_classifier_unfitted(paths, three_classes):
    clf = tiny_hybrid()
    Path(paths[5]).write_bytes(b"\x89PNG broken")
    with pytest.raises(ImageDecodeError, match=r"position 5, .*cell_05"):
        clf.fit(paths, three_classes)
    with pytest.raises(NotFittedError):
        clf.predict(paths)


def test_an_interrupted_refit_keeps_the_former_fit(pixels, three_classes):
    class Interrupting(LogisticRegression):
        def fit(self, X, y):
            raise KeyboardInterrupt

    clf = tiny_hybrid().fit(pixels, three_classes)
    before = clf.predict_proba(pixels)
    clf.classifier = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        clf.fit(pixels, three_classes)
    assert np.array_equal(clf.predict_proba(pixels), before)


def test_repr_and_html_are_short_and_do_not_build_networks():
    assert repr(HybridClassifier()) == "HybridClassifier()"
    assert "HybridClassifier" in HybridClassifier()._repr_html_()


# --- with training -------------------------------------------------------------------------


def tuned_hybrid(**params):
    featurizer = tiny_featurizer(
        fine_tune=True, max_epochs=2, batch_size=8, lr=0.02, random_state=None
    )
    return tiny_hybrid(**({"featurizer": featurizer} | params))


class Recorder(Callback):
    """Keeps the data sets of the last training, beyond the copies scikit-learn makes."""

    datasets = ()

    def on_epoch_begin(self, net, dataset_train, dataset_valid, **_):
        type(self).datasets = (dataset_train, dataset_valid)


def recording(**params):
    return tuned_hybrid(**params).set_params(featurizer__callbacks=[Recorder()])


class HeadRecorder(LogisticRegression):
    """Keeps what the last head was fitted on."""

    fitted = ()

    def fit(self, X, y, sample_weight=None):
        type(self).fitted = (X, y, sample_weight)
        return super().fit(X, y, sample_weight)


def test_the_network_alone_shares_the_tuned_weights(pixels, three_classes):
    clf = tuned_hybrid().fit(pixels, three_classes)
    assert clf.cnn_.featurizer_ is clf.featurizer_
    assert clf.cnn_.classes_.tolist() == clf.classes_.tolist()
    assert clf.cnn_.predict_proba(pixels).shape == (24, 3)
    assert clf.history_ == clf.cnn_.history_ == clf.featurizer_.history_
    assert not hasattr(tiny_hybrid().fit(pixels, three_classes), "cnn_")


def test_the_same_seed_gives_the_same_bits_training_included(pixels, three_classes):
    one, same = (
        tuned_hybrid(random_state=3).fit(pixels, three_classes).predict_proba(pixels)
        for _ in range(2)
    )
    assert np.array_equal(one, same)


def test_in_sample_heads_learn_from_the_rows_of_the_network(pixels, three_classes):
    recording(classifier=HeadRecorder()).fit(pixels, three_classes)
    assert len(Recorder.datasets[0].images) == len(HeadRecorder.fitted[1]) == 24


def test_holdout_heads_learn_from_subjects_the_network_has_not_seen(pixels, three_classes):
    subjects = np.array([f"S{i % 12}" for i in range(24)])
    images = ImageSequence(pixels, groups=subjects)
    clf = recording(classifier=HeadRecorder(), head_protocol="holdout", holdout_fraction=0.5)
    clf.fit(images, three_classes)
    tuned_on = Recorder.datasets[0].images
    features = HeadRecorder.fitted[0]
    everything = clf.transform(pixels)
    rows = [int(np.flatnonzero((everything == f).all(axis=1))[0]) for f in features]
    assert len(rows) + len(tuned_on) == 24
    assert not set(subjects[rows]) & set(tuned_on.groups)
    assert set(HeadRecorder.fitted[1]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"head_protocol": "holdout"}, 'head_protocol="holdout" has no effect with training=None'),
        ({"holdout_fraction": 0.5}, "holdout_fraction=0.5 has no effect without"),
        ({"view_averaging": "probabilities"}, "'probabilities' has no effect with views="),
        ({"featurizer__callbacks": [Callback()]}, "callbacks have no effect with training=None"),
    ],
)
def test_a_parameter_without_effect_is_refused(pixels, three_classes, params, message):
    with pytest.raises(ValueError, match=message):
        tiny_hybrid().set_params(**params).fit(pixels, three_classes)


def test_a_nested_name_below_none_is_refused_by_name():
    clf = tiny_hybrid()
    with pytest.raises(ValueError, match=r"training=None has no parameter 'lr'"):
        clf.set_params(featurizer__training__lr=0.1)


def test_metrics_of_the_booster_are_recorded_on_training_and_validation_rows(pixels, three_classes):
    clf = tiny_hybrid().fit(pixels, three_classes)
    assert clf.evals_result_.keys() == {"train"}
    assert clf.evals_result_["train"].keys() == {"merror", "mlogloss"}
    assert len(clf.evals_result_["train"]["merror"]) == 5
    wrong = (clf.predict(pixels) != three_classes).mean()
    assert clf.evals_result_["train"]["merror"][-1] == pytest.approx(wrong)
    clf.fit(pixels[:16], three_classes[:16], X_val=pixels[16:], y_val=three_classes[16:])
    wrong = (clf.predict(pixels[16:]) != three_classes[16:]).mean()
    assert clf.evals_result_["validation"]["merror"][-1] == pytest.approx(wrong)
    clf.set_params(classifier=LogisticRegression()).fit(pixels, three_classes)
    assert not hasattr(clf, "evals_result_")


def test_two_classes_have_the_binary_error(pixels):
    clf = tiny_hybrid().fit(pixels, np.arange(24) % 2)
    assert clf.evals_result_["train"].keys() == {"error", "logloss"}
    own = tiny_hybrid().set_params(classifier__eval_metric="auc").fit(pixels, np.arange(24) % 2)
    assert own.evals_result_["train"].keys() == {"auc"}


def test_early_stopping_sets_subjects_aside_that_neither_part_learns_from(pixels, three_classes):
    subjects = np.array([f"S{i % 12}" for i in range(24)])
    clf = recording().set_params(
        classifier__early_stopping_rounds=3,
        classifier__n_estimators=200,
        featurizer__training__validation_fraction=0.25,
    )
    clf.fit(ImageSequence(pixels, groups=subjects), three_classes)
    train, valid = Recorder.datasets
    assert not set(train.images.groups) & set(valid.images.groups)
    assert len(train.images) + len(valid.images) == 24
    assert len(clf.evals_result_["validation"]["merror"]) < 200
    assert clf.classifier_.best_iteration < 199


def test_class_weights_reach_both_parts(pixels):
    y = np.array(["ALL"] * 18 + ["HEM"] * 6)
    recording(classifier=HeadRecorder(), class_weight="balanced").fit(pixels, y)
    expected = np.where(y == "ALL", 24 / 36, 24 / 12)
    _, codes, weights = HeadRecorder.fitted
    np.testing.assert_allclose(weights, np.where(codes == 0, 24 / 36, 24 / 12))
    assert np.bincount(codes).tolist() == [18, 6]
    np.testing.assert_allclose(Recorder.datasets[0].weight, expected, rtol=1e-6)


def test_a_featurizers_own_class_weight_is_kept(pixels):
    y = np.array(["ALL"] * 18 + ["HEM"] * 6)
    clf = recording(classifier=HeadRecorder(), class_weight="balanced")
    clf.set_params(featurizer__training__class_weight={"HEM": 2.0}).fit(pixels, y)
    assert set(Recorder.datasets[0].weight.tolist()) == {1.0, 2.0}


def test_weights_that_the_head_does_not_take_raise_before_any_image_is_read(pixels):
    y = np.array(["ALL"] * 18 + ["HEM"] * 6)
    images = ImageSequence(pixels).map(fail_to_read)
    head = make_pipeline(StandardScaler(), KNeighborsClassifier())
    with pytest.raises(UnsupportedInputError, match="Pipeline does not take sample_weight"):
        tiny_hybrid(classifier=head, class_weight="balanced").fit(images, y)


def fail_to_read(picture):
    raise AssertionError("an image was read")


def test_validation_subjects_of_the_training_are_refused(pixels, three_classes):
    with pytest.raises(LeakageError, match="such as 'S1'"):
        tuned_hybrid().fit(
            pixels,
            three_classes,
            groups=["S1"] * 12 + ["S2"] * 12,
            X_val=pixels,
            y_val=three_classes,
            groups_val=["S1"] * 24,
        )


def test_grid_search_over_learning_rate_and_depth_by_subject(paths, three_classes, subjects):
    search = GridSearchCV(
        tuned_hybrid(),
        {"featurizer__training__lr": [1e-3, 2e-2], "classifier__max_depth": [1, 3]},
        cv=StratifiedGroupKFold(2),
    ).fit(ImageSequence(paths, groups=subjects), three_classes, groups=subjects)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.cnn_.predict(paths).shape == (24,)


def test_ctrl_c_in_an_epoch_keeps_the_former_fit(pixels, three_classes):
    class Interrupt(Callback):
        def on_batch_end(self, net, **_):
            raise KeyboardInterrupt

    clf = tuned_hybrid().fit(pixels, three_classes)
    before = clf.predict_proba(pixels)
    clf.set_params(featurizer__callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(pixels, three_classes)
    assert np.array_equal(clf.predict_proba(pixels), before)


def test_a_saved_tuned_model_predicts_the_same(pixels, three_classes, tmp_path):
    clf = tuned_hybrid().fit(pixels, three_classes)
    joblib.dump(clf, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    assert np.array_equal(loaded.predict_proba(pixels), clf.predict_proba(pixels))
    assert np.array_equal(loaded.cnn_.predict_proba(pixels), clf.cnn_.predict_proba(pixels))
    assert loaded.cnn_.featurizer_ is loaded.featurizer_


def test_a_regressor_is_refused_as_a_head(pixels, three_classes):
    with pytest.raises(UnsupportedInputError, match="is not a classifier"):
        tiny_hybrid(classifier=LinearRegression()).fit(pixels, three_classes)


def test_a_class_of_weight_zero_is_unknown_to_all_parts(pixels, three_classes):
    clf = tuned_hybrid().fit(pixels, three_classes, sample_weight=(three_classes != "other") * 1.0)
    assert clf.classes_.tolist() == clf.cnn_.classes_.tolist() == ["blast", "healthy"]


def test_the_head_can_learn_from_all_views_and_average_their_probabilities(pixels, three_classes):
    head = LogisticRegression(C=10.0, max_iter=500)
    clf = tiny_hybrid(
        featurizer=tiny_featurizer(views="dihedral"),
        classifier=head,
        view_averaging="probabilities",
    ).fit(pixels, three_classes)
    prepared = PreparedImages(ImageSequence(pixels), clf.featurizer_.transform_)
    of_views = clf.featurizer_._compute_features(prepared, average=False)
    assert of_views.shape == (24, 8, 8)
    rows = of_views.reshape(-1, 8)
    alone = clone(head).set_params(random_state=clf.classifier_.random_state)
    codes = np.unique(three_classes, return_inverse=True)[1]
    alone.fit(rows, np.repeat(codes, 8), sample_weight=np.full(len(rows), 1 / 8))
    expected = alone.predict_proba(rows).reshape(24, 8, 3).mean(axis=1)
    proba = clf.predict_proba(pixels)
    np.testing.assert_allclose(proba, expected, atol=1e-5)
    np.testing.assert_array_equal(clf.predict(pixels), clf.classes_[proba.argmax(axis=1)])
    assert clf.decision_function(pixels).shape == (24, 3)
    assert clf.transform(pixels).shape == (24, 8)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_head_without_probabilities_averages_its_scores_over_the_views(pixels, n_classes):
    y = np.arange(24) % n_classes
    clf = tiny_hybrid(
        featurizer=tiny_featurizer(views="dihedral"),
        classifier=SVC(),
        view_averaging="probabilities",
    ).fit(pixels, y)
    scores = clf.decision_function(pixels)
    best = scores.argmax(axis=1) if n_classes == 3 else (scores > 0).astype(int)
    np.testing.assert_array_equal(clf.predict(pixels), best)
    assert (clf.predict(pixels[:, ::-1]) == best).mean() > 0.9


def test_a_head_that_gives_no_numbers_is_a_clear_error(pixels, three_classes):
    """Of a stack, scikit-learn complained that the input of its last member contains NaN."""
    members = [("a", LogisticRegression()), ("b", GaussianNB())]
    for head in (LogisticRegression(), StackingClassifier(members, cv=2)):
        clf = HybridClassifier(tiny_featurizer(), head).fit(pixels, three_classes)
        linear = getattr(clf.classifier_, "estimators_", [clf.classifier_])[0]
        linear.coef_[:] = np.nan
        with pytest.raises(UnsupportedInputError, match=r"cannot decide .*NaN"):
            clf.predict_proba(pixels)
    with pytest.raises(UnsupportedInputError, match=r"Stacking\w+ cannot decide"):
        clf.predict(pixels)
    svm = HybridClassifier(tiny_featurizer(), LinearSVC()).fit(pixels, three_classes)
    svm.classifier_.intercept_[:] = np.inf
    with pytest.raises(UnsupportedInputError, match="its scores contain NaN or infinity"):
        svm.decision_function(pixels)


def test_a_refit_that_fails_leaves_the_former_model_whole(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), XGBClassifier(n_estimators=2))
    before = clf.fit(pixels, three_classes).check_familiarity(pixels).p_values
    means = clf.feature_means_
    clf.set_params(classifier__max_depth=-5)
    with pytest.raises(Exception, match="max_depth"):
        clf.fit(pixels // 4, three_classes)
    np.testing.assert_array_equal(clf.feature_means_, means)
    np.testing.assert_array_equal(clf.check_familiarity(pixels).p_values, before)


def test_balanced_classes_count_weights_as_repeated_images(pixels, three_classes):
    times = np.where(np.asarray(three_classes) == three_classes[0], 3, 1)
    again = np.repeat(np.arange(24), times)
    head = LogisticRegression(max_iter=5000, tol=1e-8)
    clf = HybridClassifier(tiny_featurizer(), head, class_weight="balanced")
    weighted = clf.fit(pixels, three_classes, sample_weight=times).predict_proba(pixels)
    repeated = clf.fit(pixels[again], np.asarray(three_classes)[again]).predict_proba(pixels)
    np.testing.assert_allclose(weighted, repeated, atol=1e-4)


def test_a_head_without_scores_cannot_be_calibrated(pixels, three_classes):
    vote = VotingClassifier([("a", LogisticRegression()), ("b", SVC())])
    clf = HybridClassifier(tiny_featurizer(), vote, calibration="temperature")
    with pytest.raises(UnsupportedInputError, match="voting='soft'"):
        clf.fit(pixels, three_classes)


def test_features_are_chosen_by_weight_wherever_they_are_kept(pixels, three_classes):
    weights = np.zeros(8)
    weights[[1, 5]] = 1
    head = XGBClassifier(n_estimators=5, colsample_bytree=0.2, feature_weights=weights)
    clf = HybridClassifier(tiny_featurizer(), head, feature_storage="disk")
    used = clf.fit(pixels, three_classes).classifier_.feature_importances_
    assert set(np.flatnonzero(used)) <= {1, 5}
