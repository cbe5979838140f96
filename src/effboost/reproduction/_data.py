"""The data of a reproduction and its two splits: the paper's, and one by subject."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from effboost._images import ImageSequence
from effboost._utils.class_names import LONGEST_NAME
from effboost.datasets import (
    load_cnmc,
    load_image_folder,
    make_blood_cells,
    split_cnmc_preliminary,
)
from effboost.datasets._cnmc import is_cnmc
from effboost.exceptions import UnsupportedInputError
from effboost.model_selection import SubjectSplit, subject_split

__all__ = ["Data", "Split", "join_duplicates", "load_data"]

_Rows = npt.NDArray[np.intp]
_TEST_SIZE: Final = 0.25
# Number of images that --quick keeps of a larger data set.
_QUICK_IMAGES: Final = 400


@dataclasses.dataclass(frozen=True)
class Split:
    """The images that a system learns from, and those that it is tested on.

    Attributes
    ----------
    name : {"paper", "honest"}
        Which of the two splits it is.
    title : str
        Heading of its columns.
    description : str
        Description in one sentence.
    train, validation, test : ndarray of int
        Positions of the images. Metrics are computed on validation images during training;
        nothing is learned from them.
    """

    name: str
    title: str
    description: str
    train: _Rows
    validation: _Rows
    test: _Rows


@dataclasses.dataclass(frozen=True)
class Data:
    """Labelled images and their two splits.

    Attributes
    ----------
    title : str
        Name of the data.
    images : ImageSequence
        They carry the groups to split by. Subjects who share an image are one group.
    target : ndarray of str
        The class of each image.
    subjects : ndarray of str or None
        The subject of each image, as the data names it.
    prints : ndarray of str
        Fingerprint of each image.
    cropped : bool
        Whether the images have the size that the paper's centre crop is made for.
    splits : tuple of Split
        The paper's split, and the one by subject.
    """

    title: str
    images: ImageSequence
    target: npt.NDArray[Any]
    subjects: npt.NDArray[Any] | None
    prints: npt.NDArray[Any]
    cropped: bool
    splits: tuple[Split, Split]

    def shared(self, split: Split) -> tuple[int, int]:
        """Count the subjects and images of the test part that are also in the training part."""
        return (
            0 if self.subjects is None else _count_shared(self.subjects, split),
            _count_shared(self.prints, split),
        )


def load_data(
    root: str | os.PathLike[str] | None,
    *,
    target: str | None,
    group: str | None,
    drop_classes: Iterable[str],
    quick: bool,
    seed: int,
) -> Data:
    """Load the images, and make both splits."""
    known = root is None or is_cnmc(root)
    if known and (target or group or tuple(drop_classes)):
        raise UnsupportedInputError(
            "target, group and drop_classes are not for C-NMC 2019 and generated cells, whose "
            "classes and subjects are known: leave them out"
        )
    if root is not None and known:
        return _load_cnmc(Path(root), quick, seed)
    if root is None:
        found, title = _make_cells(quick, seed), "generated cells"
    else:
        # The path may be ".", which has no name.
        title = Path(root).absolute().name
        found = load_image_folder(root, target=target, group=group, drop_classes=drop_classes)
        found = _thin(found, found.groups, quick, seed)
        found.images = found.paths
    images, prints, groups = _index(found.images, found.groups)
    labels = found.target.astype(str)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST_SIZE, stratify=labels, random_state=seed
    )
    parts = subject_split(labels, groups, test_size=_TEST_SIZE, random_state=seed)
    nothing = parts.validation
    honest = "by subject; subjects with an identical image count as one"
    if found.groups is None:
        honest = "by image, since NO SUBJECTS ARE KNOWN; identical images are on one side"
    return Data(
        title,
        images,
        labels,
        None if found.groups is None else found.groups.astype(str),
        prints,
        False,
        (
            Split(
                "paper",
                "split by image",
                "a quarter of the images of each class is tested, whatever their subjects",
                np.sort(train),
                nothing,
                np.sort(test),
            ),
            Split(
                "honest",
                "subject-wise",
                f"{_say_share(parts)} of the images is tested, split {honest}",
                *parts,
            ),
        ),
    )


def _say_share(parts: SubjectSplit) -> str:
    """Say which part is tested: whole subjects of the rarest class may be more than a quarter."""
    n = len(parts.train) + len(parts.test)
    share = len(parts.test) / n
    return "a quarter" if abs(share - _TEST_SIZE) < 0.05 else f"{share:.0%} ({len(parts.test)})"


def _make_cells(quick: bool, seed: int) -> Bunch:
    n_subjects, n_images, side = (16, 8, 96) if quick else (40, 20, 224)
    return make_blood_cells(n_subjects, n_images, image_size=side, random_state=seed)


def _load_cnmc(root: Path, quick: bool, seed: int) -> Data:
    phases = [load_cnmc(root, phase) for phase in ("train", "preliminary")]
    columns = ("paths", "target", "subjects", "groups", "split")
    found = Bunch(**{name: np.concatenate([p[name] for p in phases]) for name in columns})
    found = _thin(found, found.groups, quick, seed)
    images, prints, groups = _index(found.paths, found.groups)
    found.groups = groups
    train = np.flatnonzero(found.split == "train")
    by_image = split_cnmc_preliminary(found, by="image", random_state=seed)
    by_subject = split_cnmc_preliminary(found, by="subject", random_state=seed)
    kept = train[~np.isin(groups[train], groups[np.concatenate(by_subject)])]
    return Data(
        "C-NMC 2019",
        images,
        np.array(["HEM", "ALL"])[found.target],
        found.subjects,
        prints,
        True,
        (
            Split(
                "paper",
                "the paper's split",
                "trained on the training folds; half of the images of the preliminary set is "
                "tested and the other half is for validation, whatever their subjects",
                train,
                *by_image,
            ),
            Split(
                "honest",
                "subject-wise",
                "the preliminary set is halved by subject; subjects with an identical image count "
                "as one, and those of the preliminary set are left out of training",
                kept,
                *by_subject,
            ),
        ),
    )


def _thin(found: Bunch, groups: Any, quick: bool, seed: int) -> Bunch:
    """Keep some images of every subject, if there are too many for a quick run."""
    n = len(found.target)
    if not quick or n <= _QUICK_IMAGES:
        return found
    order = np.random.default_rng(seed).permutation(n)
    turn = np.zeros(n, dtype=np.intp)
    if groups is not None:
        _, codes = np.unique(groups[order], return_inverse=True)
        for code in range(codes.max() + 1):
            turn[codes == code] = np.arange((codes == code).sum())
    kept = np.sort(order[np.argsort(turn, kind="stable")][:_QUICK_IMAGES])
    return Bunch(
        **{
            name: value[kept] if isinstance(value, np.ndarray) else value
            for name, value in found.items()
        }
    )


def _index(images: Any, groups: Any) -> tuple[ImageSequence, npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the images with the groups to split them by, and their fingerprints."""
    plain = ImageSequence(images)
    prints = np.array([plain.fingerprint(i) for i in range(len(plain))])
    named = np.arange(len(plain)) if groups is None else groups
    joined = join_duplicates(named.astype(str), prints)
    return ImageSequence(images, groups=joined), prints, joined


def join_duplicates(groups: npt.NDArray[Any], prints: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rename groups that share an image, directly or through other groups, to a common name."""
    names, group_codes = np.unique(groups, return_inverse=True)
    print_codes = np.unique(prints, return_inverse=True)[1] + len(names)
    size = print_codes.max() + 1
    links = coo_array((np.ones(len(groups)), (group_codes, print_codes)), shape=(size, size))
    part = connected_components(links, directed=False)[1][: len(names)]
    common = {p: _name_together(names[part == p].tolist()) for p in np.unique(part)}
    return np.array([common[p] for p in part])[group_codes]


def _name_together(names: list[str]) -> str:
    joined = "+".join(names)
    if len(joined) <= LONGEST_NAME:
        return joined
    return f"{names[0][:100]} and {len(names) - 1:,} more"


def _count_shared(values: npt.NDArray[Any], split: Split) -> int:
    return len(set(values[split.train]) & set(values[split.test]))
