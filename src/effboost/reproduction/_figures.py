"""The paper's Figures 5 to 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

from effboost._images import ImageSequence
from effboost._utils.compat import load_extra
from effboost.evaluation import EvaluationReport
from effboost.inspection import AttributionDisplay, CAMDisplay, TrainingHistoryDisplay
from effboost.reproduction._data import Split
from effboost.reproduction._result import SystemResult

__all__ = ["check_drawing", "draw_confusions", "draw_curves", "draw_explanations"]

_EXPLAINED: Final = 4
_BACKGROUND: Final = 60
# Characters that fit below a confusion matrix.
_LEVEL: Final = 40


def check_drawing() -> None:
    """Check that figures can be drawn, before hours of work."""
    load_extra("matplotlib.figure", "report")
    load_extra("pytorch_grad_cam", "explain")


def _figure(**options: Any) -> Any:
    # Without pyplot, which keeps figures and may need a screen.
    return load_extra("matplotlib.figure", "report").Figure(layout="constrained", **options)


def _plain_text() -> Any:
    """Draw names of classes as they are, without reading a dollar sign as a formula."""
    return load_extra("matplotlib", "report").rc_context({"text.parse_math": False})


def draw_explanations(
    clf: Any, test: ImageSequence, train: ImageSequence, report: EvaluationReport, file: Path
) -> None:
    """Draw Grad-CAM (Figure 5) and the attribution of the hybrid for some test images."""
    chosen = _choose(report.y_true)
    pictures = test[chosen]
    background = train[np.linspace(0, len(train) - 1, min(_BACKGROUND, len(train))).astype(int)]
    with _plain_text():
        figure = _figure(figsize=(12, 3.5 * len(chosen)))
        axes = figure.subplots(len(chosen), 3, squeeze=False)
        cam = CAMDisplay.from_estimator(clf.cnn_, pictures, ax=axes[:, 1])
        AttributionDisplay.from_estimator(clf, pictures, background=background, ax=axes[:, 2])
        for i, ax in zip(chosen, axes[:, 0], strict=True):
            ax.set_title(f"true class: {report.y_true[i]}", fontsize="medium")
            ax.set_axis_off()
        for ax, picture in zip(axes[:, 0], cam.pictures, strict=True):
            ax.imshow(picture)
        _save(figure, file)


def _choose(target: Any) -> Any:
    """Choose the first image of each class, the second of each, and so on."""
    order = np.argsort(
        [np.sum(target[:i] == label) for i, label in enumerate(target)], kind="stable"
    )
    return np.sort(order[:_EXPLAINED])


def draw_curves(results: Mapping[str, SystemResult], splits: Sequence[Split], file: Path) -> None:
    """Draw the network's accuracy by epoch (Figure 6) and the booster's error by round (8)."""
    shown = [split for split in splits if split.name in results]
    with _plain_text():
        figure = _figure(figsize=(9, 3.4 * len(shown)))
        axes = figure.subplots(len(shown), 2, squeeze=False, sharey="col")
        for split, row in zip(shown, axes, strict=True):
            report = results[split.name].report or {}
            display = TrainingHistoryDisplay(
                report.get("history", []), [r for r in report.get("evals_result", []) if r]
            ).plot(row)
            for ax in display.axes_:
                ax.set_title(f"{ax.get_title()}, {split.title}")
        _save(figure, file)


def draw_confusions(
    results: Mapping[str, SystemResult], splits: Sequence[Split], file: Path
) -> None:
    """Draw the confusion matrix of each split (Figure 7)."""
    shown = [split for split in splits if split.name in results]
    with _plain_text():
        figure = _figure(figsize=(4.6 * len(shown), 4.2))
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for split, ax in zip(shown, axes, strict=True):
            report = results[split.name].report or {}
            names = report["classes"]
            ConfusionMatrixDisplay(np.array(report["confusion_matrix"]), display_labels=names).plot(
                ax=ax,
                cmap="Blues",
                colorbar=False,
                xticks_rotation="horizontal" if sum(map(len, names)) <= _LEVEL else "vertical",
                im_kw={"vmin": 0},
            )
            ax.set_title(split.title)
        _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    part = file.with_name(f"{file.name}.part")
    try:
        figure.savefig(part, dpi=110, format="png")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
