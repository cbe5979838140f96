import numpy as np
import pytest
from matplotlib import pyplot as plt

from common.networks import tiny_featurizer
from effboost import HybridClassifier, LinearBoostedClassifier
from effboost.inspection import FeatureImportanceDisplay


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def spots():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 120, (60, 24, 24, 3), dtype=np.uint8)
    y = np.array(["a$b", "c"])[np.arange(60) % 2]
    X[np.arange(60), 4:12, 8:16, np.arange(60) % 2] += 90
    groups = np.array([f"S{i // 2:02d}" for i in range(60)])
    featurizer = tiny_featurizer(extra_features="stages")
    clf = HybridClassifier(featurizer, LinearBoostedClassifier(), random_state=0)
    return clf.fit(X, y), X, y, groups


def test_display_shows_stages_channels_and_patches(spots):
    clf, X, y, groups = spots
    display = FeatureImportanceDisplay.from_estimator(
        clf, X, y, groups=groups, n_channels=2, n_patches=3
    )
    stages, channels = display.axes_
    found = display.importance
    names = [text.get_text() for text in stages.get_yticklabels()]
    # All images, two classes, and the first twenty of thirty subjects.
    assert names[:3] == ["all images", "a$b", "c"]
    assert len(stages.containers[0]) == 23
    widths = np.array([[bar.get_width() for bar in bars] for bars in stages.containers])
    np.testing.assert_allclose(widths.sum(axis=0), 100)
    np.testing.assert_allclose(widths[:, 0], 100 * found.by_stage()[1][0])
    legend = [text.get_text() for text in stages.get_legend().get_texts()]
    assert legend == [stage or "last map" for stage in found.stages]
    best = np.argsort(-found.by_channel())[0]
    assert channels.get_yticklabels()[0].get_text() == found.name_channel(best)
    assert channels.containers[0][0].get_width() == pytest.approx(found.by_channel()[best])
    assert display.patch_axes_.shape == (4, 3)
    titles = [ax.get_title(loc="left") for ax in display.patch_axes_[:, 0]]
    assert titles == ["What speaks for a$b", "", "What speaks for c", ""]
    assert all(ax.images for ax in display.patch_axes_.ravel())
    display.figure_.canvas.draw()


def test_display_without_subjects_in_given_axes(spots):
    clf, X, y, _ = spots
    figure, axes = plt.subplots(1, 2, figsize=(22, 6))
    display = FeatureImportanceDisplay.from_estimator(
        clf, X[:20], y[:20], n_channels=1, n_patches=2, ax=axes[0]
    )
    assert display.figure_ is figure
    assert len(display.axes_[0].containers[0]) == 3
    empty = FeatureImportanceDisplay(display.importance, []).plot(axes[1])
    assert empty.patch_axes_.shape == (0, 0)
    none = FeatureImportanceDisplay.from_estimator(clf, X[:20], y[:20], n_patches=0)
    assert none.patch_axes_.shape == (0, 0)
