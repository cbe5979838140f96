"""The extraction of features from images, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
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

__all__ = ["FeatureCache", "extract_features"]

_Rows = npt.NDArray[np.float32]
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

    def key(self, images: ImageSequence, index: int) -> bytes:
        """Return the key of the features of an image, which depends on its content alone."""
        return digest_of({"origin": self.origin.hex(), "image": images.fingerprint(index)})

    def get(self, keys: Sequence[bytes], width: int) -> dict[bytes, _Rows]:
        """Look features up; missing entries, and those that cannot be features, are left out."""
        found = {
            key: np.frombuffer(value, dtype="<f4")
            for key, value in self.cache.get(keys).items()
            if len(value) == 4 * width
        }
        return {key: row for key, row in found.items() if np.isfinite(row).all()}

    def put(self, rows: Mapping[bytes, _Rows]) -> None:
        """Keep features."""
        if rows:
            self.cache.put({key: row.astype("<f4").tobytes() for key, row in rows.items()})


def extract_features(
    images: PreparedImages,
    start_runtime: Callable[[], Runtime],
    width: int,
    *,
    views: Views = ORIGINAL,
    feature_cache: FeatureCache | None = None,
    progress: bool = False,
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

    Returns
    -------
    ndarray of shape (n_samples, n_features), float32
        Row i depends only on image i, to the bit.

    Raises
    ------
    ImageDecodeError
        If an image cannot be read, or its features are not finite.
    """
    limit_threads_after_fork()
    n = len(images)
    features = np.empty((n, width), dtype=np.float32)
    with tqdm(total=n, desc="features", unit="image", leave=None, disable=not progress) as bar:
        if feature_cache is None:
            runtime = start_runtime()

            def compute() -> _Rows:
                for part, rows in _compute(images, range(n), runtime, views):
                    features[part] = rows
                    bar.update(len(part))
                return features

            return _share(images, runtime, views, compute)
        for start in range(0, n, _BLOCK):
            block = range(start, min(start + _BLOCK, n))
            features[block] = _look_up(images, block, start_runtime, width, views, feature_cache)
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


def _look_up(
    images: PreparedImages,
    block: range,
    start_runtime: Callable[[], Runtime],
    width: int,
    views: Views,
    feature_cache: FeatureCache,
) -> list[_Rows]:
    """Look features up, and compute and store the missing ones."""
    keys = [feature_cache.key(images.images, i) for i in block]
    known = feature_cache.get(keys, width)
    # Equal images have one key: each content is computed once.
    missing = {key: i for key, i in zip(keys, block, strict=True) if key not in known}
    if missing:
        parts = _compute(images, list(missing.values()), start_runtime(), views)
        found = dict(zip(missing, np.concatenate([rows for _, rows in parts]), strict=True))
        # A file that was replaced between hashing and decoding has another key.
        feature_cache.put(
            {
                key: found[key]
                for key, i in missing.items()
                if feature_cache.key(images.images, i) == key
            }
        )
        known |= found
    return [known[key] for key in keys]


def _compute(
    images: PreparedImages,
    positions: Sequence[int],
    runtime: Runtime,
    views: Views,
) -> Iterator[tuple[Sequence[int], _Rows]]:
    """Compute the features of some images: batch by batch, with the positions of the images."""
    size = max(1, runtime.batch_size // views.count)
    parts = [positions[start : start + size] for start in range(0, len(positions), size)]

    def work(part: Sequence[int]) -> _Rows:
        shown = [view for picture in images.pixels(part) for view in views.show(picture)]
        rows = views.gather(_run(runtime, shown))
        _check_finite(rows, images.images, part)
        return rows

    return zip(parts, map_ordered(work, parts, runtime.n_workers), strict=True)


def _run(runtime: Runtime, pictures: Sequence[npt.NDArray[np.uint8]]) -> _Rows:
    """Run the network on prepared images, in batches of the size that the runtime takes."""
    size, found = runtime.batch_size, []
    for start in range(0, len(pictures), size):
        some = pictures[start : start + size]
        # The last batch may not be full: the content of its other rows does not matter.
        pixels = np.zeros((size, *some[0].shape), dtype=np.uint8)
        pixels[: len(some)] = some
        found.append(runtime.run(pixels)[: len(some)])
    return np.concatenate(found)


def _check_finite(rows: _Rows, images: ImageSequence, part: Sequence[int]) -> None:
    # XGBoost would take NaN for a missing value.
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        index = int(part[bad[0]])
        reason = "the network computes NaN or infinity for it; its weights may be damaged"
        raise ImageDecodeError(index, images.path(index), reason)
