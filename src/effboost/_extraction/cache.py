"""A cache of features and fine-tuned networks, with the hash of their inputs as the key."""

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

import numpy as np

from effboost.exceptions import CacheWarning

__all__ = ["Cache", "digest_of"]

_Result = TypeVar("_Result")

# The number is that of the schema below, and of what the digest covers.
_FILE: Final = "effboost-2.sqlite"
_PATIENCE_S: Final = 60.0
_FRESH_S: Final = 3600
# Steps of SQLite's machine between two looks at the clock.
_STEPS_A_LOOK: Final = 1_000_000
# SQLite's own limit is a billion bytes.
_LARGEST_BLOB: Final = 999_000_000
# SQLite takes at most 32,766 parameters a statement.
_KEYS_A_QUERY: Final = 1000
_PRUNED_SHARE: Final = 0.9
_SCHEMA: Final = {
    "entries": "CREATE TABLE entries (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, "
    "digest BLOB NOT NULL, used INTEGER NOT NULL)",
    "by_use": "CREATE INDEX by_use ON entries (used)",
}


def digest_of(description: Mapping[str, Any]) -> bytes:
    """Hash plain data, for the key of what was computed from it.

    Parameters
    ----------
    description : mapping
        Strings, numbers of Python or NumPy, None, and lists and dictionaries of them.

    Returns
    -------
    bytes
        The hash, 32 bytes.
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), default=_to_python)
    return hashlib.sha256(text.encode()).digest()


def _to_python(value: Any) -> Any:
    """Convert a scalar of NumPy, for which `json` has no form."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not plain data")


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder that stores features and fine-tuned networks, so that they are computed once.

    The key of an entry is a SHA-256 of everything that the entry was computed from, never a path or
    a time. So an edited image, other weights or another version of torch have other entries, and no
    entry is ever stale. A copy of an image under another name has the same entry.

    The entries are in one SQLite file. Any number of processes may use it at the same time, and a
    killed process leaves it intact. A damaged entry is computed again. If the folder cannot be
    used, a warning is issued, and nothing is stored; from a read-only folder, entries are read.

    Parameters
    ----------
    folder : str or path
        The folder; it is created when the first entry is stored.
    max_bytes : int, default=4 * 2**30
        Largest size of the file. Beyond it, the least recently used entries are removed. Features
        of EfficientNet-B0 take about 6 kB an image, its tuned weights 16 MB, and what a classifier
        learns about its training images 0.2 MB.

    Warns
    -----
    CacheWarning
        If the folder cannot be used, or its file was damaged.

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
        """Turn a folder into a cache; return a cache, or None, as it is.

        Parameters
        ----------
        place : Cache, str, path or None
            The parameter `cache` of an estimator.

        Returns
        -------
        Cache or None
            The cache; None without one.
        """
        return place if place is None or isinstance(place, Cache) else cls(place)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Look entries up.

        Parameters
        ----------
        keys : sequence of bytes
            The keys.

        Returns
        -------
        dict
            The values of the entries that exist and are intact.
        """

        def look_up(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            now, aged = int(time.time()), []
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                rows = connection.execute(
                    "SELECT key, value, digest, used FROM entries "
                    f"WHERE key IN ({','.join('?' * len(some))})",
                    some,
                )
                for key, value, digest, used in rows:
                    if _is_whole(key, value, digest):
                        found[key] = value
                        # Not at each look-up: readers would wait for one another to write.
                        if not isinstance(used, int) or used < now - _FRESH_S:
                            aged.append((now, key))
            with suppress(sqlite3.OperationalError):  # a cache that can only be read
                connection.executemany("UPDATE entries SET used = ? WHERE key = ?", aged)
            return found

        return self._run(look_up) or {}

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Store entries, except those that are larger than `max_bytes`.

        Parameters
        ----------
        entries : mapping of bytes to bytes
            The values by their keys.
        """
        now, largest = int(time.time()), min(_LARGEST_BLOB, int(self.max_bytes * _PRUNED_SHARE))
        rows = [
            (key, value, _digest(key, value), now)
            for key, value in entries.items()
            if len(value) < largest
        ]

        if not rows:
            return

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
            if _size(connection) > self.max_bytes:
                self._prune(connection)

        self._run(write, create=True)

    def clear(self) -> None:
        """Remove all entries."""
        for file in (self._file, self._file.with_name(f"{_FILE}-journal")):
            file.unlink(missing_ok=True)

    def __len__(self) -> int:
        """Count the entries."""
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
            removed = connection.execute(
                "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries "
                "ORDER BY used, rowid LIMIT 1 + (SELECT COUNT(*) / 20 FROM entries))"
            )
            if not removed.rowcount:  # an empty file is larger
                break
        connection.execute("PRAGMA incremental_vacuum").fetchall()

    def _run(
        self, work: Callable[[sqlite3.Connection], _Result], *, create: bool = False
    ) -> _Result | None:
        """Run one transaction; return None, with a warning, if the file does not allow it.

        Without `create`, a missing file is not created. Each call opens its own connection, so that
        no connection is used in a forked process.
        """
        try:
            if create:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            elif not self._file.exists():
                return None
            with closing(sqlite3.connect(self._file, timeout=_PATIENCE_S)) as connection:
                _guard(connection)
                if not _has_schema(connection):
                    if not create:
                        return None
                    _create(connection)
                with connection:
                    return work(connection)
        except (sqlite3.OperationalError, OSError) as error:
            self._warn(f"cannot be used ({error}); nothing is kept")
        # Also what Python cannot decode of SQLite's own messages, and sizes beyond all memory.
        except (sqlite3.DatabaseError, UnicodeDecodeError, MemoryError) as error:
            with suppress(OSError):
                self.clear()
            self._warn(f"was damaged ({error}) and is replaced by an empty one")
        return None

    def _warn(self, what: str) -> None:
        warnings.warn(f"the cache {str(self._file)!r} {what}", CacheWarning, stacklevel=5)


def _guard(connection: sqlite3.Connection) -> None:
    """Turn all errors of reading a file, which others may have written, into a warning."""
    connection.text_factory = bytes
    deadline = time.monotonic() + _PATIENCE_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_A_LOOK)


def _has_schema(connection: sqlite3.Connection) -> bool:
    """Return whether the tables exist; refuse files with other ones, which might have triggers."""
    found = set(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    if found and found != {(name.encode(), sql.encode()) for name, sql in _SCHEMA.items()}:
        raise sqlite3.DatabaseError("its tables are not those of a cache")
    return bool(found)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if not _has_schema(connection):  # another process may have been faster
            for statement in _SCHEMA.values():
                connection.execute(statement)


def _is_whole(key: Any, value: Any, digest: Any) -> bool:
    # The key is part of the digest: a damaged index leads from one key to another's value.
    return isinstance(key, bytes) and isinstance(value, bytes) and digest == _digest(key, value)


def _digest(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(len(key).to_bytes(8, "big") + key + value).digest()


def _size(connection: sqlite3.Connection) -> int:
    pages, free, page = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)
