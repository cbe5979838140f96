"""The extraction of features from images, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from effboost._extraction.cache import Cache, digest_of
from effboost._extraction.prepared_images import PreparedImages
from effboost._images import ImageSequence
from effboost._transforms import ORIGINAL, Views
from effboost._utils.forks import limit_threads_after_fork
from effboost._utils.shared_results import compute_once, find_shared
from effboost._utils.threads import map_ordered
from effboost.exceptions import ImageDecodeError
from effboost.runtime import Runtime

__all__ = ["FeatureCache", "compute_features"]

_Rows = npt.NDArray[np.float32]
_Rejects = MutableMapping[int, ImageDecodeError]
# Images a look-up: so many are lost at most when a process is killed.
_BLOCK: Final = 64


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """The features of one network in a cache.

    Attributes
    ----------
    cache : Cache
        Where they are stored.
    origin : bytes
        Hash of everything that features are computed from, except the image.
    """

    cache: Cache
    origin: bytes

    def key(self, fingerprint: str) -> bytes:
        """Return the key of the features of an image, by the hash of its content."""
        return digest_of({"origin": self.origin.hex(), "image": fingerprint})

    def get(self, keys: Sequence[bytes], width: int) -> dict[bytes, _Rows]:
        """Look features up; missing entries, and those that cannot be features, are left out."""
        found = {
            key: np.frombuffer(value, dtype="<f4")
            for key, value in self.cache.get(keys).items()
            if len(value) == 4 * width
        }
        return {key: row for key, row in found.items() if np.isfinite(row).all()}

    def put(self, rows: Mapping[bytes, _Rows], others: Mapping[bytes, bytes]) -> None:
        """Keep features and other entries, in one go: the disk is waited for each time."""
        if rows:
            entries = {key: row.astype("<f4").tobytes() for key, row in rows.items()}
            self.cache.put({**entries, **others})


def compute_features(
    images: PreparedImages,
    start_runtime: Callable[[], Runtime],
    width: int,
    *,
    views: Views = ORIGINAL,
    feature_cache: FeatureCache | None = None,
    progress: bool = False,
    rejects: _Rejects | None = None,
    out: _Rows | None = None,
) -> npt.NDArray[np.float32]:
    """Compute the features of images, a small batch at a time.

    Each worker thread decodes a batch, transforms it and runs the network on it, so that decoding
    overlaps with the network. Memory is needed for the batches in progress and for the features.

    Parameters
    ----------
    images : PreparedImages
        The images.
    start_runtime : callable
        Returns the runtime of the network; called only if a feature must be computed.
    width : int
        Number of values in a row: the features, or those of all views one after another.
    views : Views, default=ORIGINAL
        The orientations of each image that features are computed for.
    feature_cache : FeatureCache, default=None
        Where features are looked up and stored.
    progress : bool, default=False
        Show a progress bar on stderr.
    rejects : dict of int to ImageDecodeError, default=None
        Filled with the errors of images that cannot be read, by position. None raises the first
        one.
    out : ndarray of shape (n_samples, width), float32, default=None
        Where the features are written, such as an array in a file. None reserves memory.

    Returns
    -------
    ndarray of shape (n_samples, n_features), float32
        Row i depends only on image i, to the bit. The row of an image in `rejects` is NaN.

    Raises
    ------
    ImageDecodeError
        If an image cannot be read, or its features are not finite, and `rejects` is None.
    """
    limit_threads_after_fork()
    n = len(images)
    features = np.empty((n, width), dtype=np.float32) if out is None else out
    with tqdm(total=n, desc="features", unit="image", leave=None, disable=not progress) as bar:
        if feature_cache is None:
            runtime = start_runtime()

            def compute() -> _Rows:
                for part, rows in _compute(images, range(n), runtime, views, width, rejects):
                    features[part] = rows
                    bar.update(len(part))
                return features

            # Other calls that share results may not know of rejected images, and copy them.
            alone = rejects is not None or out is not None
            return compute() if alone else _share(images, runtime, views, compute)
        # Collected in any case: the first one that cannot be hashed may come after one that
        # cannot be decoded.
        errors: _Rejects = {} if rejects is None else rejects
        kept = _KeptFeatures(feature_cache, width, errors)
        for start in range(0, n, _BLOCK):
            block = range(start, min(start + _BLOCK, n))
            features[block] = kept.look_up(images, block, start_runtime, views)
            if errors and rejects is None:
                raise errors[min(errors)]
            bar.update(len(block))
    return features


def _share(
    images: PreparedImages,
    runtime: Runtime,
    views: Views,
    compute: Callable[[], _Rows],
) -> _Rows:
    """Compute features, once for all calls that share results (`share_results`)."""
    owners = images.images, runtime, images.transform
    if views.average and views.count > 1:
        # Where another call has those of each view, their means are the features.
        of_views = find_shared(owners, dataclasses.replace(views, average=False))
        if of_views is not None:
            return views.gather(of_views.reshape(len(images) * views.count, -1))
    rows: _Rows = compute_once(owners, views, compute)
    return rows


@dataclasses.dataclass(frozen=True)
class _KeptFeatures:
    """Features of images by way of a cache, and the images without any."""

    feature_cache: FeatureCache
    width: int
    rejects: _Rejects

    def look_up(
        self,
        images: PreparedImages,
        block: range,
        start_runtime: Callable[[], Runtime],
        views: Views,
    ) -> list[_Rows]:
        """Look features up, and compute and store the missing ones."""
        keys = [self._key(images, i) for i in block]
        known = self.feature_cache.get([key for key in keys if key is not None], self.width)
        # Equal images have one key: each content is computed once.
        missing = {
            key: i
            for key, i in zip(keys, block, strict=True)
            if key is not None and key not in known
        }
        if missing:
            positions = list(missing.values())
            parts = _compute(images, positions, start_runtime(), views, self.width, self.rejects)
            found = dict(zip(missing, np.concatenate([rows for _, rows in parts]), strict=True))
            self._store(images, found, missing)
            known |= found
            self._reject_copies(images.images, keys, block, missing)
        none = np.full(self.width, np.nan, dtype=np.float32)
        return [none if key is None else known[key] for key in keys]

    def _key(self, images: PreparedImages, i: int) -> bytes | None:
        try:
            return self.feature_cache.key(images.fingerprint(i))
        except ImageDecodeError as error:
            self.rejects[i] = error
            return None

    def _store(
        self, images: PreparedImages, found: Mapping[bytes, _Rows], missing: Mapping[bytes, int]
    ) -> None:
        good = {key: i for key, i in missing.items() if i not in self.rejects}
        # A file that was replaced between hashing and decoding has another key.
        key_of, now = self.feature_cache.key, images.images.fingerprint
        same = {key: i for key, i in good.items() if key_of(now(i)) == key}
        measures = images.measure_entries(list(same.values()))
        self.feature_cache.put({key: found[key] for key in same}, measures)

    def _reject_copies(
        self,
        images: ImageSequence,
        keys: Sequence[bytes | None],
        block: range,
        missing: Mapping[bytes, int],
    ) -> None:
        """Reject the images with the same content as a rejected one, too."""
        for key, i in zip(keys, block, strict=True):
            first = None if key is None else missing.get(key)
            if first is not None and first != i and first in self.rejects:
                error = self.rejects[first]
                self.rejects[i] = type(error)(i, images.path(i), error.reason)


def _compute(
    images: PreparedImages,
    positions: Sequence[int],
    runtime: Runtime,
    views: Views,
    width: int,
    rejects: _Rejects | None = None,
) -> Iterator[tuple[Sequence[int], _Rows]]:
    """Compute the features of some images: batch by batch, with the positions of the images."""
    size = max(1, runtime.batch_size // views.count)
    parts = [positions[start : start + size] for start in range(0, len(positions), size)]

    def work(part: Sequence[int]) -> _Rows:
        if rejects is None:
            return _compute_batch(images, part, runtime, views)
        try:
            return _compute_batch(images, part, runtime, views)
        except ImageDecodeError:
            return _compute_readable(images, part, runtime, views, width, rejects)

    return zip(parts, map_ordered(work, parts, runtime.n_workers), strict=True)


def _compute_batch(
    images: PreparedImages, part: Sequence[int], runtime: Runtime, views: Views
) -> _Rows:
    shown = [view for picture in images.pixels(part) for view in views.show(picture)]
    rows = views.gather(_run(runtime, shown))
    _check_finite(rows, images.images, part)
    return rows


def _compute_readable(
    images: PreparedImages,
    part: Sequence[int],
    runtime: Runtime,
    views: Views,
    width: int,
    rejects: _Rejects,
) -> _Rows:
    """Compute the features of a batch image by image, and NaN for those that cannot be read."""
    rows = np.full((len(part), width), np.nan, dtype=np.float32)
    for place, i in enumerate(part):
        try:
            rows[place] = _compute_batch(images, [i], runtime, views)[0]
        except ImageDecodeError as error:
            rejects[i] = error
    return rows


def _run(runtime: Runtime, pictures: Sequence[npt.NDArray[np.uint8]]) -> _Rows:
    """Run the network on prepared images, in batches of the size that the runtime takes."""
    size, found = runtime.batch_size, []
    for start in range(0, len(pictures), size):
        some = pictures[start : start + size]
        if size == 1:
            pixels = np.ascontiguousarray(some[0])[np.newaxis]  # usually not copied
        else:
            # The last batch may not be full: the content of its other rows does not matter.
            pixels = np.zeros((size, *some[0].shape), dtype=np.uint8)
            pixels[: len(some)] = some
        found.append(runtime.run(pixels)[: len(some)])
    return np.concatenate(found)


def _check_finite(rows: _Rows, images: ImageSequence, part: Sequence[int]) -> None:
    # XGBoost would take NaN for a missing value.
    finite = np.isfinite(rows)
    if not finite.all():
        index = int(part[np.flatnonzero(~finite.all(axis=1))[0]])
        reason = "the network computes NaN or infinity for it; its weights may be damaged"
        raise ImageDecodeError(index, images.path(index), reason)
