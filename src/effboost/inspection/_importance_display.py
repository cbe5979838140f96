"""A display of what decides over a set of images: stages, channels, and regions that drive them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from effboost._utils.compat import load_matplotlib
from effboost.inspection._drawing import as_names, divide_axes, name_rows
from effboost.inspection._importance import (
    FeatureImportance,
    Patches,
    feature_importance,
    find_patches,
)

__all__ = ["FeatureImportanceDisplay"]

_MOST_SUBJECTS: Final = 20
_N_BARS: Final = 10


class FeatureImportanceDisplay:
    """The stages and channels that decide over a set of images, and the regions that drive them.

    On the left, the share of each stage in the absolute contributions to the decisions: over all
    images, by class, and by subject (the first twenty, sorted by name). Below, the channels with
    the largest mean absolute contributions. On the right, for each class, the channels that support
    it most, each with patches of images of that class: around the position of the channel's map
    that contributes most, compared with what is usual at that position, which a square marks.
    Create it with `from_estimator`.

    Parameters
    ----------
    importance : FeatureImportance
        The contributions.
    patches : list of Patches
        The regions.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The axes of the stages and of the channels, after `plot`.
    patch_axes_ : ndarray of matplotlib Axes, shape (n_channels, n_patches)
        The axes of the patches, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Notes
    -----
    The value at a position depends on a larger part of the image than its square: in late stages,
    on nearly all of it.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import FeatureImportanceDisplay
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> clf = presets.recommended("resnet18", weights=None, image_size=64, random_state=0)
    >>> clf = clf.fit(cells.images, cells.target)
    >>> display = FeatureImportanceDisplay.from_estimator(
    ...     clf, cells.images, cells.target, groups=cells.groups, n_channels=2, n_patches=3
    ... )
    >>> display.patch_axes_.shape
    (4, 3)
    """

    def __init__(self, importance: FeatureImportance, patches: Sequence[Patches]):
        self.importance = importance
        self.patches = list(patches)

    @classmethod
    def from_estimator(
        cls,
        clf: Any,
        X: Any,
        y: npt.ArrayLike | None = None,
        *,
        groups: npt.ArrayLike | None = None,
        n_channels: int = 3,
        n_patches: int = 5,
        ax: Any = None,
    ) -> Self:
        """Compute contributions and draw them.

        Parameters
        ----------
        clf : HybridClassifier
            Fitted, one that `hybrid_attribution` explains.
        X : images, n_samples of them
            Images that the classifier has not seen.
        y, groups : array-like of shape (n_samples,), default=None
            Their classes and subjects; see `feature_importance`.
        n_channels : int, default=3
            Number of channels for each class that are shown by patches.
        n_patches : int, default=5
            Number of patches for each of these, of different subjects if there are enough.
        ax : matplotlib Axes, default=None
            Made with a grid (``subplots``, ``add_subplot``), and divided; None makes a new figure.

        Returns
        -------
        FeatureImportanceDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            See `feature_importance`; also if the features are not pooled from feature maps.
        MissingDependencyError
            If matplotlib is not installed.
        """
        load_matplotlib()  # before the images are read
        found = feature_importance(clf, X, y, groups=groups)
        patches = find_patches(clf, X, found, n_channels=n_channels, n_patches=n_patches)
        return cls(found, patches).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw stages, channels and patches.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Made with a grid (``subplots``, ``add_subplot``), and divided; None makes a new figure.

        Returns
        -------
        FeatureImportanceDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        if ax is None:
            ax = load_matplotlib().subplots(figsize=self.figsize(), layout="constrained")[1]
        self.figure_ = ax.figure
        names, shares = self._list_shares()
        ratios = [1.0, 1.25] if self.patches else [1.0]
        parts = divide_axes(ax, 1, len(ratios), width_ratios=ratios)
        left = parts[0, 0].subgridspec(2, 1, height_ratios=[len(names) + 3, _N_BARS + 1])
        self.axes_ = np.array([self.figure_.add_subplot(left[i, 0]) for i in range(2)])
        self._plot_stages(self.axes_[0], names, shares)
        self._plot_channels(self.axes_[1])
        self.patch_axes_ = np.empty((0, 0), dtype=object)
        if self.patches:
            self._plot_patches(parts[0, 1])
        return self

    def figsize(self) -> tuple[float, float]:
        """Compute the size in inches of a figure in which all is legible.

        Returns
        -------
        tuple of float
            Width and height.
        """
        n_classes = len({str(one.label) for one in self.patches})
        n_rows = len(self._list_shares()[0]) + _N_BARS + 8
        width = 11.0 if self.patches else 5.5
        return width, max(0.22 * n_rows, 1.15 * len(self.patches) + 0.35 * n_classes + 0.4)

    def _list_shares(self) -> tuple[list[str], npt.NDArray[np.float64]]:
        """List the shares of the stages over all images, of each class and of each subject."""
        found = self.importance
        names, shares = ["all images"], [found.by_stage()[1]]
        properties = [found.y] if found.groups is None else [found.y, found.groups]
        for of_image in properties:
            own, rows = found.by_stage(of_image)
            limit = None if of_image is found.y else _MOST_SUBJECTS
            names += as_names(own[:limit])
            shares.append(rows[:limit])
        return names, np.concatenate(shares)

    def _plot_stages(self, ax: Any, names: Sequence[str], shares: npt.NDArray[np.float64]) -> None:
        found = self.importance
        colors = load_matplotlib().get_cmap("viridis")(np.linspace(0.95, 0.1, len(found.stages)))
        left = np.zeros(len(names))
        handles = []
        for width, color in zip(100 * shares.T, colors, strict=True):
            bars = ax.barh(range(len(names)), width, left=left, color=color, height=0.75)
            handles.append(bars)
            left = left + width
        n_classes = len(np.unique(found.y))
        for edge in (0.5, n_classes + 0.5):
            if edge < len(names) - 1:
                ax.axhline(edge, color="#595959", linewidth=0.8)
        name_rows(ax, names)
        ax.set(xlim=(0, 100), xlabel="share of the contributions, %")
        ax.set_title("Stages, from the first to the last", fontsize=10, loc="left")
        labels = [stage or "last map" for stage in found.stages]
        ax.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
            fontsize=8,
            handlelength=1.0,
        )

    def _plot_channels(self, ax: Any) -> None:
        found = self.importance
        mean = found.by_channel()
        best = np.argsort(-mean, kind="stable")[:_N_BARS]
        ax.barh(range(len(best)), mean[best], color="#0072B2", height=0.7)
        name_rows(ax, [found.name_channel(int(i)) for i in best])
        ax.locator_params(axis="x", nbins=4)
        unit = "probability" if found.is_probability else "margin"
        ax.set_xlabel(f"mean absolute contribution ({unit})")
        ax.set_title("Channels with the largest contributions", fontsize=10, loc="left")

    def _plot_patches(self, place: Any) -> None:
        n_patches = max(len(one.images) for one in self.patches)
        self.patch_axes_ = np.empty((len(self.patches), n_patches), dtype=object)
        grid = place.subgridspec(len(self.patches), n_patches)
        for row, one in enumerate(self.patches):
            for column in range(n_patches):
                ax = self.figure_.add_subplot(grid[row, column])
                ax.set(xticks=[], yticks=[])
                ax.set_frame_on(False)
                self.patch_axes_[row, column] = ax
                if column < len(one.images):
                    _draw_patch(ax, one, column)
            first = self.patch_axes_[row, 0]
            stage, _, channel = self.importance.name_channel(one.channel).partition(", ")
            h, w = one.grid
            first.set_ylabel(
                f"{stage}\n{channel}\n({h} x {w})",
                rotation=0,
                ha="right",
                va="center",
                fontsize=8,
            )
            if row == 0 or self.patches[row - 1].label != one.label:
                (label,) = as_names([one.label])
                first.set_title(
                    f"What speaks for {label}", parse_math=False, fontsize=10, loc="left"
                )


def _draw_patch(ax: Any, one: Patches, column: int) -> None:
    x0, y0, x1, y1 = one.crops[column]
    left, top, width, height = one.boxes[column]
    ax.imshow(one.pictures[column][y0:y1, x0:x1], extent=(x0, x1, y1, y0))
    # Two lines, so that the square can be seen on any colour.
    for color, line in (("black", 2.4), ("white", 1.2)):
        corners = [left, left + width, left + width, left, left]
        heights = [top, top, top + height, top + height, top]
        ax.plot(corners, heights, color=color, linewidth=line)
    ax.set(xlim=(x0, x1), ylim=(y1, y0))
