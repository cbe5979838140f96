"""A display of calibration: accuracy by confidence."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from effboost._utils.compat import load_matplotlib
from effboost._utils.probabilities import N_BINS, are_probabilities, calibration_gaps
from effboost._validation import check_labels
from effboost.evaluation import EvaluationReport
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._drawing import add_legend, check_lengths, make_axes, style_of

__all__ = ["ReliabilityDisplay"]


class ReliabilityDisplay:
    """The accuracy of a classifier by its confidence.

    The confidence is the probability of the predicted class; it is grouped into the bins of
    `effboost.metrics.expected_calibration_error`. In bins below the diagonal, the classifier is
    over-confident. This works for two and more classes; scikit-learn's
    `~sklearn.calibration.CalibrationDisplay` takes two, and shows the probability of the second.
    Create it with `from_estimator`, `from_predictions` or `from_report`.

    Parameters
    ----------
    confidence : ndarray of shape (n_bins,), float64
        Mean confidence in each bin, 0 to 1; NaN in empty bins.
    accuracy : ndarray of shape (n_bins,), float64
        Share of correct predictions in each bin, 0 to 1; NaN in empty bins.
    n_images : ndarray of shape (n_bins,), int
        Number of images in each bin.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural networks",
    ICML 2017.

    Examples
    --------
    >>> from effboost.inspection import ReliabilityDisplay
    >>> y_prob = [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]
    >>> display = ReliabilityDisplay.from_predictions(["ALL", "ALL", "HEM", "HEM"], y_prob)
    >>> round(display.calibration_error, 3)
    0.15
    """

    def __init__(
        self,
        confidence: npt.NDArray[np.float64],
        accuracy: npt.NDArray[np.float64],
        n_images: npt.NDArray[np.intp],
    ):
        self.confidence = confidence
        self.accuracy = accuracy
        self.n_images = n_images

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, 0 (calibrated) to 1."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(np.average(gaps, weights=self.n_images))

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: npt.ArrayLike, *, n_bins: int = N_BINS, ax: Any = None
    ) -> Self:
        """Predict images, and draw the accuracy by confidence.

        Parameters
        ----------
        estimator : classifier
            Fitted, on other images, with `predict_proba`.
        X : images, n_samples of them
            In any form that the estimator takes.
        y : array-like of shape (n_samples,)
            Their classes.
        n_bins : int, default=15
            Number of bins.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ReliabilityDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            If the estimator has no `predict_proba`, lengths differ, or a class is unknown to it.
        """
        if not hasattr(estimator, "predict_proba"):
            raise UnsupportedInputError(
                f"{type(estimator).__name__} has no predict_proba; give a classifier with "
                "probabilities, such as one in sklearn's CalibratedClassifierCV"
            )
        load_matplotlib()  # if it is missing, the error is raised before images are read
        check_lengths(X=X, y=y)
        proba = estimator.predict_proba(X)
        return cls.from_predictions(y, proba, classes=estimator.classes_, n_bins=n_bins, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        y_prob: npt.ArrayLike,
        *,
        classes: npt.ArrayLike | None = None,
        n_bins: int = N_BINS,
        ax: Any = None,
    ) -> Self:
        """Draw the accuracy of predictions by confidence.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True class of each image.
        y_prob : array-like of shape (n_samples, n_classes) or (n_samples,)
            Probability of each class; with two classes, that of the second one is enough.
        classes : array-like of shape (n_classes,), default=None
            The class of each column. None takes those in `y_true`, sorted.
        n_bins : int, default=15
            Number of bins.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ReliabilityDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            If lengths differ, the columns do not match the classes, or a value is not a
            probability.
        """
        check_lengths(y_true=y_true, y_prob=y_prob)
        if n_bins < 1:
            raise UnsupportedInputError(f"n_bins={n_bins!r} must be 1 or more")
        codes, proba = _encode(check_labels(y_true), y_prob, classes)
        bins, gaps = calibration_gaps(codes, proba, n_bins)
        n_images = np.bincount(bins, minlength=n_bins)
        with np.errstate(invalid="ignore"):  # 0 of 0 in empty bins is NaN
            confidence = np.bincount(bins, proba.max(axis=1), n_bins) / n_images
            accuracy = confidence + np.bincount(bins, gaps, n_bins) / n_images
        return cls(confidence, accuracy, n_images).plot(ax)

    @classmethod
    def from_report(cls, report: EvaluationReport, *, n_bins: int = N_BINS, ax: Any = None) -> Self:
        """Draw the accuracy of the predictions of an evaluation by confidence.

        Parameters
        ----------
        report : EvaluationReport
            The result of `effboost.evaluate`, with probabilities.
        n_bins : int, default=15
            Number of bins.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ReliabilityDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            If the report has no probabilities.
        """
        if report.probabilities is None:
            raise UnsupportedInputError(
                "the report has no probabilities; evaluate a classifier with predict_proba"
            )
        return cls.from_predictions(
            report.y_true, report.probabilities, classes=report.classes, n_bins=n_bins, ax=ax
        )

    def plot(self, ax: Any = None) -> Self:
        """Draw a dot for each bin that is not empty, and a bar for its number of images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ReliabilityDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.ax_ = make_axes(ax, figsize=(5.6, 5))
        self.figure_ = self.ax_.figure
        held = self.n_images > 0
        x, y = self.confidence[held], self.accuracy[held]
        edges = np.linspace(0, 1, len(self.n_images) + 1)
        diagonal = self.ax_.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1)[0]
        bars = self._plot_numbers(edges[:-1][held], 1 / len(self.n_images))
        self.ax_.vlines(x, y, x, color=style_of(0)["color"], alpha=0.5)
        dots = self.ax_.plot(x, y, "o", color=style_of(0)["color"])[0]
        add_legend(
            self.ax_,
            [dots, diagonal, bars],
            ["accuracy in a bin", "perfect calibration", "share of images in a bin (number)"],
            loc="best",
            bbox_to_anchor=None,
        )
        self.ax_.set(
            # The probability of the predicted one of k classes is at least 1 / k.
            xlim=(max(0.0, edges[:-1][held].min() - 0.02), 1.02),
            ylim=(-0.06, 1.05),
            xlabel="confidence: probability of the predicted class",
            ylabel="share",
            title=f"expected calibration error {self.calibration_error:.3f}",
        )
        return self

    def _plot_numbers(self, left: npt.NDArray[np.float64], width: float) -> Any:
        """Draw the share of images in each bin, and write their number."""
        number = self.n_images[self.n_images > 0]
        bars = self.ax_.bar(
            left,
            number / number.sum(),
            width,
            align="edge",
            color="0.88",
            edgecolor="white",
            zorder=0,
        )
        # Below the bars, where no dot can be.
        for x, n in zip(left + width / 2, number, strict=True):
            self.ax_.text(x, -0.01, str(n), fontsize=7, color="0.35", ha="center", va="top")
        return bars


def _encode(
    y_true: npt.NDArray[Any], y_prob: npt.ArrayLike, classes: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the position of each label in the sorted classes, and the probabilities of these."""
    proba = np.asarray(y_prob, dtype=np.float64)
    if proba.ndim == 1:
        proba = np.column_stack([1 - proba, proba])
    named = np.unique(y_true) if classes is None else np.asarray(classes)
    known, order = np.unique(named, return_index=True)
    if proba.ndim != 2 or len(known) < len(named) or len(named) != proba.shape[1]:
        raise UnsupportedInputError(
            f"y_prob has shape {proba.shape}, but the classes are {named.tolist()}; give the class "
            "of each column as classes"
        )
    unknown = np.setdiff1d(y_true, known)
    if unknown.size:
        raise UnsupportedInputError(
            f"y_true contains class {unknown.tolist()[0]!r}, but the classes are {known.tolist()}"
        )
    if not are_probabilities(proba):
        raise UnsupportedInputError("y_prob must contain probabilities from 0 to 1, none missing")
    return np.searchsorted(known, y_true), proba[:, order]
