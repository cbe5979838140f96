"""What was measured of one system on one split, and the file that keeps it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from effboost._utils.atomic_write import write_atomic

__all__ = ["SystemResult"]


@dataclasses.dataclass(frozen=True)
class SystemResult:
    """One system on one split.

    Attributes
    ----------
    system : str
        Its name in `effboost.comparators.COMPARATORS`.
    split : {"paper", "honest"}
        The split.
    key : str
        Digest of all that the result depends on: settings, images, labels, splits.
    network, weights : str
        What it computes with, and what that started from.
    error : str or None
        Why it failed; all that follows is None then.
    report : dict or None
        `EvaluationReport.to_dict` on the test images, with the curves of training.
    parameters : int or None
        Number of parameters of the fitted networks, outputs included.
    train_seconds : float or None
        Time of ``fit``.
    single_ms, batch_ms : float or None
        Milliseconds of ``predict`` for an image on a CPU: alone (median), and among others.
    size_bytes : int or None
        Size of the file that joblib would write.
    predictions : dict or None
        "index" of each test image, its "true" and predicted ("pred") class, its subject
        ("group"), and "probabilities" where there are some.
    """

    system: str
    split: str
    key: str
    network: str = ""
    weights: str = ""
    error: str | None = None
    report: dict[str, Any] | None = None
    parameters: int | None = None
    train_seconds: float | None = None
    single_ms: float | None = None
    batch_ms: float | None = None
    size_bytes: int | None = None
    predictions: dict[str, Any] | None = None

    @property
    def stem(self) -> str:
        """Name of its files, without the suffix."""
        return f"{self.system}-{self.split}-{self.key[:16]}"

    def save(self, folder: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_atomic(folder / f"{self.stem}.json", json.dumps(dataclasses.asdict(self)) + "\n")

    def load(self, folder: Path) -> SystemResult | None:
        """Return the result that was kept for the same key; None where there is none."""
        try:
            text = (folder / f"{self.stem}.json").read_text(encoding="utf-8")
            kept = SystemResult(**json.loads(text))
        except (OSError, ValueError, TypeError):
            # Missing, or damaged: it is measured again.
            return None
        return kept if kept.key == self.key and kept.error is None else None
