"""A display of the accuracy of each subject."""

from __future__ import annotations

from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils.multiclass import unique_labels

from effboost._utils.columns import check_groups
from effboost._utils.compat import load_matplotlib
from effboost._validation import check_labels
from effboost.evaluation import EvaluationReport
from effboost.exceptions import SplitError
from effboost.inspection._drawing import (
    add_legend,
    as_names,
    check_lengths,
    height_in_points,
    make_axes,
    name_rows,
    row_figure_height,
    style_of,
)

__all__ = ["SubjectDisplay"]

_MIXED: Final = {"color": "0.55", "marker": "$?$"}
_AREAS: Final = 12.0, 110.0  # of the smallest and largest dots, in square points


class SubjectDisplay:
    """Accuracy on the images of each subject, the worst first.

    The accuracy over all images does not show that all cells of a patient are misclassified. Create
    it with `from_estimator`, `from_predictions` or `from_report`.

    Parameters
    ----------
    subjects : ndarray of shape (n_subjects,)
        The subjects, in the order in which they are drawn, from the top.
    accuracy : ndarray of shape (n_subjects,), float64
        Share of correctly classified images of each subject, 0 to 1.
    n_images : ndarray of shape (n_subjects,), int
        Number of images of each subject.
    labels : ndarray of shape (n_subjects,), object
        The class of each subject; None if its images are of several classes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Examples
    --------
    >>> from effboost.inspection import SubjectDisplay
    >>> y_true = ["ALL", "ALL", "ALL", "HEM", "HEM"]
    >>> y_pred = ["ALL", "HEM", "ALL", "HEM", "HEM"]
    >>> display = SubjectDisplay.from_predictions(y_true, y_pred, ["P1", "P1", "P2", "P3", "P3"])
    >>> display.subjects.tolist(), display.accuracy.tolist()
    (['P1', 'P2', 'P3'], [0.5, 1.0, 1.0])
    """

    def __init__(
        self,
        subjects: npt.NDArray[Any],
        accuracy: npt.NDArray[np.float64],
        n_images: npt.NDArray[np.intp],
        labels: npt.NDArray[Any],
    ):
        self.subjects = subjects
        self.accuracy = accuracy
        self.n_images = n_images
        self.labels = labels

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: npt.ArrayLike, groups: Any = None, *, ax: Any = None
    ) -> Self:
        """Predict images, and draw the accuracy of each subject.

        Parameters
        ----------
        estimator : classifier
            Fitted, on other subjects.
        X : images, n_samples of them
            In any form that the estimator takes.
        y : array-like of shape (n_samples,)
            Their classes.
        groups : array-like of shape (n_samples,), default=None
            Their subjects; None takes those of an `ImageSequence`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        SubjectDisplay
            The display.

        Raises
        ------
        SplitError
            If no subjects are known, or one is missing.
        UnsupportedInputError
            If lengths differ.
        """
        load_matplotlib()  # if it is missing, the error is raised before images are read
        groups = _find_groups(X, groups)
        check_lengths(X=X, y=y, groups=groups)
        return cls.from_predictions(y, estimator.predict(X), groups, ax=ax)

    @classmethod
    def from_predictions(
        cls, y_true: npt.ArrayLike, y_pred: npt.ArrayLike, groups: npt.ArrayLike, *, ax: Any = None
    ) -> Self:
        """Draw the accuracy of each subject.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples,)
            True and predicted class of each image.
        groups : array-like of shape (n_samples,)
            The subject of each image.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        SubjectDisplay
            The display.

        Raises
        ------
        SplitError
            If a subject is missing.
        UnsupportedInputError
            If lengths differ, or a label is missing.
        """
        check_lengths(y_true=y_true, y_pred=y_pred, groups=groups)
        true, pred = check_labels(y_true), check_labels(y_pred)
        unique_labels(true, pred)  # raises if strings would be compared with numbers
        subjects, subject_of = np.unique(check_groups(groups), return_inverse=True)
        n_images = np.bincount(subject_of)
        accuracy = np.bincount(subject_of, weights=true == pred) / n_images
        labels = np.empty(len(subjects), dtype=object)
        for i in range(len(subjects)):
            own = np.unique(true[subject_of == i]).tolist()
            labels[i] = own[0] if len(own) == 1 else None
        order = np.argsort(accuracy, kind="stable")
        return cls(subjects[order], accuracy[order], n_images[order], labels[order]).plot(ax)

    @classmethod
    def from_report(cls, report: EvaluationReport, *, ax: Any = None) -> Self:
        """Draw the accuracy of each subject in an evaluation.

        Parameters
        ----------
        report : EvaluationReport
            The result of `effboost.evaluate`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        SubjectDisplay
            The display.
        """
        return cls.from_predictions(report.y_true, report.y_pred, report.groups, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw one row for each subject; if there are too many to read, only some are labelled.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        SubjectDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.ax_ = make_axes(ax, figsize=(6.4, row_figure_height(len(self.subjects))))
        self.figure_ = self.ax_.figure
        overall = float(np.average(self.accuracy, weights=self.n_images))
        line = self.ax_.axvline(overall, color="black", linewidth=1, linestyle="--", zorder=0)
        rows = np.arange(len(self.subjects))
        self.ax_.hlines(rows, self.accuracy, overall, color="0.8", linewidth=1, zorder=0)
        handles, names = self._plot_classes(rows)
        add_legend(self.ax_, [line, *handles], [f"all images: {overall:.2f}", *names])
        counted = zip(as_names(self.subjects), self.n_images, strict=True)
        name_rows(self.ax_, [f"{name} ({n})" for name, n in counted])
        self.ax_.set(
            xlim=(-0.03, 1.03),
            xlabel="accuracy (area of a dot: number of images)",
            ylabel="subject (images)",
        )
        return self

    def _plot_classes(self, rows: npt.NDArray[np.intp]) -> tuple[list[Any], list[str]]:
        """Draw the subjects of each class, and return the entries of a legend."""
        # Dots of neighbouring rows do not overlap.
        pitch = height_in_points(self.ax_) / len(rows)
        small, large = _AREAS[0], float(np.clip(pitch**2, *_AREAS))
        areas = np.maximum(small, large * self.n_images / self.n_images.max())
        known = [label is not None for label in self.labels]
        classes = np.unique(self.labels[known].tolist()).tolist()
        handles, names = [], as_names(classes)
        for position, label in enumerate([*classes, None]):
            mine = np.array([own == label for own in self.labels])
            if not mine.any():
                continue
            style = _MIXED if label is None else style_of(position)
            dots = self.ax_.scatter(self.accuracy[mine], rows[mine], areas[mine], **style)
            handles.append(dots)
        return handles, names if all(known) else [*names, "several classes"]


def _find_groups(X: Any, groups: Any) -> Any:
    """Return the subjects, or else those of the images.

    Raises
    ------
    SplitError
        If none are known.
    """
    if groups is None:
        groups = getattr(X, "groups", None)
    if groups is None:
        raise SplitError(
            "the subjects of the images are not known; give groups, or an ImageSequence with groups"
        )
    return groups
