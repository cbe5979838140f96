"""Computed features and tuned networks, kept in a folder under the hash of all they came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from effboost.exceptions import CacheWarning

__all__ = ["Cache", "digest_of"]

_Result = TypeVar("_Result")

# The number is that of the schema below.
_FILE: Final = "effboost-1.sqlite"
_PATIENCE_S: Final = 60.0
_FRESH_S: Final = 3600
# SQLite's own limit is a billion bytes.
_LARGEST_BLOB: Final = 999_000_000
# SQLite takes at most 32,766 parameters a statement.
_KEYS_A_QUERY: Final = 1000
_PRUNED_SHARE: Final = 0.9
_SCHEMA: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
CREATE TABLE IF NOT EXISTS entries (
    key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, digest BLOB NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_use ON entries (used);
"""


def digest_of(description: Mapping[str, Any]) -> bytes:
    """Hash plain data: the key of whatever was computed from it and nothing else.

    Parameters
    ----------
    description : mapping
        Strings, numbers, None, and lists and dictionaries of them.

    Returns
    -------
    bytes
        32 of them.
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder that keeps features and tuned networks, for all who compute them again.

    An entry is found by a SHA-256 of everything that it was computed from: never by a path or
    a time alone. An image that was edited in place, other weights or another version of torch
    are therefore other entries, and nothing stale can come back. A copy of an image under
    another name is the same entry.

    The entries lie in one SQLite file. Any number of processes may use it at a time, and a
    process that is killed leaves it whole. An entry that no longer has the checksum it was
    written with is computed anew. Where the folder cannot be used, a warning says so and the
    work goes on without it.

    Parameters
    ----------
    folder : str or path
        Where to keep them; made when it is first needed.
    max_bytes : int, default=4 * 2**30
        How large the file may grow. Beyond that, what was not used for longest goes. Features of
        EfficientNet-B0 take about 6 kB an image, its tuned weights 16 MB.

    Warns
    -----
    CacheWarning
        If the folder cannot be used, or the file in it was damaged.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from effboost import Cache, ImageFeaturizer, ImageTransform
    >>> X = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    >>> with TemporaryDirectory() as folder:
    ...     featurizer = ImageFeaturizer(
    ...         "resnet18",
    ...         weights=None,
    ...         training=None,
    ...         transform=ImageTransform(crop_size=None, image_size=32),
    ...         cache=Cache(folder, max_bytes=10**9),
    ...         random_state=0,
    ...     ).fit(X)
    ...     features = featurizer.transform(X)
    ...     bool((featurizer.transform(X) == features).all()), len(featurizer.cache)
    (True, 4)
    """

    folder: str | os.PathLike[str]
    max_bytes: int = 4 * 2**30

    @classmethod
    def at(cls, place: Cache | str | os.PathLike[str] | None) -> Cache | None:
        """Return a cache as it is, a folder as a cache, and None as None."""
        return place if place is None or isinstance(place, Cache) else cls(place)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Look entries up.

        Parameters
        ----------
        keys : sequence of bytes
            Their keys.

        Returns
        -------
        dict
            The values of those that are there and whole.
        """

        def look_up(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            now = int(time.time())
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                rows = connection.execute(
                    "SELECT key, value, digest, used FROM entries "
                    f"WHERE key IN ({','.join('?' * len(some))})",
                    some,
                ).fetchall()
                found |= {key: value for key, value, digest, _ in rows if _digest(value) == digest}
                # Not at each look: readers would wait for one another to write.
                aged = [(now, key) for key, _, _, used in rows if used < now - _FRESH_S]
                if aged:
                    connection.executemany("UPDATE entries SET used = ? WHERE key = ?", aged)
            return found

        return (self._run(look_up) if self._file.exists() else None) or {}

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep entries; one that does not fit into `max_bytes` by itself is not kept.

        Parameters
        ----------
        entries : mapping of bytes to bytes
            Values by their keys.
        """
        now, largest = int(time.time()), min(_LARGEST_BLOB, int(self.max_bytes * _PRUNED_SHARE))
        rows = [
            (key, value, _digest(value), now)
            for key, value in entries.items()
            if len(value) < largest
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
            if _size(connection) > self.max_bytes:
                self._prune(connection)

        self._run(write)

    def clear(self) -> None:
        """Remove all entries."""
        for file in (self._file, self._file.with_name(f"{_FILE}-journal")):
            file.unlink(missing_ok=True)

    def __len__(self) -> int:
        """Count the entries."""
        if not self._file.exists():
            return 0
        return (
            self._run(lambda c: int(c.execute("SELECT COUNT(*) FROM entries").fetchone()[0])) or 0
        )

    def __bool__(self) -> bool:
        # An empty cache is a cache.
        return True

    @property
    def _file(self) -> Path:
        return Path(self.folder) / _FILE

    def _prune(self, connection: sqlite3.Connection) -> None:
        while _size(connection) > self.max_bytes * _PRUNED_SHARE:
            connection.execute(
                "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries "
                "ORDER BY used, rowid LIMIT 1 + (SELECT COUNT(*) / 20 FROM entries))"
            )
        connection.execute("PRAGMA incremental_vacuum").fetchall()

    def _run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """Run one transaction; whatever the file does to it becomes a warning, and None.

        A connection for each call: none is carried into another process by a fork.
        """
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file, timeout=_PATIENCE_S)) as connection:
                connection.executescript(_SCHEMA)
                with connection:
                    return work(connection)
        except (sqlite3.OperationalError, OSError) as error:
            self._warn(f"cannot be used ({error}); the work goes on without it")
        except sqlite3.DatabaseError as error:
            with suppress(OSError):
                self.clear()
            self._warn(f"was damaged ({error}) and is begun anew")
        return None

    def _warn(self, what: str) -> None:
        warnings.warn(f"the cache {str(self._file)!r} {what}", CacheWarning, stacklevel=5)


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _size(connection: sqlite3.Connection) -> int:
    pages, free, page = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)
