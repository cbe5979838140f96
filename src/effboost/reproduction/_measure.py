"""Fit one system and measure it."""

from __future__ import annotations

import io
import pickle
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import joblib
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import has_fit_parameter
from torch import nn

from effboost._featurizer import ImageFeaturizer
from effboost._hybrid_classifier import HybridClassifier
from effboost._images import ImageSequence
from effboost.evaluation import EvaluationReport, evaluate
from effboost.reproduction._data import Data, Split
from effboost.reproduction._figures import draw_explanations

__all__ = ["describe_networks", "measure"]

_SINGLE: Final = 5
_BATCH: Final = 64


def describe_networks(clf: Any) -> tuple[str, str]:
    """Name the backbones of an unfitted classifier, and their initial weights."""
    params = clf.get_params()
    prefixes = [key[: -len("backbone")] for key in params if key.endswith("featurizer__backbone")]
    names = [_name(params[f"{prefix}backbone"]) for prefix in prefixes]
    starts = [params[f"{prefix}weights"] for prefix in prefixes]
    weights = ["random" if w is None else w if w == "imagenet" else "file" for w in starts]
    return ", ".join(dict.fromkeys(names)), ", ".join(dict.fromkeys(weights))


def _name(backbone: Any) -> str:
    if isinstance(backbone, str):
        return backbone
    return str(getattr(backbone, "name", getattr(backbone, "__name__", type(backbone).__name__)))


def measure(
    clf: Any, data: Data, split: Split, positive: str | None, picture: Path | None
) -> dict[str, Any]:
    """Fit and test a classifier, and return the values of its `SystemResult`.

    The explanations of a hybrid are drawn into the file `picture`, if it is not None.
    """
    train, test = data.images[split.train], data.images[split.test]
    watched = {}
    if len(split.validation) and has_fit_parameter(clf, "X_val"):
        watched = {
            "X_val": data.images[split.validation],
            "y_val": data.target[split.validation],
        }
    start = time.perf_counter()
    clf.fit(train, data.target[split.train], **watched)
    seconds = time.perf_counter() - start
    report = evaluate(
        clf,
        test,
        data.target[split.test],
        cv="prefit",
        pos_label=positive,
        check_leakage=False,  # the split was checked before
    )
    if picture is not None and isinstance(clf, HybridClassifier):
        draw_explanations(clf, test, train, report, picture)
    single, batch = _cpu_milliseconds(clf, test)
    return {
        "report": report.to_dict(),
        "parameters": _count_parameters(clf),
        "train_seconds": seconds,
        "single_ms": single,
        "batch_ms": batch,
        "size_bytes": _file_size(clf),
        "predictions": _predictions(report, split),
    }


def _predictions(report: EvaluationReport, split: Split) -> dict[str, Any]:
    shares = report.probabilities
    return {
        "index": split.test.tolist(),
        "true": report.y_true.tolist(),
        "pred": report.y_pred.tolist(),
        "group": report.groups.tolist(),
        "probabilities": None if shares is None else shares.round(6).tolist(),
    }


def _cpu_milliseconds(clf: Any, images: ImageSequence) -> tuple[float, float]:
    if torch.cuda.is_available():
        # A copy, since a network that has started stays on its device.
        clf = pickle.loads(pickle.dumps(clf))
        for part in _parts(clf):
            if isinstance(part, ImageFeaturizer):
                part.device = "cpu"
    some = images[: min(_BATCH, len(images))]
    batch = _seconds(lambda: clf.predict(some)) / len(some)
    clf.predict(images[:1])
    singles = [
        _seconds(lambda i=i: clf.predict(images[i : i + 1]))  # type: ignore[misc]
        for i in range(min(_SINGLE, len(images)))
    ]
    return 1000 * statistics.median(singles), 1000 * batch


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _count_parameters(clf: Any) -> int:
    networks = [part for part in _parts(clf) if isinstance(part, nn.Module)]
    # By identity: a hybrid and its network alone share theirs.
    unique = {id(p): p.numel() for network in networks for p in network.parameters()}
    return sum(unique.values())


def _parts(value: Any) -> Iterator[Any]:
    """Find all fitted estimators and networks within an estimator."""
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, BaseEstimator):
        yield value
        for name, item in vars(value).items():
            if name.endswith("_"):
                yield from _parts(item)


class _Counter(io.RawIOBase):
    """A file that counts the bytes written to it, and keeps none."""

    n_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        n = memoryview(data).nbytes
        self.n_bytes += n
        return n


def _file_size(clf: Any) -> int:
    counter = _Counter()
    joblib.dump(clf, counter)
    return counter.n_bytes
