import numpy as np
import pytest
from matplotlib import pyplot as plt

from common.networks import tiny_featurizer
from effboost import HybridClassifier
from effboost.exceptions import UnsupportedInputError
from effboost.inspection import NeighboursDisplay


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def spots():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 120, (40, 24, 24, 3), dtype=np.uint8)
    y = np.array(["a$b", "c"])[np.arange(40) % 2]
    X[np.arange(40), :, :, np.arange(40) % 2] += 90
    groups = np.array([f"S{i // 10}" for i in range(40)])
    return HybridClassifier(tiny_featurizer(), random_state=0).fit(X, y), X, y, groups


def test_each_image_is_drawn_beside_its_neighbours(spots):
    clf, X, y, groups = spots
    display = NeighboursDisplay.from_estimator(
        clf, X[:2], X, y, groups=groups[:2], groups_train=groups, n_neighbors=2
    )
    assert display.axes_.shape == (2, 2, 2)
    found = display.neighbours
    for place in np.ndindex(2, 2, 2):
        ax = display.axes_[place]
        np.testing.assert_array_equal(ax.images[0].get_array(), X[found.indices[place]])
        assert ax.get_xlabel() == f"distance {found.distances[place]:.2g}"
    assert [display.axes_[0, k, 0].get_ylabel() for k in range(2)] == ["a$b", "c"]
    titles = [ax.get_title() for ax in display.figure_.axes if ax.get_title()]
    assert titles == [f"predicted: {label}" for label in found.predicted]
    display.figure_.canvas.draw()


def test_missing_neighbours_are_said(spots):
    clf, X, y, groups = spots
    few = np.r_[0:10, 10]
    display = NeighboursDisplay.from_estimator(
        clf, X[:1], X[few], y[few], groups=groups[:1], groups_train=groups[few], n_neighbors=2
    )
    empty = display.axes_[0, 1, 0]
    assert not empty.images
    assert empty.texts[0].get_text() == "none left"
    assert len(display.axes_[0, 0, 0].images) == 1
    own = np.flatnonzero(groups == groups[0])
    alone = NeighboursDisplay.from_estimator(
        clf, X[:1], X[own], y[own], groups=groups[:1], groups_train=groups[own]
    )
    assert not any(ax.images for ax in alone.axes_.ravel())


def test_given_axes_are_divided(spots):
    clf, X, y, _ = spots
    figure, axes = plt.subplots(1, 2)
    display = NeighboursDisplay.from_estimator(clf, X[:1], X[1:], y[1:], ax=axes[1])
    assert display.figure_ is figure
    assert not axes[1].axison
    alone = display.take(0).plot(axes[0], with_images=False)
    assert len(figure.axes) == 2 + 7 + 6
    assert alone.axes_.shape == (1, 2, 3)
    with pytest.raises(UnsupportedInputError, match="placed by hand"):
        display.plot(figure.add_axes((0, 0, 1, 1)))
    with pytest.raises(UnsupportedInputError, match="2 pictures with neighbours"):
        NeighboursDisplay(X[:2], display.neighbour_pictures, display.neighbours)
