import sys

import numpy as np
import pytest
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from common.networks import tiny_featurizer
from effboost import HybridClassifier, SiteAdaptedClassifier
from effboost.exceptions import MissingDependencyError, UnsupportedInputError
from effboost.inspection import occlusion_attribution


class CornerClassifier(ClassifierMixin, BaseEstimator):
    """Decides by the red of the upper left quarter alone, on a scale that is known."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        red = np.array([x[: len(x) // 2, : x.shape[1] // 2, 0].mean() for x in map(np.asarray, X)])
        red /= 255
        shares = [1 - 0.8 * red - 0.1, 0.8 * red + 0.1]
        if len(self.classes_) == 3:
            shares = [shares[0] / 2, shares[1], shares[0] / 2]
        return np.stack(shares, axis=1)


@pytest.fixture
def pictures():
    X = np.zeros((2, 64, 48, 3), dtype=np.uint8)
    X[0, 4:20, 4:20, 0] = 255
    X[1, 40:60, 30:40, 1] = 255
    return X


def test_only_the_part_that_the_classifier_uses_is_marked(pictures):
    clf = CornerClassifier().fit(pictures, ["a", "b"])
    found = occlusion_attribution(clf, pictures, n_segments=30, fill=(0, 0, 0))
    assert found.maps.shape == (2, 1, 224, 224)
    assert found.method == "occlusion"
    assert found.outputs.tolist() == ["b"]
    spot = found.maps[0, 0, 20:62, 25:85]
    assert (spot > 0.01).mean() > 0.8
    np.testing.assert_allclose(found.maps[0, 0, 120:], 0)  # another half of the picture
    np.testing.assert_allclose(found.maps[1], 0)
    expected = logit(clf.predict_proba(pictures)[:, 1])
    np.testing.assert_allclose(found.margin[:, 0], expected)
    # With all hidden, all is black.
    np.testing.assert_allclose(found.base[:, 0], logit(0.1))


def test_three_classes_have_three_outputs(pictures):
    clf = CornerClassifier().fit(pictures, ["a", "b", "c"])
    found = occlusion_attribution(clf, pictures[:1], n_segments=10, fill=(0, 0, 0))
    assert found.maps.shape == (1, 3, 224, 224)
    assert found.outputs.tolist() == ["a", "b", "c"]
    a, b, c = found.maps[0]
    np.testing.assert_array_equal(a, c)
    assert b.max() > 0 > a.min()


def test_blur_hides_structure_and_keeps_the_colour(pictures):
    clf = CornerClassifier().fit(pictures, ["a", "b"])
    sharp = occlusion_attribution(clf, pictures[:1], n_segments=30, fill=(0, 0, 0))
    soft = occlusion_attribution(clf, pictures[:1], n_segments=30, fill="blur")
    assert 0 < soft.maps.max() < sharp.maps.max()
    assert soft.base[0, 0] > sharp.base[0, 0]


def test_default_fill_is_the_colour_of_the_border(pictures):
    clf = CornerClassifier().fit(pictures, ["a", "b"])
    bright = np.where(pictures > 0, pictures, 200).astype(np.uint8)
    found = occlusion_attribution(clf, bright[:1], n_segments=30)
    named = occlusion_attribution(clf, bright[:1], n_segments=30, fill=(200, 200, 200))
    np.testing.assert_array_equal(found.maps, named.maps)
    np.testing.assert_allclose(found.maps[0, 0, 100:], 0)  # hidden by what it is already


def test_heads_without_trees_and_without_probabilities(pictures):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (20, 24, 24, 3), dtype=np.uint8)
    y = np.arange(20) % 2
    clf = HybridClassifier(tiny_featurizer(), LinearSVC(), random_state=0).fit(X, y)
    found = occlusion_attribution(clf, X[:2], n_segments=4)
    np.testing.assert_allclose(found.margin[:, 0], clf.decision_function(X[:2]), rtol=1e-6)
    pipeline = make_pipeline(tiny_featurizer(), LinearSVC()).fit(X, y)
    other = occlusion_attribution(pipeline, X[:2], n_segments=4)
    assert other.maps.shape == (2, 1, 224, 224)


@pytest.mark.parametrize("n_classes", [3, 4])  # of three classes, there are as many pairs
def test_scores_of_pairs_of_classes_raise(pixels, n_classes):
    y = np.arange(24) % n_classes
    pairs = make_pipeline(tiny_featurizer(), SVC(decision_function_shape="ovo")).fit(pixels, y)
    with pytest.raises(UnsupportedInputError, match="not return a score for each class"):
        occlusion_attribution(pairs, pixels, n_segments=4)
    each = make_pipeline(tiny_featurizer(), SVC()).fit(pixels, y)
    assert occlusion_attribution(each, pixels[:1], n_segments=4).maps.shape[1] == n_classes


def test_images_of_different_sizes(tmp_path, pictures):
    clf = CornerClassifier().fit(pictures, ["a", "b"])
    several = [pictures[0], np.tile(pictures[0], (3, 3, 1))]
    assert occlusion_attribution(clf, several, n_segments=5).maps.shape == (2, 1, 224, 224)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_segments": 1}, "must be 2 or more"),
        ({"fill": "black"}, '"blur" or three numbers'),
        ({"fill": (1, 2)}, '"blur" or three numbers'),
        ({"fill": (1, 2, 300)}, '"blur" or three numbers'),
    ],
    ids=["segments", "word", "pair", "range"],
)
def test_options_out_of_range_raise(pictures, options, message):
    clf = CornerClassifier().fit(pictures, ["a", "b"])
    with pytest.raises(UnsupportedInputError, match=message):
        occlusion_attribution(clf, pictures, **options)


def test_classifier_without_scores_raises(pictures):
    class Plain(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

    with pytest.raises(UnsupportedInputError, match="neither predict_proba nor"):
        occlusion_attribution(Plain().fit(pictures, ["a", "b"]), pictures)


def test_missing_package_raises_with_the_extra(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    clf = CornerClassifier().fit(pictures, ["a", "b"])
    with pytest.raises(MissingDependencyError, match=r"needs skimage: .*effboost\[explain\]"):
        occlusion_attribution(clf, pictures)


def test_a_classifier_that_adapts_to_a_call_is_refused(pixels, three_classes):
    """Occluded copies of one image are no images of one site."""
    head = SiteAdaptedClassifier(LogisticRegression(), min_samples=2)
    clf = HybridClassifier(tiny_featurizer(), head).fit(pixels, three_classes)
    with pytest.raises(UnsupportedInputError, match="adapts to the images of a call"):
        occlusion_attribution(clf, pixels[:1])
