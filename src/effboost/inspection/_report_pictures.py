"""The figures of a report, as data URLs."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._images import ImageSequence
from effboost._utils.compat import load_extra
from effboost.evaluation import EvaluationReport, LearningCurve
from effboost.inspection._heat import AttributionDisplay
from effboost.inspection._history import TrainingHistoryDisplay
from effboost.inspection._importance_display import FeatureImportanceDisplay
from effboost.inspection._learning_curve import LearningCurveDisplay
from effboost.inspection._neighbours_display import NeighboursDisplay, draw_decision
from effboost.inspection._reliability import ReliabilityDisplay
from effboost.inspection._subjects import SubjectDisplay

__all__ = [
    "picture_curve",
    "picture_history",
    "picture_importance",
    "picture_mistake",
    "picture_reliability",
    "picture_subjects",
]

# A placeholder in pictures for the text colour of the page.
_INK: Final = "#010203"
# Colours that displays use for text and lines, independent of the style.
_DARK: Final = ("#000000", "#595959")
# In SVG, the mark of each subject takes up to 6 kB.
_MOST_MARKS: Final = 100


def picture_mistake(
    images: ImageSequence,
    i: int,
    display: AttributionDisplay | None,
    near: NeighboursDisplay | None,
) -> str:
    """Draw one image beside its heat map, or alone if there is none; below, its neighbours."""
    if display is None:
        picture = np.asarray(images.decode(i))
        return _to_png(lambda axes: _draw_alone(axes[0], picture), (3.2, 3.1))
    if near is None:
        return _to_png(lambda axes: _draw_pair(axes, display), (5.6, 2.7), columns=2)
    return _figure_to_png(lambda figure: draw_decision(figure, display, near), (5.6, 5.6))


def picture_importance(display: FeatureImportanceDisplay) -> dict[str, str]:
    """Draw what decides over the tested images."""
    source = _figure_to_png(
        lambda figure: display.plot(figure.add_subplot()), display.figsize(), dpi=110
    )
    return {
        "source": source,
        "alt": "Bars of the share of each stage in the decisions, over all images, by class and by "
        "subject; bars of the channels with the largest contributions; and, for each class, "
        "regions of images that support it most. The shares are in the table below.",
    }


def _draw_pair(axes: npt.NDArray[Any], display: AttributionDisplay) -> None:
    _draw_alone(axes[0], display.pictures[0])
    display.plot(axes[1])


def _draw_alone(ax: Any, picture: npt.NDArray[np.uint8]) -> None:
    ax.imshow(picture)
    ax.set_axis_off()


def picture_subjects(found: EvaluationReport) -> dict[str, str] | None:
    """Draw the accuracy of each subject, unless there is one subject, or one image of each."""
    names = np.unique(found.groups)
    if len(names) in (1, len(found.groups)):
        return None
    size = (8.0, min(10.0, 1.5 + 0.25 * len(names)))
    if len(names) <= _MOST_MARKS:
        source = _to_svg(lambda ax: SubjectDisplay.from_report(found, ax=ax), size)
    else:
        source = _to_png(lambda axes: SubjectDisplay.from_report(found, ax=axes[0]), size)
    return {
        "source": source,
        "alt": f"Share of correctly classified images of each of {len(names)} subjects, the worst "
        "first. The numbers are in the table below.",
    }


def picture_reliability(found: EvaluationReport) -> dict[str, str] | None:
    if found.probabilities is None:
        return None
    error = found.metrics["calibration_error"].value
    return {
        "source": _to_svg(lambda ax: ReliabilityDisplay.from_report(found, ax=ax), (6.0, 5.0)),
        "alt": "Accuracy of the model by its confidence. On average the two differ by "
        f"{error:.3f}.",
    }


def picture_curve(curve: LearningCurve) -> dict[str, str]:
    return {
        "source": _to_svg(lambda ax: LearningCurveDisplay.from_curve(curve, ax=ax), (6.4, 4.0)),
        "alt": "Accuracy by the number of training subjects. The numbers are in the table.",
    }


def picture_history(found: EvaluationReport) -> dict[str, str] | None:
    if not any(found.history):
        return None
    return {
        "source": _to_svg(
            lambda axes: TrainingHistoryDisplay.from_report(found, ax=axes), (8.0, 3.4), columns=2
        ),
        "alt": "Accuracy of the network by epoch, and error of the boosted trees by round, of "
        "each model.",
    }


def _to_svg(draw: Callable[[Any], Any], size: tuple[float, float], columns: int = 1) -> str:
    """Draw to an SVG data URL, in the text colour of the page."""
    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: Mapping[str, Any] = dict.fromkeys(ink, _INK) | {
        "svg.fonttype": "path",
        "svg.hashsalt": "effboost",
        "legend.framealpha": 0,
        "text.parse_math": False,
    }

    def fill(figure: Any) -> None:
        axes = figure.subplots(1, columns, squeeze=False)[0]
        draw(axes if columns > 1 else axes[0])

    raw = _render(fill, size, "svg", style, transparent=True)
    text = raw.decode("utf-8")
    for dark in (_INK, *_DARK):
        text = text.replace(dark, "currentColor")
    start = text.index("<svg")
    head, _, body = text[start:].partition(">")
    themed = (
        f"{head}><style>svg{{color:#1b1b1f}}"
        "@media (prefers-color-scheme: dark){svg{color:#e9e9ee}}</style>" + body
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(themed.encode()).decode()}"


def _to_png(draw: Callable[[Any], Any], size: tuple[float, float], columns: int = 1) -> str:
    return _figure_to_png(lambda figure: draw(figure.subplots(1, columns, squeeze=False)[0]), size)


def _figure_to_png(draw: Callable[[Any], Any], size: tuple[float, float], dpi: int = 90) -> str:
    raw = _render(draw, size, "png", {"text.parse_math": False}, dpi=dpi)
    return f"data:image/png;base64,{base64.b64encode(raw).decode()}"


def _render(
    draw: Callable[[Any], Any],
    size: tuple[float, float],
    form: str,
    style: Mapping[str, Any],
    **options: Any,
) -> bytes:
    """Draw on a figure that pyplot does not manage, so that no window shows it."""
    matplotlib = load_extra("matplotlib", "report")
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Names may be in a script that the font lacks; the tables show them.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = load_extra("matplotlib.figure", "report").Figure(size, layout="constrained")
        draw(figure)
        file = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(file, format=form, metadata=metadata, **options)
    return file.getvalue()
