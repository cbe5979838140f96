"""From images to features, in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from effboost._images import ImageSequence
from effboost._transforms import ImageTransform
from effboost.exceptions import ImageDecodeError
from effboost.runtime import Runtime

__all__ = ["extract_features"]


def extract_features(
    images: ImageSequence, transform: ImageTransform, runtime: Runtime, *, progress: bool = False
) -> npt.NDArray[np.float32]:
    """Decode, transform and carry images through a network, a small batch at a time.

    Memory holds one batch of pictures and the features, whatever the number of images.

    Parameters
    ----------
    images : ImageSequence
        The images.
    transform : ImageTransform
        Applied to each.
    runtime : Runtime
        The network.
    progress : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    ndarray of shape (n_samples, n_features), float32
        Row i depends on image i alone, to the bit.

    Raises
    ------
    ImageDecodeError
        If an image cannot be read, or if the network gives NaN or infinity for it.
    """
    n, size, side = len(images), runtime.batch_size, transform.image_size
    # The last batch is not full: what stands in its other rows does not matter.
    pixels = np.zeros((size, side, side, 3), dtype=np.uint8)
    parts = []
    with tqdm(total=n, desc="features", unit="image", leave=None, disable=not progress) as bar:
        for start in range(0, n, size):
            count = min(size, n - start)
            for row in range(count):
                pixels[row] = np.asarray(transform.resize(images.decode(start + row)))
            part = runtime.run(pixels)[:count]
            _check_finite(part, images, start)
            parts.append(part)
            bar.update(count)
    return np.concatenate(parts)


def _check_finite(part: npt.NDArray[np.float32], images: ImageSequence, start: int) -> None:
    # XGBoost would take NaN for a missing value and go on.
    bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
    if bad.size:
        index = start + int(bad[0])
        reason = "the network gives NaN or infinity for it: are its weights damaged?"
        raise ImageDecodeError(index, images.path(index), reason)
