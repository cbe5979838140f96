"""Training of boosted trees from features in a file, for more of them than memory has room for."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._heads.booster import is_booster
from effboost._utils.compat import load_xgboost, replace_matrices
from effboost._utils.memory import available_memory
from effboost.exceptions import UnsupportedInputError

__all__ = ["keeps_features_on_disk", "trains_from_file"]

# Of rows that XGBoost reads together.
_BLOCK_BYTES: Final = 2**24
# Rows that the bins are computed from: XGBoost would need as much memory as the features, to
# compute them from all. scikit-learn's and LightGBM's boosting also bin by a sample.
_N_BINNED: Final = 2**14
# The features, two copies to find equal rows, and the binned matrix of XGBoost, rounded up.
_COPIES: Final = 4


def keeps_features_on_disk(storage: str, shape: tuple[int, int], classifier: Any) -> bool:
    """Return whether the training features are kept in a file.

    Parameters
    ----------
    storage : {"auto", "memory", "disk"}
        "auto" chooses by the size of the features and the available memory.
    shape : tuple (n_rows, n_features)
        Of the features, float32.
    classifier : classifier
        The head.

    Raises
    ------
    UnsupportedInputError
        If they are requested to be on disk, but the head cannot learn from there.

    Warns
    -----
    UserWarning
        If "auto" chooses the disk.
    """
    if storage == "memory":
        return False
    can_read = _reads_blocks(classifier)
    if storage == "disk":
        if not can_read:
            raise UnsupportedInputError(
                'feature_storage="disk" needs XGBoost with tree_method="hist" as the head: '
                f"{type(classifier).__name__} reads all features into memory; leave it out, or "
                "choose another head"
            )
        return True
    n_bytes = 4 * shape[0] * shape[1]
    available = available_memory()
    if not can_read or available is None or _COPIES * n_bytes <= available:
        return False
    warnings.warn(
        f"training on {shape[0]:,} x {shape[1]:,} features in memory takes about "
        f"{_COPIES * n_bytes / 1e9:.1f} GB, and {available / 1e9:.1f} GB are available: they are "
        'kept on disk, which is slower (feature_storage="memory" or "disk" sets either)',
        stacklevel=4,
    )
    return True


def _reads_blocks(classifier: Any) -> bool:
    return (
        is_booster(classifier)
        and classifier.booster in (None, "gbtree", "dart")
        and classifier.tree_method in (None, "auto", "hist")
    )


@contextmanager
def trains_from_file(booster: Any) -> Iterator[None]:
    """Let a booster read the features that it is fitted on block by block.

    XGBoost bins them into a file of its own (`ExtMemQuantileDMatrix`) in a temporary folder. The
    bins are the quantiles of a random sample of rows. Memory holds some blocks, whatever the number
    of rows, and a few values for each row.
    """
    with tempfile.TemporaryDirectory(prefix="effboost-") as folder:
        xgboost, n_matrices = load_xgboost(), 0

        def create(ref: Any, *, data: Any, **settings: Any) -> Any:
            nonlocal n_matrices
            n_matrices += 1
            columns = {
                name: None if settings.get(name) is None else np.asarray(settings[name])
                for name in ("label", "weight")
            }
            common = {
                "missing": settings.get("missing"),
                "nthread": booster.n_jobs,
                "max_bin": booster.max_bin,
            }
            if ref is None:
                chosen = _sample(len(data))
                some = {name: None if c is None else c[chosen] for name, c in columns.items()}
                ref = xgboost.QuantileDMatrix(np.asarray(data[chosen]), **some, **common)
            blocks = _make_blocks(data, columns, Path(folder) / f"matrix{n_matrices}")
            matrix = xgboost.ExtMemQuantileDMatrix(blocks, ref=ref, **common)
            if settings.get("feature_weights") is not None:
                matrix.set_info(feature_weights=settings["feature_weights"])
            return matrix

        with replace_matrices(booster, create):
            yield


def _sample(n_rows: int) -> npt.NDArray[np.intp]:
    """Choose the rows that the bins are computed from, the same ones each time."""
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(n_rows, min(n_rows, _N_BINNED), replace=False))


def _make_blocks(
    features: npt.NDArray[np.float32], columns: dict[str, npt.NDArray[Any] | None], cache: Path
) -> Any:
    """Build an iterator of XGBoost over blocks of rows."""
    size = max(1, _BLOCK_BYTES // (4 * features.shape[1]))

    class Blocks(load_xgboost().DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self.start = 0
            super().__init__(cache_prefix=str(cache))

        def reset(self) -> None:
            self.start = 0

        def next(self, input_data: Callable[..., None]) -> bool:
            if self.start >= len(features):
                return False
            part = slice(self.start, self.start + size)
            self.start = part.stop
            values = {name: None if c is None else c[part] for name, c in columns.items()}
            # A part of the file, not a copy of it.
            input_data(data=np.asarray(features[part]), **values)
            return True

    return Blocks()
