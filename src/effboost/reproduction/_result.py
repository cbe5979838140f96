"""The measurements of one system on one split, and their file."""

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
        Names of the backbone and of its initial weights.
    error : str or None
        Why it failed; the attributes below are then None.
    report : dict or None
        `EvaluationReport.to_dict` on the test images, with the training curves.
    parameters : int or None
        Number of parameters of the fitted networks, including the output layer.
    train_seconds : float or None
        Time of ``fit``.
    single_ms, batch_ms : float or None
        Milliseconds of ``predict`` per image on a CPU: for one image (median), and in a batch.
    size_bytes : int or None
        Size of the file that joblib would write.
    predictions : dict or None
        "index" of each test image, its "true" and predicted ("pred") class, its subject
        ("group"), and "probabilities" if the system has them.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost.reproduction import SystemResult
    >>> result = SystemResult("vgg16_eca", "honest", key="0123", train_seconds=12.5)
    >>> with TemporaryDirectory() as folder:
    ...     result.save(Path(folder))
    ...     SystemResult("vgg16_eca", "honest", key="0123").load(Path(folder)).train_seconds
    12.5
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
        """Name of the files of this result, without the suffix."""
        return f"{self.system}-{self.split}-{self.key[:16]}"

    def save(self, folder: Path) -> None:
        """Write the result as JSON, atomically.

        Parameters
        ----------
        folder : Path
            The folder of the results.
        """
        write_atomic(folder / f"{self.stem}.json", json.dumps(dataclasses.asdict(self)) + "\n")

    def load(self, folder: Path) -> SystemResult | None:
        """Read the result saved for the same key.

        Parameters
        ----------
        folder : Path
            The folder of the results.

        Returns
        -------
        SystemResult or None
            The result; None if there is none, or if it failed.
        """
        try:
            text = (folder / f"{self.stem}.json").read_text(encoding="utf-8")
            kept = SystemResult(**json.loads(text))
        except (OSError, ValueError, TypeError):
            # Missing or damaged: it is measured again.
            return None
        return kept if kept.key == self.key and kept.error is None else None
