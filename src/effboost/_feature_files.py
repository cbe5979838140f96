"""Features in a folder of parquet files, which grows file by file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.atomic_write import open_atomic
from effboost._utils.compat import load_extra

__all__ = ["FeatureFiles"]

_PART: Final = re.compile(r"part-(\d{6,})\.parquet")
# A file that a killed process was writing.
_LEFT: Final = re.compile(r"\.part-\d{6,}\.parquet\.[0-9a-f]+\.part")
_KEYS: Final = ("path", "position")


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """A row of the files, to identify the network by."""

    path: str
    features: npt.NDArray[np.float32]


class FeatureFiles:
    """A folder of parquet files with the columns path, position and one for each feature.

    This is the layout of Dask: `pandas.read_parquet` and others read the folder as one table. Each
    file is written in one step, so that a killed process leaves whole files.

    Parameters
    ----------
    folder : str
        The folder; it is created when the first file is written.
    columns : sequence of str
        Names of the features.

    Raises
    ------
    MissingDependencyError
        Without pyarrow. The message names the extra.
    """

    def __init__(self, folder: str, columns: Sequence[str]):
        self._arrow: Any = load_extra("pyarrow", "parquet")
        self._parquet: Any = load_extra("pyarrow.parquet", "parquet")
        self._folder = Path(folder)
        self._columns = list(columns)
        self._next = 0

    def exists(self) -> bool:
        """Return whether the folder has files."""
        return bool(self._list())

    def clear(self) -> None:
        """Remove the parquet files of a former run, and no others."""
        for name in self._list():
            (self._folder / name).unlink()
        self._next = 0

    def read(self) -> tuple[set[str], _Sample | None]:
        """Read the paths in the files, and one row; the next file is added to these.

        Raises
        ------
        ValueError
            If a file is not one of these features.
        """
        paths: set[str] = set()
        sample = None
        for name in self._list():
            rows = self._open(name)
            found = rows.read(columns=["path"]).column("path").to_pylist()
            if sample is None and found:
                values = rows.read_row_group(0, columns=self._columns).slice(0, 1)
                row = [column[0].as_py() for column in values.columns]
                sample = _Sample(found[0], np.array(row, dtype=np.float32))
            paths.update(found)
            self._next = int(_PART.fullmatch(name)[1]) + 1  # type: ignore[index]
        for left in self._folder.iterdir() if self._folder.is_dir() else ():
            if _LEFT.fullmatch(left.name):
                left.unlink()
        return paths, sample

    def write(
        self, paths: Sequence[str], positions: Sequence[int], features: npt.NDArray[np.float32]
    ) -> None:
        """Write one file.

        Parameters
        ----------
        paths : sequence of str
            Paths of the images.
        positions : sequence of int
            Their positions in the whole.
        features : ndarray of shape (n_images, n_features), float32
            Their features.
        """
        arrow = self._arrow
        columns = np.ascontiguousarray(features.T, dtype=np.float32)
        table = arrow.table(
            [arrow.array(paths, arrow.string()), arrow.array(positions, arrow.int64()), *columns],
            names=[*_KEYS, *self._columns],
        )
        self._folder.mkdir(exist_ok=True)
        name = f"part-{self._next:06d}.parquet"
        with open_atomic(self._folder / name) as file:
            # No dictionaries: hardly a value occurs twice.
            self._parquet.write_table(table, file, use_dictionary=False)
        self._next += 1

    def _list(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if _PART.fullmatch(path.name))

    def _open(self, name: str) -> Any:
        """Open a file of the folder, and check its columns."""
        place = self._folder / name
        try:
            rows = self._parquet.ParquetFile(place)
        except (self._arrow.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"{str(place)!r} cannot be continued, since it is no parquet file ({error})"
            ) from error
        names = rows.schema_arrow.names
        if names != [*_KEYS, *self._columns]:
            raise ValueError(
                f"{str(place)!r} has {len(names)} columns from {names[0]!r} to {names[-1]!r}, not "
                f"path, position and the {len(self._columns)} features of this network: name "
                "another --out, or give --force instead of --resume"
            )
        return rows
