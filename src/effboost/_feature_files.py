"""Features in a folder of parquet files, which grows file by file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
import numpy.typing as npt

from effboost._utils.atomic_write import write_atomic
from effboost._utils.compat import load_extra
from effboost._utils.stores import is_url, list_url, read_with, redact, remove_url, write_url

__all__ = ["FeatureFiles"]

_Result = TypeVar("_Result")

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
        The folder, or its URL in a store; it is created when the first file is written.
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
        self._folder: _Folder | _StoreFolder
        self._folder = _StoreFolder(folder) if is_url(folder) else _Folder(Path(folder))
        self._columns = list(columns)
        self._next = 0

    def clear(self) -> None:
        """Remove the parquet files of a former run, and no others."""
        for name in self._list():
            self._folder.remove(name)
        self._next = 0

    def read(self) -> tuple[dict[str, int], _Sample | None]:
        """Read the paths in the files with their positions, and one row.

        The next file is added to these.

        Raises
        ------
        ValueError
            If a file is not one of these features.
        """
        rows: dict[str, int] = {}
        sample = None
        for name in self._list():
            found, sample = self._folder.read(name, partial(self._read_file, name, sample))
            rows |= found
            self._next = int(_PART.fullmatch(name)[1]) + 1  # type: ignore[index]
        for name in filter(_LEFT.fullmatch, self._folder.list()):
            self._folder.remove(name)
        return rows, sample

    def renumber(self, written: Mapping[str, int], positions: Mapping[str, int]) -> None:
        """Correct positions that are those among other images.

        Parameters
        ----------
        written : mapping of str to int
            The rows, as `read` returns them.
        positions : mapping of str to int
            The position of each image; others get -1.
        """
        if all(positions.get(path, -1) == position for path, position in written.items()):
            return
        for name in self._list():
            table = self._folder.read(name, self._parquet.read_table)
            paths = table.column("path").to_pylist()
            column = self._arrow.array([positions.get(p, -1) for p in paths], self._arrow.int64())
            if column != table.column("position").combine_chunks():
                at = table.column_names.index("position")
                self._write(name, table.set_column(at, "position", column))

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
        self._write(f"part-{self._next:06d}.parquet", table)
        self._next += 1

    def _write(self, name: str, table: Any) -> None:
        content = self._arrow.BufferOutputStream()
        # No dictionaries: hardly a value occurs twice.
        self._parquet.write_table(table, content, use_dictionary=False)
        self._folder.write(name, content.getvalue().to_pybytes())

    def _list(self) -> list[str]:
        return sorted(filter(_PART.fullmatch, self._folder.list()))

    def _read_file(
        self, name: str, sample: _Sample | None, file: BinaryIO
    ) -> tuple[dict[str, int], _Sample | None]:
        """Check the columns of a file; return its paths and positions, and a row if needed."""
        place = f"{name!r} of {self._folder.name!r}"
        try:
            rows = self._parquet.ParquetFile(file)
        except self._arrow.ArrowInvalid as error:
            raise ValueError(f"{place} is no parquet file ({error})") from error
        names = rows.schema_arrow.names
        if names != [*_KEYS, *self._columns]:
            raise ValueError(
                f"{place} has {len(names)} columns from {names[0]!r} to {names[-1]!r}, not path, "
                f"position and the {len(self._columns)} features of this network: name another "
                "--out, or give --force instead of --resume"
            )
        keys = rows.read(columns=list(_KEYS))
        paths, positions = (keys.column(key).to_pylist() for key in _KEYS)
        if sample is None and paths:
            values = rows.read_row_group(0, columns=self._columns).slice(0, 1)
            row = [column[0].as_py() for column in values.columns]
            sample = _Sample(paths[0], np.array(row, dtype=np.float32))
        return dict(zip(paths, positions, strict=True)), sample


class _Folder:
    """A folder of this machine."""

    def __init__(self, path: Path):
        self._path = path
        self.name = str(path)

    def list(self) -> list[str]:
        return [file.name for file in self._path.iterdir()] if self._path.is_dir() else []

    def read(self, name: str, function: Callable[[BinaryIO], _Result]) -> _Result:
        with (self._path / name).open("rb") as file:
            return function(file)

    def write(self, name: str, content: bytes) -> None:
        self._path.mkdir(exist_ok=True)
        write_atomic(self._path / name, content)

    def remove(self, name: str) -> None:
        (self._path / name).unlink()


class _StoreFolder:
    """A folder of a store, which writes each file in one step by itself."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        self.name = redact(url)

    def list(self) -> list[str]:
        return [url.rpartition("/")[2] for url in list_url(self._url)]

    def read(self, name: str, function: Callable[[BinaryIO], _Result]) -> _Result:
        return read_with(f"{self._url}/{name}", function)

    def write(self, name: str, content: bytes) -> None:
        write_url(f"{self._url}/{name}", content)

    def remove(self, name: str) -> None:
        remove_url(f"{self._url}/{name}")
