"""Several feature extractors side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from effboost.evaluation import EvaluationReport, Metric
from effboost.evaluation._report import TITLES
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._drawing import (
    add_legend,
    as_names,
    make_axes,
    name_rows,
    row_figure_height,
    style_of,
)

__all__ = ["ExtractorComparisonDisplay"]

_BEST_IS_LOWEST: Final = ("log_loss", "calibration_error")
_APART: Final = 0.16  # how far the hybrid and its network stand from the middle of their row


class ExtractorComparisonDisplay:
    """A metric of several evaluations with its intervals, the best on top.

    This is the paper's Table 1 as a figure. Create it with `from_reports`.

    Parameters
    ----------
    names : sequence of str
        The names of the extractors, in the order in which they are drawn, from the top.
    values, lows, highs : ndarray of shape (n_names,), float64
        The metric and the limits of its interval. NaN if it is not defined.
    cnn_values, cnn_lows, cnn_highs : ndarray of shape (n_names,), float64
        The same for the network alone. NaN if there is none.
    metric : str
        Name of the metric.
    confidence : float
        Level of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Notes
    -----
    Overlapping intervals do not mean that two extractors are equally good, since both are
    evaluated on the same subjects. `EvaluationReport.gain` is the interval of a difference.

    Examples
    --------
    >>> from effboost import evaluate, presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import ExtractorComparisonDisplay
    >>> cells = make_blood_cells(n_subjects=6, images_per_subject=4, image_size=64, random_state=0)
    >>> reports = {}
    >>> for backbone in ("resnet18", "mobilenet_v2"):
    ...     clf = presets.frozen(backbone, weights=None, image_size=32, random_state=0)
    ...     reports[backbone] = evaluate(
    ...         clf, cells.images, cells.target, groups=cells.groups, cv=3, n_bootstrap=100
    ...     )
    >>> display = ExtractorComparisonDisplay.from_reports(reports, metric="auroc")
    >>> bool(display.values[0] >= display.values[1])
    True
    """

    def __init__(
        self,
        names: Sequence[str],
        values: npt.NDArray[np.float64],
        lows: npt.NDArray[np.float64],
        highs: npt.NDArray[np.float64],
        *,
        cnn_values: npt.NDArray[np.float64],
        cnn_lows: npt.NDArray[np.float64],
        cnn_highs: npt.NDArray[np.float64],
        metric: str,
        confidence: float,
    ):
        self.names = names
        self.values = values
        self.lows = lows
        self.highs = highs
        self.cnn_values = cnn_values
        self.cnn_lows = cnn_lows
        self.cnn_highs = cnn_highs
        self.metric = metric
        self.confidence = confidence

    @classmethod
    def from_reports(
        cls,
        reports: Mapping[str, EvaluationReport],
        *,
        metric: str = "accuracy",
        ax: Any = None,
    ) -> Self:
        """Draw a metric of several evaluations.

        Parameters
        ----------
        reports : dict of str to EvaluationReport
            The result of `effboost.evaluate` for each extractor, on the same images.
        metric : str, default="accuracy"
            A key of ``report.metrics``.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ExtractorComparisonDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            If there are no reports, one lacks the metric, or their confidence levels differ.
        """
        confidence = _check_reports(reports, metric)
        own = _as_arrays([report.metrics[metric] for report in reports.values()])
        networks = [report.cnn for report in reports.values()]
        cnn = _as_arrays([None if alone is None else alone.metrics[metric] for alone in networks])
        sign = 1 if metric in _BEST_IS_LOWEST else -1
        order = np.argsort(sign * own[0], kind="stable")  # what is not defined comes last
        names = [list(reports)[i] for i in order]
        extra = dict(zip(("cnn_values", "cnn_lows", "cnn_highs"), cnn[:, order], strict=True))
        return cls(names, *own[:, order], **extra, metric=metric, confidence=confidence).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw one row for each extractor.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ExtractorComparisonDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.ax_ = make_axes(ax, figsize=(6.4, row_figure_height(2 * len(self.names))))
        self.figure_ = self.ax_.figure
        both = bool(np.isfinite(self.cnn_values).any())
        name_rows(self.ax_, as_names(self.names))
        own = self._plot_dots(self.values, self.lows, self.highs, -_APART if both else 0.0, 0)
        if both:
            cnn = self._plot_dots(self.cnn_values, self.cnn_lows, self.cnn_highs, _APART, 1)
            add_legend(self.ax_, [own, cnn], ["hybrid", "CNN alone"])
        title = TITLES.get(self.metric, self.metric)
        better = ", lower is better" if self.metric in _BEST_IS_LOWEST else ""
        self.ax_.set_xlabel(f"{title} with {self.confidence:.0%} interval{better}")
        self.ax_.grid(axis="x", alpha=0.3)
        return self

    def _plot_dots(
        self,
        values: npt.NDArray[np.float64],
        lows: npt.NDArray[np.float64],
        highs: npt.NDArray[np.float64],
        shift: float,
        position: int,
    ) -> Any:
        style = style_of(position)
        rows = np.arange(len(values)) + shift
        # Not errorbar, which refuses the intervals of a bootstrap that leave the value outside.
        self.ax_.hlines(rows, lows, highs, color=style["color"], linewidth=1.5)
        for ends in (lows, highs):
            self.ax_.plot(ends, rows, "|", color=style["color"], markersize=7)
        return self.ax_.plot(values, rows, linestyle="none", **style)[0]


def _check_reports(reports: Mapping[str, EvaluationReport], metric: str) -> float:
    """Check that reports can be compared, and return the confidence level of their intervals."""
    if not reports:
        raise UnsupportedInputError("reports is empty; give a dict of names and EvaluationReports")
    for name, report in reports.items():
        if not isinstance(report, EvaluationReport):
            raise UnsupportedInputError(
                f"reports[{name!r}] is a {type(report).__name__}; give an EvaluationReport, as "
                "effboost.evaluate returns"
            )
        if metric not in report.metrics:
            raise UnsupportedInputError(
                f"metric={metric!r} is not in the report of {name!r}, which has "
                f"{', '.join(sorted(report.metrics))}"
            )
    levels = sorted({report.confidence for report in reports.values()})
    if len(levels) > 1:
        raise UnsupportedInputError(
            f"the intervals of the reports have different confidence levels, {levels}; evaluate "
            "with the same confidence"
        )
    return levels[0]


def _as_arrays(metrics: Sequence[Metric | None]) -> npt.NDArray[np.float64]:
    """Return values, lows and highs, with NaN for None."""
    missing = Metric(np.nan, np.nan, np.nan)
    found = [metric or missing for metric in metrics]
    return np.array([[m.value, m.low, m.high] for m in found], dtype=np.float64).T
