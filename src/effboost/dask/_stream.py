"""Predictions one by one, from all workers."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from distributed import Client, Future

from effboost._images import ImageSequence
from effboost._iter_predictions import Prediction, adapts_to_call, check_call, images_for
from effboost._iter_predictions import iter_predictions as iter_locally
from effboost._utils.decision import find_check
from effboost._utils.threads import limit_threads
from effboost.dask._model import find_model, resolve_client, send_model
from effboost.exceptions import UnsupportedInputError

__all__ = ["iter_predictions"]

_BLOCK: Final = 64
# Blocks in progress or waiting for each thread: enough to keep it busy.
_AHEAD: Final = 3


def iter_predictions(
    clf: Any,
    X: Any,
    *,
    client: Client | None = None,
    block_size: int = _BLOCK,
    flags: bool = False,
) -> Iterator[Prediction]:
    """Predict images on a Dask cluster, and yield the results in order as they come.

    Parameters
    ----------
    clf : classifier
        Fitted, on images: any that the local `effboost.iter_predictions` takes.
    X : images, n_samples of them
        What `ImageSequence` takes. Workers read the files.
    client : Client, default=None
        The Dask client; None means the current one.
    block_size : int, default=64
        Number of images of a task.
    flags : bool, default=False
        Also tell which images are unlike those that the classifier was trained on.

    Returns
    -------
    iterator of Prediction
        One for each image, in their order; images that cannot be read do not stop it.

    Raises
    ------
    ValueError
        If `block_size` is less than 1, or there is no Dask client.
    UnsupportedInputError
        With `flags`, if the classifier has no `check_familiarity`, with the reason; or if it adapts
        to all images of a call, such as `SiteAdaptedClassifier`.

    Notes
    -----
    At most three blocks for each thread of the cluster are in progress or wait to be yielded, so
    the memory of this process does not grow with the number of images.

    Examples
    --------
    >>> from distributed import Client
    >>> from effboost import presets
    >>> from effboost.dask import iter_predictions
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=32, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> clf = clf.fit(cells.images, cells.target)
    >>> with Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0"):
    ...     found = list(iter_predictions(clf, cells.images[:3]))
    >>> [prediction.label for prediction in found] == clf.predict(cells.images[:3]).tolist()
    True
    """
    clf = check_call(clf, block_size)
    if flags:
        find_check(clf)
    if adapts_to_call(clf):
        raise UnsupportedInputError(
            "the classifier adapts to the images of a call, which workers would only see a part "
            "of: use effboost.iter_predictions in this process"
        )
    client = resolve_client(client)
    return _iterate(client, send_model(client, clf), images_for(clf, X), block_size, flags)


def _iterate(
    client: Client, name: str, images: ImageSequence, block_size: int, flags: bool
) -> Iterator[Prediction]:
    pending: deque[tuple[int, Future]] = deque()
    for start in range(0, len(images), block_size):
        block = images[start : start + block_size]
        future = client.submit(_predict_block, block, name, flags, pure=False)
        pending.append((start, future))
        if len(pending) > _AHEAD * max(1, sum(client.nthreads().values())):
            yield from _results(*pending.popleft(), images)
    while pending:
        yield from _results(*pending.popleft(), images)


def _results(start: int, future: Future, images: ImageSequence) -> Iterator[Prediction]:
    for i, prediction in enumerate(future.result(), start):
        # Images from memory are named by their positions among all.
        yield dataclasses.replace(prediction, image=images.name(i))


def _predict_block(images: ImageSequence, name: str, flags: bool) -> list[Prediction]:
    with limit_threads(1):
        size = len(images)
        return list(iter_locally(find_model(name), images, block_size=size, flags=flags))
