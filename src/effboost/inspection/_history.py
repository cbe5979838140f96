"""A display of training: accuracy of the network by epoch, error of the booster by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

from effboost.evaluation import EvaluationReport
from effboost.inspection._drawing import make_axes, style_of

__all__ = ["TrainingHistoryDisplay"]

_TRAIN: Final = {"color": style_of(0)["color"], "linestyle": "-"}
_VALIDATION: Final = {"color": style_of(1)["color"], "linestyle": "--"}
_LINES: Final = {"train": _TRAIN, "valid": _VALIDATION, "validation": _VALIDATION}


class TrainingHistoryDisplay:
    """The training of a network and a booster, one line for each fit.

    The left axes show the accuracy of the network by epoch (the paper's Figure 6), the right axes
    the error of XGBoost by round (its Figure 8). Create it with `from_estimator` or `from_report`.
    scikit-learn's `~sklearn.model_selection.LearningCurveDisplay` shows something else: scores by
    the number of training images.

    Parameters
    ----------
    history : sequence of list of dict
        ``history_`` of each classifier.
    evals_result : sequence of dict
        ``evals_result_`` of each classifier.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The axes, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import TrainingHistoryDisplay
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=4, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> clf = clf.fit(cells.images, cells.target)
    >>> display = TrainingHistoryDisplay.from_estimator(clf)
    >>> display.axes_[1].get_xlabel()
    'round'
    """

    def __init__(
        self,
        history: Sequence[list[dict[str, float]]],
        evals_result: Sequence[dict[str, dict[str, list[float]]]],
    ):
        self.history = history
        self.evals_result = evals_result

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the curves of one fitted classifier.

        Parameters
        ----------
        estimator : HybridClassifier or CNNClassifier
            Fitted.
        ax : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        TrainingHistoryDisplay
            The display.
        """
        evals_result = getattr(estimator, "evals_result_", None)
        return cls([estimator.history_], [evals_result] if evals_result else []).plot(ax)

    @classmethod
    def from_report(cls, report: EvaluationReport, *, ax: Any = None) -> Self:
        """Draw the curves of every fold of an evaluation.

        Parameters
        ----------
        report : EvaluationReport
            The evaluation of a classifier that has such curves.
        ax : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        TrainingHistoryDisplay
            The display.
        """
        return cls(report.history, report.evals_result).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        TrainingHistoryDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.axes_ = make_axes(ax, ncols=2, figsize=(9, 3.6))
        self.figure_ = self.axes_[0].figure
        self._plot_accuracy(self.axes_[0])
        self._plot_error(self.axes_[1])
        return self

    def _plot_accuracy(self, ax: Any) -> None:
        for epochs in self.history:
            for part in ("train", "valid"):
                values = [epoch[f"{part}_acc"] for epoch in epochs if f"{part}_acc" in epoch]
                # With markers: the line of a single epoch is invisible.
                numbers = range(1, len(values) + 1)
                ax.plot(numbers, values, marker=".", alpha=0.7, **_LINES[part])
        ax.set(xlabel="epoch", ylabel="accuracy", title="network")
        _label(ax, ("train", "valid"))

    def _plot_error(self, ax: Any) -> None:
        name = "error"
        for result in self.evals_result:
            for part, metrics in result.items():
                name = next((n for n in ("error", "merror") if n in metrics), min(metrics))
                rounds = range(1, len(metrics[name]) + 1)
                ax.plot(rounds, metrics[name], alpha=0.7, **_LINES[part])
        # A booster of the user may have recorded another metric.
        shown = "error" if name == "merror" else name
        ax.set(xlabel="round", ylabel=shown, title="boosted trees")
        _label(ax, ("train", "validation"))


def _label(ax: Any, parts: Sequence[str]) -> None:
    """Label the lines once for all fits, or write that nothing was recorded."""
    ax.xaxis.get_major_locator().set_params(integer=True)
    drawn = {line.get_color(): line for line in ax.get_lines() if len(line.get_xdata())}
    found = [part for part in parts if _LINES[part]["color"] in drawn]
    if found:
        handles = [drawn[_LINES[part]["color"]] for part in found]
        ax.legend(handles, found)
    else:
        ax.text(0.5, 0.5, "nothing recorded", ha="center", transform=ax.transAxes)
