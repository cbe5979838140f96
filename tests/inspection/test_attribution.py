"""The hybrid's own decision on the picture, and that it adds up."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from xgboost import XGBClassifier, XGBRFClassifier
from xgboost.callback import EarlyStopping

from common.networks import TinyNet, tiny_featurizer
from effboost import HybridClassifier, LinearBoostedClassifier
from effboost.backbones import POOLINGS
from effboost.datasets import make_blood_cells
from effboost.exceptions import UnsupportedInputError
from effboost.inspection import hybrid_attribution
from effboost.inspection._attribution import _split
from effboost.inspection._fields import refine, spread
from effboost.inspection._margins import explain_margins

PLACES = [(4, 4), (4, 20), (20, 4), (20, 20)]


@pytest.fixture
def spots():
    """Dim noise with one bright spot in a known corner, whose colour is the class."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 30, (60, 24, 24, 3), dtype=np.uint8)
    corner = rng.integers(0, 4, 60)
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    for i in range(60):
        row, column = PLACES[corner[i]]
        X[i, row - 4 : row + 4, column - 4 : column + 4, i % 3] = 255
    return X, y, corner


def fitted(X, y, classifier=None, **params):
    classifier = classifier or XGBClassifier(n_estimators=15, max_depth=3, learning_rate=0.35)
    return HybridClassifier(tiny_featurizer(**params), classifier, random_state=0).fit(X, y)


def assert_complete(found, tolerance=1e-4):
    total = found.maps.sum(axis=(2, 3)) + found.base
    np.testing.assert_allclose(total, found.margin, atol=tolerance)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_maps_and_base_add_up_to_the_margin(spots, n_classes):
    X, y, _ = spots
    keep = np.isin(y, ["a", "b", "c"][:n_classes])
    X, y = X[keep], y[keep]
    clf = fitted(X, y)
    found = hybrid_attribution(clf, X)
    n_outputs = 1 if n_classes == 2 else 3
    assert found.maps.shape == (len(X), n_outputs, 6, 6)
    assert found.outputs.tolist() == (["b"] if n_classes == 2 else ["a", "b", "c"])
    assert_complete(found)
    proba = clf.predict_proba(X)
    if n_classes == 2:
        np.testing.assert_allclose(expit(found.margin[:, 0]), proba[:, 1], atol=1e-5)
    else:
        np.testing.assert_allclose(softmax(found.margin, axis=1), proba, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("against", ["means", "background"])
def test_maps_add_up_on_generated_cells(n_classes, against):
    cells = make_blood_cells(n_subjects=6, images_per_subject=6, image_size=64, random_state=0)
    y = np.array(["ALL", "HEM", "other"])[np.arange(36) // 6 % n_classes]
    clf = fitted(cells.images, y, backbone="resnet18", image_size=96)
    background = cells.images if against == "background" else None
    found = hybrid_attribution(clf, cells.images, background=background)
    gap = np.abs(found.maps.sum(axis=(2, 3)) + found.base - found.margin)
    assert (gap <= 1e-4 * np.maximum(1, np.abs(found.margin))).all()
    assert found.maps.std() > 0


def test_maps_mark_the_part_that_the_booster_uses(spots):
    X, y, corner = spots
    clf = fitted(X, y)
    found = hybrid_attribution(clf, X)
    right = clf.predict(X) == y
    assert right.mean() > 0.8
    own = found.maps[np.arange(60), np.searchsorted(clf.classes_, y)]
    quarters = own.reshape(60, 2, 3, 2, 3).sum(axis=(2, 4)).reshape(60, 4)
    hits = quarters.argmax(axis=1) == corner
    assert hits[right].mean() > 0.8  # a quarter of them by chance


def test_maps_of_a_fine_tuned_hybrid_add_up(spots):
    X, y, _ = spots
    assert_complete(hybrid_attribution(fitted(X, y, fine_tune=True, max_epochs=1), X))


def test_maps_explain_the_rounds_before_early_stopping(spots):
    X, y, _ = spots
    rng = np.random.default_rng(1)
    clf = HybridClassifier(
        tiny_featurizer(), XGBClassifier(n_estimators=200, early_stopping_rounds=3)
    ).fit(X[:40], y[:40], X_val=X[40:], y_val=rng.permutation(y[40:]))
    n_rounds = clf.classifier_.get_booster().num_boosted_rounds()
    assert clf.classifier_.best_iteration + 1 < n_rounds
    assert_complete(hybrid_attribution(clf, X))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "params",
    [
        {"missing": 0.0},
        {"missing": -1.0, "enable_categorical": True},
        {"n_estimators": 60, "callbacks": True},
        {"booster": "dart", "rate_drop": 0.5},
        {"num_parallel_tree": 3, "early_stopping_rounds": 2},
        {"base_score": 0.9, "max_delta_step": 0.3},
        {"objective": "binary:hinge"},
    ],
    ids=str,
)
def test_maps_add_up_for_all_settings_of_the_booster(spots, params, n_classes):
    X, y, _ = spots
    keep = np.isin(y, ["a", "b", "c"][:n_classes])
    params = {"n_estimators": 15, "learning_rate": 0.5} | params
    if params.get("objective") and n_classes == 3:
        params["objective"] = "multi:softmax"
    if params.pop("callbacks", False):
        params["callbacks"] = [EarlyStopping(rounds=2)]
    clf = fitted(X[keep], y[keep], XGBClassifier(**params))
    found = hybrid_attribution(clf, X[keep])
    assert_complete(found)
    # The margin is the one that decides.
    np.testing.assert_array_equal(
        found.classes[(found.margin[:, 0] > 0).astype(int)]
        if n_classes == 2
        else found.classes[found.margin.argmax(axis=1)],
        clf.predict(X[keep]),
    )


class OtherTrees(XGBClassifier):
    """Predicts by half of its rounds, which no attribute tells."""

    def predict(self, X, **params):
        return super().predict(X, **params, iteration_range=(0, self.n_estimators // 2))


def test_contributions_that_do_not_add_up_raise(spots):
    X, y, _ = spots
    clf = fitted(X, y, OtherTrees(n_estimators=20))
    with pytest.raises(
        UnsupportedInputError,
        match=r"do not add up to the margins that the head predicts \(they differ by up to",
    ):
        hybrid_attribution(clf, X[:3])


def test_trees_of_several_outputs_raise(spots):
    X, y, _ = spots
    clf = fitted(X, y, XGBClassifier(n_estimators=3, multi_strategy="multi_output_tree"))
    with pytest.raises(UnsupportedInputError, match=r"cannot split .*multi-target"):
        hybrid_attribution(clf, X[:3])


def test_maps_of_a_forest_add_up(spots):
    X, y, _ = spots
    assert_complete(hybrid_attribution(fitted(X, y, XGBRFClassifier(n_estimators=5)), X))


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("backbone", ["efficientnet_b0", "resnet18", "mobilenet_v2"], ids=str)
def test_maps_add_up_for_networks_whose_features_are_means(spots, backbone, side):
    X, y, _ = spots
    clf = fitted(X, y, backbone=backbone, image_size=side)
    found = hybrid_attribution(clf, X[:3])
    assert found.maps.shape[2:] == (side // 32, side // 32)
    assert_complete(found)


def test_map_of_one_position_is_found_in_an_exported_graph(spots):
    X, y, _ = spots
    clf = fitted(X, y, backbone="resnet18", image_size=32, runtime="onnxruntime")
    found = hybrid_attribution(clf, X[:3])
    assert found.maps.shape[2:] == (1, 1)
    assert_complete(found)


class LargestNet(TinyNet):
    """Features are the largest values of the last map."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(1)


def test_maps_do_not_depend_on_other_images(spots):
    X, y, _ = spots
    clf = fitted(X, y)
    among = hybrid_attribution(clf, X[:13])
    alone = hybrid_attribution(clf, X[12:13])
    np.testing.assert_allclose(alone.maps[0], among.maps[12], atol=1e-6)
    np.testing.assert_array_equal(alone.margin[0], among.margin[12])


@pytest.mark.parametrize(
    ("params", "classifier", "message"),
    [
        ({}, DecisionTreeClassifier(), "the head is DecisionTreeClassifier"),
        ({}, make_pipeline(PCA(2), LogisticRegression()), "has a PCA before its classifier"),
        ({}, CalibratedClassifierCV(LogisticRegression(), cv=2), "averages 2 calibrated"),
        ({}, XGBClassifier(booster="gblinear", n_estimators=2), "the head is XGBClassifier"),
        ({"features": "logits"}, None, "not the spatial means"),
        ({"backbone": "alexnet", "image_size": 64}, None, "not the spatial means"),
        ({"backbone": LargestNet}, None, "not the spatial means"),
        ({"backbone": LargestNet, "runtime": "onnxruntime"}, None, "not the spatial means"),
    ],
    ids=["tree", "PCA", "calibrated", "gblinear", "logits", "alexnet", "largest", "largest-onnx"],
)
def test_heads_and_features_that_cannot_be_attributed_raise(spots, params, classifier, message):
    X, y, _ = spots
    clf = fitted(X, y, classifier, **params)
    with pytest.raises(UnsupportedInputError, match=message):
        hybrid_attribution(clf, X[:2])


def test_upsample_enlarges_the_maps(spots):
    X, y, _ = spots
    found = hybrid_attribution(fitted(X, y), X[:2])
    large = found.upsample(24, 30)
    assert large.shape == (2, 3, 24, 30)
    assert large.dtype == np.float32
    assert found.maps.min() - 1e-6 <= large.min() <= large.max() <= found.maps.max() + 1e-6


values = st.floats(-5, 5, allow_nan=False, width=32)


@settings(deadline=None)
@given(st.lists(values, min_size=9, max_size=9))
def test_shares_add_up_and_stay_bounded(channel):
    shares = _split(np.array(channel).reshape(1, 1, 3, 3))
    assert shares.sum() == pytest.approx(1)
    # With x = v / d², the exact part is at most sqrt(1 + x) / (1 + x / n): n / 2 sqrt(n - 1).
    assert np.abs(shares).sum() <= 1 + 9 / (2 * np.sqrt(8)) + 1e-9


def test_channel_near_its_reference_is_split_by_absolute_deviations():
    deviations = np.arange(9.0).reshape(1, 1, 3, 3) - 4.0
    expected = np.abs(deviations) / np.abs(deviations).sum()
    for away in (1e-3, 1e-6, 0.0):
        np.testing.assert_allclose(_split(deviations + away), expected, atol=away)
    np.testing.assert_allclose(_split(np.zeros((1, 1, 3, 3))), 1 / 9)


def test_channel_far_from_its_reference_is_split_by_deviations():
    deviations = np.full((1, 1, 3, 3), 1000.0)
    deviations[0, 0, 1, 1] += 9.0
    shares = _split(deviations)
    np.testing.assert_allclose(shares, deviations / deviations.sum(), rtol=1e-3)


def test_background_removes_what_all_images_share(spots):
    # All pictures have one bright corner that tells nothing, and one that is the class.
    X, y, _ = spots
    X = X.copy()
    X[:, :4, :4] = 200
    clf = fitted(X, y)
    alone = hybrid_attribution(clf, X)
    against = hybrid_attribution(clf, X, background=X)
    assert_complete(alone)
    assert_complete(against)
    constant = np.abs(alone.maps[:, :, 0, 0]).mean(), np.abs(against.maps[:, :, 0, 0]).mean()
    assert constant[1] < 0.7 * constant[0]
    with pytest.raises(UnsupportedInputError, match="got no images"):
        hybrid_attribution(clf, X, background=X[:0])


def test_maps_of_eight_views_are_turned_back(spots):
    X, y, corner = spots
    clf = fitted(X, y, views="dihedral")
    found = hybrid_attribution(clf, X)
    assert_complete(found)
    turned = hybrid_attribution(clf, np.rot90(X, axes=(1, 2)))
    apart = np.abs(turned.maps - np.rot90(found.maps, axes=(2, 3))).max(axis=(1, 2, 3))
    # The mean of the same views in another order may fall to the other side of a split.
    assert np.mean(apart < 1e-4) > 0.9
    codes = np.unique(y, return_inverse=True)[1]
    own = found.maps[np.arange(60), codes]
    places = np.array(PLACES)[corner] // 4
    highest = np.stack(np.unravel_index(own.reshape(60, -1).argmax(axis=1), (6, 6)), axis=1)
    assert np.mean(np.abs(highest - places).max(axis=1) <= 1) > 0.8


def test_averaged_probabilities_of_views_raise(spots):
    X, y, _ = spots
    featurizer = tiny_featurizer(views="dihedral")
    clf = HybridClassifier(featurizer, random_state=0, view_averaging="probabilities").fit(X, y)
    with pytest.raises(UnsupportedInputError, match="a mean over views"):
        hybrid_attribution(clf, X[:2])


HEADS = {
    "trees": lambda: XGBClassifier(n_estimators=10, max_depth=2),
    "logistic": lambda: LogisticRegression(),
    "scaled": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
    "selected": lambda: make_pipeline(
        MinMaxScaler(), SelectKBest(k=5), RobustScaler(), LogisticRegression()
    ),
    "margins": lambda: make_pipeline(MaxAbsScaler(), LinearSVC()),
    "ridge": lambda: RidgeClassifier(),
    "selected trees": lambda: make_pipeline(SelectKBest(k=5), XGBClassifier(n_estimators=5)),
    "both": lambda: LinearBoostedClassifier(),
    "linear alone": lambda: LinearBoostedClassifier(linear_weight=1.0),
    "trees alone": lambda: LinearBoostedClassifier(linear_weight=0.0),
    "calibrated": lambda: CalibratedClassifierCV(LogisticRegression(), ensemble=False, cv=2),
}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_maps_add_up_for_heads_and_features_of_stages(spots, head, n_classes):
    X, y, _ = spots
    keep = np.isin(y, ["a", "b", "c"][:n_classes])
    X, y = X[keep], y[keep]
    own = "pooled" if n_classes == 2 else None
    clf = fitted(X, y, HEADS[head](), features=own, extra_features="stages", views="dihedral")
    found = hybrid_attribution(clf, X)
    assert_complete(found)
    assert_complete(hybrid_attribution(clf, X[:5], background=X))
    if found.is_probability:
        proba = clf.predict_proba(X)
        expected = proba[:, 1:] if n_classes == 2 else proba
        np.testing.assert_allclose(found.margin, expected, atol=1e-6)
    elif head != "calibrated":
        codes = found.margin.argmax(axis=1) if n_classes == 3 else found.margin[:, 0] > 0
        np.testing.assert_array_equal(clf.classes_[codes.astype(int)], clf.predict(X))
    of_stages = [maps.sum(axis=(2, 3)) for maps in found.stages.values()]
    np.testing.assert_allclose(np.sum(of_stages, axis=0), found.maps.sum(axis=(2, 3)), atol=1e-9)
    np.testing.assert_allclose(sum(found.stage_shares().values()), 1)


@settings(deadline=None, max_examples=12)
@given(
    st.lists(
        st.tuples(st.integers(-2, -1), st.sampled_from(["avg", "std", "max", "gem"])),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["original", "rotations", "dihedral"]),
    st.sampled_from(["both", "scaled", "trees"]),
    st.integers(2, 4),
)
def test_maps_add_up_for_any_features(extra, views, head, n_classes):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    y = np.arange(24) % n_classes
    X[np.arange(24), :, :, y % 3] //= 2
    clf = fitted(X, y, HEADS[head](), extra_features=tuple(extra), views=views)
    found = hybrid_attribution(clf, X[:6])
    gap = np.abs(found.maps.sum(axis=(2, 3)) + found.base - found.margin)
    assert (gap <= 1e-4 * np.maximum(1, np.abs(found.margin))).all()


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_maps_of_stages_have_their_own_resolutions(spots, backbone, runtime):
    X, y, _ = spots
    clf = fitted(
        X[:12],
        y[:12],
        LinearBoostedClassifier(),
        backbone=backbone,
        image_size=64,
        extra_features="stages",
        runtime=runtime,
    )
    found = hybrid_attribution(clf, X[:3])
    assert_complete(found)
    sides = [maps.shape[2] for maps in found.stages.values()]
    assert sides[0] == 2  # of the network itself
    assert max(sides) == found.maps.shape[2] >= 8
    assert len(found.stages) >= 4


def test_contributions_of_a_linear_head_are_those_of_its_coefficients(spots):
    X, y, _ = spots
    keep = y != "c"
    clf = fitted(X[keep], y[keep], LogisticRegression())
    found = hybrid_attribution(clf, X[:2])
    features = clf.transform(X[:2])
    for i in range(2):
        away = clf.classifier_.coef_[0] * (features[i] - clf.feature_means_)
        assert found.maps[i].sum() == pytest.approx(away.sum(), abs=1e-5)
    assert found.method == "coefficients"


def test_contributions_to_probabilities_are_in_proportion_to_the_margin(spots):
    X, y, _ = spots
    keep = y != "c"
    clf = fitted(X[keep], y[keep], LinearBoostedClassifier(linear_weight=1.0))
    scaled = make_pipeline(clf.classifier_.scaler_, clf.classifier_.linear_)
    found = hybrid_attribution(clf, X[:4])
    margins = scaled.decision_function(clf.transform(X[:4]))
    base = scaled.decision_function(clf.feature_means_[np.newaxis])
    np.testing.assert_allclose(found.base[:, 0], expit(base)[0], atol=1e-6)
    np.testing.assert_allclose(found.margin[:, 0], expit(margins), atol=1e-6)


def test_fields_have_the_pooled_features_as_means():
    maps = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    maps[0, 0] = 0.5  # a constant channel has no deviation
    for pooling in ("avg", "std", "max", "gem"):
        expected = POOLINGS[pooling](torch.from_numpy(maps)).numpy()
        np.testing.assert_allclose(
            spread(maps, pooling).mean(axis=(2, 3)), expected, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(("coarse", "fine"), [(2, 4), (3, 7), (5, 5), (1, 9), (17, 33)])
def test_refined_maps_keep_their_sums_and_places(coarse, fine):
    maps = np.random.default_rng(0).normal(size=(2, coarse, coarse))
    found = refine(maps, fine, fine)
    assert found.shape == (2, fine, fine)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), maps.sum(axis=(1, 2)))
    left = np.zeros((coarse, coarse))
    left[:, 0] = 1
    assert refine(left, fine, fine)[:, -(-fine // coarse) :].sum() == pytest.approx(0, abs=1e-9)


def test_unknown_poolings_raise():
    maps = np.zeros((1, 1, 2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="pooling='median' is unknown"):
        spread(maps, "median")


def test_heads_that_are_frozen_or_pass_features_on_are_explained():
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    linear = LogisticRegression().fit(rows, rows[:, 0] > 0)
    expected = explain_margins(linear, rows, np.zeros(3))
    for head in (FrozenEstimator(linear), Pipeline([("a", "passthrough"), ("b", linear)])):
        found = explain_margins(head, rows, np.zeros(3))
        np.testing.assert_allclose(found.margin, expected.margin)
        np.testing.assert_allclose(found.coefficients, expected.coefficients)


class Doubtful(LogisticRegression):
    """Its probabilities are not those of its margin."""

    def predict_proba(self, X):
        return (super().predict_proba(X) + 0.5) / 2


def test_probabilities_that_are_not_those_of_the_margin_raise():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    head = LinearBoostedClassifier(linear=Doubtful(), linear_weight=1.0)
    head.fit(rows, rows[:, 0] > 0)
    with pytest.raises(UnsupportedInputError, match="not those of its margins"):
        explain_margins(head, rows.astype(np.float32), np.zeros(3))
