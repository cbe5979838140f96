"""Curves of training: the network's accuracy by epoch, the booster's error by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from effboost._compat import load_matplotlib
from effboost.evaluation._report import EvaluationReport

__all__ = ["LearningCurvesDisplay"]

_COLORS = {"train": "C0", "valid": "C1", "validation": "C1"}


class LearningCurvesDisplay:
    """How a network and a booster learned, one line for each fit.

    The left picture is the accuracy of the network by epoch (the paper's Figure 6), the right
    one the error of XGBoost by round (its Figure 8). Build it by `from_estimator` or
    `from_report`.

    Parameters
    ----------
    history : sequence of list of dict
        ``history_`` of each classifier.
    evals_result : sequence of dict
        ``evals_result_`` of each classifier.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The pictures, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.
    """

    def __init__(
        self,
        history: Sequence[list[dict[str, float]]],
        evals_result: Sequence[dict[str, dict[str, list[float]]]],
    ):
        self.history = history
        self.evals_result = evals_result

    @classmethod
    def from_estimator(cls, estimator: Any, *, axes: Any = None) -> Self:
        """Draw the curves of one fitted classifier.

        Parameters
        ----------
        estimator : HybridClassifier or CNNClassifier
            Fitted.
        axes : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LearningCurvesDisplay
            The display.
        """
        evals_result = getattr(estimator, "evals_result_", None)
        return cls([estimator.history_], [evals_result] if evals_result else []).plot(axes)

    @classmethod
    def from_report(cls, report: EvaluationReport, *, axes: Any = None) -> Self:
        """Draw the curves of every fold of an evaluation.

        Parameters
        ----------
        report : EvaluationReport
            Of a classifier that has such curves.
        axes : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LearningCurvesDisplay
            The display.
        """
        return cls(report.history, report.evals_result).plot(axes)

    def plot(self, axes: Any = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        axes : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LearningCurvesDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        if axes is None:
            plt = load_matplotlib()
            _, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        self.axes_, self.figure_ = axes, axes[0].figure
        self._plot_accuracy(axes[0])
        self._plot_error(axes[1])
        return self

    def _plot_accuracy(self, ax: Any) -> None:
        for epochs in self.history:
            for part in ("train", "valid"):
                values = [epoch[f"{part}_acc"] for epoch in epochs if f"{part}_acc" in epoch]
                # With a dot at each epoch: one epoch alone would be an invisible line.
                ax.plot(range(1, len(values) + 1), values, ".-", color=_COLORS[part], alpha=0.7)
        ax.set(xlabel="epoch", ylabel="accuracy", title="network")
        ax.xaxis.get_major_locator().set_params(integer=True)
        _label(ax, ("train", "valid"))

    def _plot_error(self, ax: Any) -> None:
        for result in self.evals_result:
            for part, metrics in result.items():
                name = next((n for n in ("error", "merror") if n in metrics), min(metrics))
                rounds = range(1, len(metrics[name]) + 1)
                ax.plot(rounds, metrics[name], color=_COLORS[part], alpha=0.7)
        ax.set(xlabel="round", ylabel="error", title="boosted trees")
        _label(ax, ("train", "validation"))


def _label(ax: Any, parts: Sequence[str]) -> None:
    """Name the colours once, however many fits there are, and say where nothing was recorded."""
    drawn = {line.get_color(): line for line in ax.get_lines() if len(line.get_xdata())}
    found = [(drawn[_COLORS[part]], part) for part in parts if _COLORS[part] in drawn]
    if found:
        ax.legend(*zip(*found, strict=True))
    else:
        ax.text(0.5, 0.5, "nothing recorded", ha="center", transform=ax.transAxes)
