"""A display of the accuracy by the number of training subjects."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from effboost._utils.compat import load_matplotlib
from effboost.evaluation import LearningCurve, learning_curve
from effboost.inspection._drawing import add_legend, make_axes, style_of

__all__ = ["LearningCurveDisplay"]

_N_POINTS = 60


class LearningCurveDisplay:
    """Accuracy by the number of training subjects, extrapolated to more of them.

    It answers how many patients are needed. Create it with `from_estimator` or `from_curve`.

    Parameters
    ----------
    curve : LearningCurve
        The measured accuracies.
    factor : float
        How many times the largest number of training subjects to extrapolate to.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.evaluation import LearningCurve, Metric
    >>> from effboost.inspection import LearningCurveDisplay
    >>> samples = np.array([[0.7, 0.8, 0.85], [0.68, 0.79, 0.83], [0.72, 0.82, 0.86]])
    >>> metrics = tuple(Metric(*column) for column in samples.T)
    >>> curve = LearningCurve(np.array([10.0, 20.0, 40.0]), metrics, samples, 0.95)
    >>> display = LearningCurveDisplay.from_curve(curve)
    >>> display.ax_.get_xlabel()
    'training subjects'
    """

    def __init__(self, curve: LearningCurve, factor: float = 2.0):
        self.curve = curve
        self.factor = factor

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        factor: float = 2.0,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Measure a learning curve by subject, and draw it.

        Parameters
        ----------
        estimator : classifier
            Any scikit-learn classifier on images; it is cloned for each fit.
        X : images, n_samples of them
            What `ImageSequence` takes.
        y : array-like of shape (n_samples,)
            Their labels.
        groups : array-like of shape (n_samples,), default=None
            Their subjects; None uses the groups of an `ImageSequence`.
        factor : float, default=2.0
            How many times the largest number of training subjects to extrapolate to.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **options
            Keywords of `effboost.evaluation.learning_curve`.

        Returns
        -------
        LearningCurveDisplay
            The display.
        """
        load_matplotlib()  # if it is missing, the error is raised before models are fitted
        curve = learning_curve(estimator, X, y, groups=groups, **options)
        return cls.from_curve(curve, factor=factor, ax=ax)

    @classmethod
    def from_curve(cls, curve: LearningCurve, *, factor: float = 2.0, ax: Any = None) -> Self:
        """Draw a learning curve.

        Parameters
        ----------
        curve : LearningCurve
            The result of `effboost.evaluation.learning_curve`.
        factor : float, default=2.0
            How many times the largest number of training subjects to extrapolate to.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LearningCurveDisplay
            The display.
        """
        return cls(curve, factor).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the measured accuracies with intervals, and the extrapolated curve with its own.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LearningCurveDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.ax_ = make_axes(ax, figsize=(6.4, 4.2))
        self.figure_ = self.ax_.figure
        curve, style = self.curve, style_of(0)
        measured = self.ax_.errorbar(
            curve.n_subjects,
            [metric.value for metric in curve.accuracy],
            # A bootstrap interval may leave the value outside.
            np.maximum(
                [
                    [metric.value - metric.low for metric in curve.accuracy],
                    [metric.high - metric.value for metric in curve.accuracy],
                ],
                0,
            ),
            linestyle="none",
            capsize=3,
            **style,
        )
        end = self.factor * float(curve.n_subjects[-1])
        grid = np.geomspace(curve.n_subjects[0], max(end, curve.n_subjects[0] + 1), _N_POINTS)
        found = [curve.predict(float(n)) for n in grid]
        (line,) = self.ax_.plot(
            grid, [metric.value for metric in found], color=style["color"], linestyle="--"
        )
        self.ax_.fill_between(
            grid,
            [metric.low for metric in found],
            [metric.high for metric in found],
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )
        add_legend(self.ax_, [measured, line], ["measured", "fitted and extrapolated"])
        self.ax_.set(
            xlabel="training subjects",
            ylabel=f"accuracy on other subjects, {curve.confidence:.0%} interval",
        )
        self.ax_.grid(alpha=0.3)
        return self
