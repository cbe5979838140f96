import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from common.networks import tiny_featurizer
from common.pictures import HOSTILE, count_figures, hide, texts_of
from effboost import CNNClassifier, HybridClassifier, ImageSequence
from effboost.exceptions import MissingDependencyError, SplitError, UnsupportedInputError
from effboost.inspection import FeatureViewDisplay

# Standardised, the corners of a square of side 2; the third feature says nothing.
SQUARE = np.array([[0.0, 0, 5], [0, 10, 5], [10, 0, 5], [10, 10, 5]])


@pytest.fixture
def by_patient():
    """60 images of 6 patients, each a tight cluster far from the others, of either class."""
    rng = np.random.default_rng(0)
    groups = np.repeat([f"P{i}" for i in range(6)], 10)
    features = 20 * rng.normal(size=(6, 9))[np.arange(60) // 10] + rng.normal(size=(60, 9))
    return features, np.array(["ALL", "HEM"])[np.arange(60) % 2], groups


def scattered(ax):
    return [np.asarray(dots.get_offsets()) for dots in ax.collections]


def test_silhouettes_are_those_of_standardised_features():
    # Of four corners paired along a side: a = 2 to the partner, b = the mean of 2 and 2 sqrt(2).
    side = 1 - 2 / ((2 + np.sqrt(8)) / 2)
    # Paired across: a = 2 sqrt(2), b = 2.
    across = 2 / np.sqrt(8) - 1
    display = FeatureViewDisplay.from_features(SQUARE, list("aabb"), list("xyyx"))
    assert display.silhouette_by_class == pytest.approx(side)
    assert display.silhouette_by_subject == pytest.approx(across)
    left, right = display.axes_
    assert left.get_title().startswith(f"by class: silhouette {side:.2f}\n(1: separate")
    assert right.get_title().startswith(f"by subject: silhouette {across:.2f}\n(above that")


def test_scales_of_features_do_not_matter():
    one = FeatureViewDisplay.from_features(SQUARE, list("aabb"), list("xyyx"))
    other = FeatureViewDisplay.from_features(SQUARE * [1e6, 1, 1], list("aabb"), list("xyyx"))
    np.testing.assert_allclose(np.abs(one.points), np.abs(other.points))


def test_pca_axes_show_their_share_of_variance():
    display = FeatureViewDisplay.from_features(SQUARE, list("aabb"))
    assert display.axis_labels == tuple(f"component {i} (50 % of variance)" for i in (1, 2))
    for ax in display.axes_:
        assert (ax.get_xlabel(), ax.get_ylabel()) == display.axis_labels


def test_clusters_by_patient_raise_the_silhouette_by_subject(by_patient):
    display = FeatureViewDisplay.from_features(*by_patient)
    assert display.silhouette_by_subject > 0.7
    assert display.silhouette_by_class < 0.1


def test_both_axes_contain_every_image(by_patient):
    features, y, groups = by_patient
    display = FeatureViewDisplay.from_features(features, y, groups)
    for ax, of_image in zip(display.axes_, (y, groups), strict=True):
        names = np.unique(of_image).tolist()
        assert [text.get_text() for text in ax.get_legend().get_texts()] == names
        for name, points in zip(names, scattered(ax), strict=True):
            np.testing.assert_allclose(points, display.points[of_image == name])


def test_groups_differ_in_colour_or_marker():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 2)
    display = FeatureViewDisplay.from_features(rng.normal(size=(40, 4)), list("ab") * 20, groups)
    looks = {
        (tuple(dots.get_facecolor()[0]), dots.get_paths()[0].vertices.tobytes())
        for dots in display.axes_[1].collections
    }
    assert len(looks) == 20


def test_many_subjects_have_no_legend():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(21), 2)
    display = FeatureViewDisplay.from_features(rng.normal(size=(42, 4)), list("ab") * 21, groups)
    ax = display.axes_[1]
    assert ax.get_legend() is None
    assert "21 colours, too many to name" in texts_of(display.figure_)
    (dots,) = ax.collections
    np.testing.assert_allclose(dots.get_offsets(), display.points)
    shades = np.asarray(dots.get_array())
    assert len(np.unique(shades)) == 21
    assert (shades[::2] == shades[1::2]).all()


@pytest.mark.parametrize(
    ("y", "groups", "by_class", "by_subject"),
    [
        ("aaaa", "xxyy", "no silhouette\n(one class, or one image of each)", "silhouette"),
        ("aabb", "xxxx", "silhouette", "no silhouette\n(one subject, or one image of each)"),
        ("aabb", None, "silhouette", "no silhouette\n(one subject, or one image of each)"),
    ],
    ids=["one class", "one subject", "own subjects"],
)
def test_undefined_silhouette_is_explained(y, groups, by_class, by_subject):
    display = FeatureViewDisplay.from_features(SQUARE, list(y), groups and list(groups))
    assert (display.silhouette_by_class is None) == by_class.startswith("no")
    assert (display.silhouette_by_subject is None) == by_subject.startswith("no")
    titles = [ax.get_title() for ax in display.axes_]
    assert titles[0].startswith(f"by class: {by_class}")
    assert titles[1].startswith(f"by subject: {by_subject}")


def test_silhouettes_use_at_most_fifty_components():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 200))
    groups = np.arange(80) % 4
    display = FeatureViewDisplay.from_features(features, list("ab") * 40, groups)
    again = FeatureViewDisplay.from_features(features, list("ab") * 40, groups)
    np.testing.assert_array_equal(display.points, again.points)
    standard = StandardScaler().fit_transform(features)
    reduced = PCA(50, svd_solver="full").fit_transform(standard)
    expected = silhouette_score(reduced, groups)
    assert display.silhouette_by_subject == pytest.approx(expected, abs=1e-3)
    # In 80 points at random, what lies beyond 50 components is not nothing.
    assert abs(silhouette_score(standard, groups) - expected) > 1e-2 * abs(expected)


def openmp_threads():
    """Return the number of threads of each copy of OpenMP that is loaded."""
    return {
        info["filepath"]: info["num_threads"]
        for info in threadpool_info()
        if info["user_api"] == "openmp"
    }


@pytest.mark.slow
def test_umap_keeps_clusters_together_and_is_repeatable(by_patient):
    pytest.importorskip("umap")
    features, y, groups = by_patient
    before = openmp_threads()
    display = FeatureViewDisplay.from_features(features, y, groups, method="umap")
    # numba sets it, once, for the thread that calls it first.
    assert openmp_threads().items() >= before.items()
    again = FeatureViewDisplay.from_features(features, y, groups, method="umap")
    np.testing.assert_array_equal(display.points, again.points)
    assert display.axis_labels == ("UMAP 1", "UMAP 2")
    distance = np.linalg.norm(display.points[:, np.newaxis] - display.points, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (groups[distance.argmin(axis=1)] == groups).mean() > 0.95
    pca = FeatureViewDisplay.from_features(features, y, groups)
    assert display.silhouette_by_subject == pca.silhouette_by_subject


@pytest.mark.slow
def test_umap_takes_few_images():
    pytest.importorskip("umap")
    points = FeatureViewDisplay.from_features(SQUARE, list("aabb"), method="umap").points
    assert points.shape == (4, 2)
    assert np.isfinite(points).all()


def test_hybrids_and_featurizers_give_the_same_view(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=2)
    clf.fit(pixels, three_classes)
    images = ImageSequence(pixels, groups=subjects)
    figure, axes = plt.subplots(1, 2)
    one = FeatureViewDisplay.from_estimator(clf, images, three_classes, axes=axes)
    assert one.axes_ is axes
    assert (one.figure_, count_figures()) == (figure, 1)
    assert one.groups.tolist() == subjects.tolist()
    other = FeatureViewDisplay.from_estimator(clf.featurizer_, pixels, three_classes, subjects)
    np.testing.assert_array_equal(one.points, other.points)
    assert other.silhouette_by_subject == one.silhouette_by_subject
    with config_context(transform_output="pandas"):
        framed = FeatureViewDisplay.from_estimator(clf, images, three_classes)
    np.testing.assert_array_equal(framed.points, one.points)


def test_names_are_never_formulas():
    display = FeatureViewDisplay.from_features(
        SQUARE, [HOSTILE, HOSTILE, "_b", "_b"], [HOSTILE, "_y", "_y", HOSTILE]
    )
    assert HOSTILE in texts_of(display.figure_)
    assert [t.get_text() for t in display.axes_[1].get_legend().get_texts()] == [HOSTILE, "_y"]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((SQUARE, list("aab")), {}, UnsupportedInputError, "features has 4, y has 3"),
        ((SQUARE, list("aabb"), [1]), {}, UnsupportedInputError, "groups has 1"),
        ((SQUARE, list("aabb"), [1, 1, None, 2]), {}, SplitError, "groups is missing"),
        ((SQUARE, list("aabb")), {"method": "tsne"}, UnsupportedInputError, "'tsne' is neither"),
        ((SQUARE[:2], list("ab")), {}, ValueError, "minimum of 3"),
        ((SQUARE[:, :1], list("aabb")), {}, ValueError, "minimum of 2"),
        ((SQUARE * np.nan, list("aabb")), {}, ValueError, "NaN"),
        ((np.full((4, 3), 0.1), list("aabb")), {}, UnsupportedInputError, "are the same"),
    ],
    ids=["y", "groups", "missing", "method", "two images", "one feature", "nan", "constant"],
)
def test_invalid_arguments_raise(arguments, options, error, message):
    with pytest.raises(error, match=message):
        FeatureViewDisplay.from_features(*arguments, **options)


def test_estimator_without_transform_raises(pixels, three_classes):
    with pytest.raises(UnsupportedInputError, match="CNNClassifier has no transform"):
        FeatureViewDisplay.from_estimator(CNNClassifier(), pixels, three_classes)


@pytest.mark.parametrize(
    ("package", "method", "extra"), [("matplotlib", "pca", "report"), ("umap", "umap", "umap")]
)
def test_missing_package_raises_before_images_are_read(package, method, extra, monkeypatch):
    hide(monkeypatch, package)
    unfitted = HybridClassifier(tiny_featurizer())
    with pytest.raises(MissingDependencyError, match=rf"effboost\[{extra}\]"):
        FeatureViewDisplay.from_estimator(unfitted, SQUARE, list("aabb"), method=method)
