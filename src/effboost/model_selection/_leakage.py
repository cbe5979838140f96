"""Detection of subjects and images in both parts of a split."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from effboost._images import ImageSequence, as_images, identify
from effboost._utils.columns import check_groups
from effboost.exceptions import LeakageError, SplitError

__all__ = ["check_comparable", "check_fold_leakage", "check_group_leakage", "check_leakage"]


def check_leakage(
    X_train: Any,
    X_test: Any,
    *,
    groups_train: npt.ArrayLike | None = None,
    groups_test: npt.ArrayLike | None = None,
) -> None:
    """Check that no subject and no image is in both parts of a split.

    Images are compared by the bytes of their files, or by their pixels in memory, whatever `frame`
    and `white_level` they are read with. Copies under other names are found; edited or re-encoded
    copies are not.

    Parameters
    ----------
    X_train, X_test : images
        What `ImageSequence` takes. Each file is read once, and not kept.
    groups_train, groups_test : array-like of shape (n_samples,), default=None
        The subject of each image. None uses the groups of an `ImageSequence`; without groups, only
        the images are compared.

    Raises
    ------
    LeakageError
        If a subject or an image is in both parts. The error lists them.
    SplitError
        If the subject of an image is missing, or only one part names its subjects by strings.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.model_selection import check_leakage
    >>> X = np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8)
    >>> check_leakage(X[:2], X[2:], groups_train=["S1", "S1"], groups_test=["S2", "S3"])
    >>> check_leakage(X[:3], X[2:])
    Traceback (most recent call last):
    ...
    effboost.exceptions.LeakageError: 1 pair of identical images is in both parts of the split, ...
    """
    train, test = as_images(X_train), as_images(X_test)
    _raise_on_leakage(
        _shared_groups(
            train.groups if groups_train is None else groups_train,
            test.groups if groups_test is None else groups_test,
        ),
        _shared_images(_fingerprints(train), _fingerprints(test), _names(train), _names(test)),
    )


def check_fold_leakage(
    images: ImageSequence,
    groups: npt.NDArray[Any] | None,
    folds: Iterable[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
) -> None:
    """Check each fold of a cross-validation, reading each image once; see `check_leakage`."""
    prints = np.array(_fingerprints(images))
    names = np.array(_names(images), dtype=object)
    for train, test in folds:
        _raise_on_leakage(
            [] if groups is None else _shared_groups(groups[train], groups[test]),
            _shared_images(prints[train], prints[test], names[train], names[test]),
        )


def check_group_leakage(train: Any, test: Any) -> None:
    """Check only subjects, None if they are not known; see `check_leakage`."""
    _raise_on_leakage(_shared_groups(train, test), [])


def _fingerprints(images: ImageSequence) -> list[str]:
    return [identify(images, i) for i in range(len(images))]


def _names(images: ImageSequence) -> list[str]:
    return [images.name(i) for i in range(len(images))]


def _shared_groups(train: Any, test: Any) -> list[Any]:
    if train is None or test is None:
        return []
    return sorted(set.intersection(*map(set, check_comparable(train, test))), key=str)


def check_comparable(train: Any, test: Any) -> list[list[Any]]:
    """Check that the subjects of two parts are both strings, or both not; return them as lists."""
    sides = [check_groups(groups).tolist() for groups in (train, test)]
    kinds = {isinstance(side[0], str): side[0] for side in sides if side}
    if len(kinds) > 1:
        raise SplitError(
            f"the subjects of one part are strings ({kinds[True]!r}), and those of the other are "
            f"not ({kinds[False]!r}), so they cannot be compared: convert one of them"
        )
    return sides


def _shared_images(
    train: Iterable[str], test: Iterable[str], train_names: Iterable[str], test_names: Iterable[str]
) -> list[tuple[str, str]]:
    seen = dict(zip(train, train_names, strict=True))
    return [
        (seen[print_], name)
        for print_, name in zip(test, test_names, strict=True)
        if print_ in seen
    ]


def _raise_on_leakage(groups: list[Any], duplicates: list[tuple[str, str]]) -> None:
    found = []
    if groups:
        subjects = "1 subject is" if len(groups) == 1 else f"{len(groups)} subjects are"
        found.append(
            f"{subjects} in both parts of the split, such as {groups[0]!r}: split by group"
        )
    if duplicates:
        first, second = duplicates[0]
        n = len(duplicates)
        pairs = "1 pair of identical images is" if n == 1 else f"{n} pairs of identical images are"
        found.append(
            f"{pairs} in both parts of the split, such as {first!r} and {second!r}: put their "
            "subjects into one group, or drop one of them"
        )
    if found:
        raise LeakageError(". Also, ".join(found), tuple(groups), tuple(duplicates))
