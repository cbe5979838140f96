"""A display of images beside the training images that are decided on most alike."""

from __future__ import annotations

from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from effboost._utils.compat import load_matplotlib
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._drawing import as_names, divide_axes
from effboost.inspection._heat import AttributionDisplay, network_pictures
from effboost.inspection._neighbours import Neighbours, TrainingImages

__all__ = ["NeighboursDisplay", "draw_decision", "find_and_picture"]

_Pictures = npt.NDArray[np.uint8]
# Heights of a heat map and of a row of neighbours, as parts of the width of a figure of both.
_HEIGHTS: Final = 0.44, 0.22
_HEADING: Final = 0.25  # inches


def find_and_picture(
    training: TrainingImages, X: Any, groups: Any = None, n_neighbors: int = 3
) -> tuple[Neighbours, _Pictures]:
    """Find the neighbours of images, and decode each of them once."""
    found = training.find(X, groups, n_neighbors)
    used, places = np.unique(found.indices, return_inverse=True)
    side = training.featurizer.transform_.side
    # The first one stands for neighbours that are missing.
    pictures = np.zeros((len(used) + 1, side, side, 3), dtype=np.uint8)
    if used[-1] >= 0:
        known = training.images[used[used >= 0]]
        pictures[-len(known) :] = network_pictures(training.featurizer, known)
    places = places.reshape(found.indices.shape)
    return found, pictures[places + 1]


class NeighboursDisplay:
    """Images beside the training images of each class that are decided on most alike.

    Create it with `from_estimator`.

    Parameters
    ----------
    pictures : ndarray of shape (n_samples, height, width, 3), uint8
        The images.
    neighbour_pictures : ndarray of shape (n_samples, n_classes, n_neighbors, height, width, 3), \
uint8
        Their neighbours.
    neighbours : Neighbours
        What they are; see `neighbours`.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_samples, n_classes, n_neighbors)
        The axes of the neighbours, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    See Also
    --------
    neighbours : Finds them; its documentation defines the distance.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import NeighboursDisplay
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> X, y, groups = cells.images, cells.target, cells.groups
    >>> clf = presets.frozen("resnet18", weights=None, image_size=64, random_state=0).fit(X, y)
    >>> display = NeighboursDisplay.from_estimator(
    ...     clf, X[:1], X, y, groups=groups[:1], groups_train=groups
    ... )
    >>> display.axes_.shape
    (1, 2, 3)
    """

    def __init__(self, pictures: _Pictures, neighbour_pictures: _Pictures, neighbours: Neighbours):
        shape = neighbours.indices.shape
        if len(pictures) != shape[0] or neighbour_pictures.shape[:3] != shape:
            raise UnsupportedInputError(
                f"{len(pictures)} pictures with neighbours of shape "
                f"{neighbour_pictures.shape[:3]} do not fit indices of shape {shape}"
            )
        self.pictures = pictures
        self.neighbour_pictures = neighbour_pictures
        self.neighbours = neighbours

    @classmethod
    def from_estimator(
        cls,
        clf: Any,
        X: Any,
        X_train: Any,
        y_train: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        groups_train: npt.ArrayLike | None = None,
        n_neighbors: int = 3,
        ax: Any = None,
    ) -> Self:
        """Find neighbours and draw them.

        Parameters
        ----------
        clf : HybridClassifier
            Fitted, one that `hybrid_attribution` explains.
        X, X_train : images
            The images to explain, and training images.
        y_train : array-like of shape (n_train,)
            The labels of the training images.
        groups, groups_train : array-like, default=None
            The subjects of both; neighbours are of other subjects. See `neighbours`.
        n_neighbors : int, default=3
            Number of neighbours of each class.
        ax : matplotlib Axes, default=None
            Made with a grid (``subplots``, ``add_subplot``), and divided; None makes a new figure.

        Returns
        -------
        NeighboursDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            See `neighbours`.
        MissingDependencyError
            If matplotlib is not installed.
        """
        load_matplotlib()  # before the images are read
        training = TrainingImages(clf, X_train, y_train, groups_train)
        found, pictures = find_and_picture(training, X, groups, n_neighbors)
        return cls(network_pictures(clf.featurizer_, X), pictures, found).plot(ax)

    def take(self, index: int) -> NeighboursDisplay:
        """Select one image.

        Parameters
        ----------
        index : int
            Position of the image.

        Returns
        -------
        NeighboursDisplay
            One with n_samples = 1, not yet drawn.
        """
        return NeighboursDisplay(
            self.pictures[[index]],
            self.neighbour_pictures[[index]],
            self.neighbours.take(index),
        )

    def plot(self, ax: Any = None, *, with_images: bool = True) -> Self:
        """Draw each image, and beside it one row of neighbours for each class.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Made with a grid (``subplots``, ``add_subplot``), and divided; None makes a new figure.
        with_images : bool, default=True
            Whether the images themselves are drawn; otherwise only their neighbours.

        Returns
        -------
        NeighboursDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        n, n_classes, n_neighbors = self.neighbours.indices.shape
        if ax is None:
            width = 1.45 * n_neighbors + 0.4 + 2.6 * with_images
            size = (width, 1.75 * n * n_classes + 0.3)
            ax = load_matplotlib().subplots(figsize=size, layout="constrained")[1]
        parts = divide_axes(ax, n, 1, hspace=0.12)
        self.figure_ = ax.figure
        self.axes_ = np.empty(self.neighbours.indices.shape, dtype=object)
        for i in range(n):
            first = int(with_images)
            columns = n_neighbors + first
            # The image itself is drawn larger.
            grid = parts[i, 0].subgridspec(
                n_classes, columns, width_ratios=[1.8] * first + [1.0] * n_neighbors
            )
            if with_images:
                self._plot_image(self.figure_.add_subplot(grid[:, 0]), i)
            for k, j in np.ndindex(n_classes, n_neighbors):
                self.axes_[i, k, j] = self.figure_.add_subplot(grid[k, j + first])
                self._plot_neighbour(self.axes_[i, k, j], i, k, j)
        return self

    def _plot_image(self, ax: Any, i: int) -> None:
        _show(ax, self.pictures[i])
        (label,) = as_names([self.neighbours.predicted[i]])
        ax.set_title(f"predicted: {label}", parse_math=False, fontsize=10)
        ax.set_anchor("N")

    def _plot_neighbour(self, ax: Any, i: int, k: int, j: int) -> None:
        found = self.neighbours
        if j == 0:
            (label,) = as_names([found.labels[k]])
            own = found.labels[k] == found.predicted[i]
            ax.set_ylabel(
                label, parse_math=False, fontsize=9, fontweight="bold" if own else "normal"
            )
        if found.indices[i, k, j] < 0:
            ax.set(xticks=[], yticks=[])
            ax.set_frame_on(False)
            ax.text(0.5, 0.5, "none left", ha="center", va="center", fontsize=8)
            return
        _show(ax, self.neighbour_pictures[i, k, j])
        ax.set_xlabel(f"distance {found.distances[i, k, j]:.2g}", fontsize=8)


def _show(ax: Any, picture: _Pictures) -> None:
    ax.imshow(picture)
    ax.set(xticks=[], yticks=[])
    ax.set_frame_on(False)


def draw_decision(
    figure: Any, heat: AttributionDisplay, near: NeighboursDisplay, *, output: Any = None
) -> None:
    """Draw an image, its heat map, and its neighbours below; adapt the height of the figure."""
    width = figure.get_figwidth()
    of_heat, of_row = (width * part for part in _HEIGHTS)
    below = of_row * len(near.neighbours.labels)
    figure.set_figheight(of_heat + _HEADING + below)
    grid = figure.add_gridspec(3, 2, height_ratios=[of_heat, _HEADING, below])
    plain = figure.add_subplot(grid[0, 0])
    plain.imshow(heat.pictures[0])
    plain.set_axis_off()
    heat.plot(figure.add_subplot(grid[0, 1]), output=output)
    heading = figure.add_subplot(grid[1, :])
    heading.set_axis_off()
    heading.text(0, 0.5, "Decided like these training images:", va="center", fontsize=10)
    near.plot(figure.add_subplot(grid[2, :]), with_images=False)
