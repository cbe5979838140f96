"""C-NMC 2019: cells of acute lymphoblastic leukemia and healthy ones."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch, check_random_state

from effboost._images import ImageSequence
from effboost.exceptions import DatasetError, IncompleteDataWarning
from effboost.model_selection import subject_split

__all__ = [
    "TARGET_NAMES",
    "CnmcImage",
    "is_cnmc",
    "list_training_images",
    "load_cnmc",
    "split_cnmc_preliminary",
]

# Each phase's folder: in the mirrors that reorganised the release, then in the archive's own.
_FOLDERS: Final = {
    "train": ("training_data", "C-NMC_training_data"),
    "preliminary": (
        "validation_data/C-NMC_test_prelim_phase_data",
        "C-NMC_test_prelim_phase_data",
    ),
    "final": ("testing_data/C-NMC_test_final_phase_data", "C-NMC_test_final_phase_data"),
}
_LABELS: Final = "C-NMC_test_prelim_phase_data_labels.csv"
_RELEASED: Final = {"train": 10_661, "preliminary": 1_867, "final": 2_586}
_NAME: Final = re.compile(r"UID_(H?\d+)_\d+_\d+_(all|hem)\.bmp", re.IGNORECASE)
# Subjects who share byte-identical images: 94 pairs across the official folds. Found by hashing
# the release.
_MERGED: Final = (("20", "21"), ("51", "75", "78"), ("H2", "H4", "H5", "H6"), ("H3", "H10"))
# Numbers of final-phase images that are identical; their subjects are unknown.
_MERGED_FINAL: Final = (("581", "914"), ("972", "2217"))
# Those with images of the same cell, in files that differ, as well. Found by `check_images` in
# fold 0 and a third of fold 2; there may be more.
_SIMILAR: Final = (
    ("17", "20", "21"),
    ("51", "75", "78"),
    ("H2", "H4", "H5", "H6", "H7"),
    ("H3", "H10"),
)
_GROUPS_OF: Final = {
    merge: {name: "+".join(names) for names in merged for name in names}
    for merge, merged in (("identical", _MERGED), ("similar", _SIMILAR))
}
_FINAL_GROUP_OF: Final = {name: "+".join(names) for names in _MERGED_FINAL for name in names}
# The names of targets 0 and 1.
TARGET_NAMES: Final = ("HEM", "ALL")
# Final-phase images show the cell in the centre of a larger frame.
_FRAME: Final = 450


class CnmcImage(NamedTuple):
    """An image of C-NMC 2019 on disk."""

    path: str
    target: int
    subject: str
    group: str
    fold: int
    split: str


def load_cnmc(
    root: str | os.PathLike[str], split: str = "train", *, merge: str = "identical"
) -> Bunch:
    """Find the images of the C-NMC 2019 challenge on disk, without opening them.

    The data set holds segmented cells on black, stain-normalised by its owners, from subjects
    with acute lymphoblastic leukemia (ALL) and healthy ones (HEM). It has to be downloaded by
    hand from the Cancer Imaging Archive, DOI 10.7937/tcia.2019.dc64i46r.

    Parameters
    ----------
    root : path
        The folder that contains the folders of the phases: either ``C-NMC_training_data``,
        ``C-NMC_test_prelim_phase_data`` and ``C-NMC_test_final_phase_data``, as in the archive, or
        ``training_data``, ``validation_data`` and ``testing_data``, as in a public mirror.
    split : {"train", "preliminary", "final", "all"}, default="train"
        Which phase. The final one has no labels.
    merge : {"identical", "similar"}, default="identical"
        Subjects who share images are one group: those with identical files, as published; or also
        those with files that differ, but show the same cell (17 with 20 and 21, H7 with H2).

    Returns
    -------
    Bunch
        - paths : object ndarray of shape (n_samples,), the files' paths as str
        - images : ImageSequence of shape (n_samples,), carrying the groups; final-phase
          images are cropped to the central 450 x 450 pixels, the size of all others
        - target : ndarray of shape (n_samples,), int: 1 for ALL, 0 for HEM, -1 for unknown
        - target_names : list of str, ["HEM", "ALL"]
        - subjects : ndarray of shape (n_samples,) of str, as the files name them, such as "H3";
          empty where unknown
        - groups : ndarray of shape (n_samples,) of str, the groups to split by. Subjects who share
          identical images are one group, such as "H3+H10"; each final-phase image is its own
          group, with identical images in one
        - fold : ndarray of shape (n_samples,), int: the official fold 0, 1 or 2 of training
          images, else -1
        - split : ndarray of shape (n_samples,) of str, the phases

    Raises
    ------
    DatasetError
        If the folder of a phase or the labels are missing, or a file name has another form.
    ValueError
        If `split` or `merge` has another value.

    Warns
    -----
    IncompleteDataWarning
        If there are fewer or more images than the release has.

    Notes
    -----
    The official folds separate the subjects, but 94 pairs of byte-identical training images, under
    different subjects, are in different folds, and so are images of the same cell whose files
    differ (``merge="similar"``). Split by the 66 `groups` of the training images
    instead of by `fold`.

    References
    ----------
    A. Gupta and R. Gupta, "ALL Challenge dataset of ISBI 2019", The Cancer Imaging Archive,
    2019.

    Examples
    --------
    A copy with two of the images, without the warning that it is incomplete:

    >>> import warnings
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost.datasets import load_cnmc
    >>> with TemporaryDirectory() as root, warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     for name in ("all/UID_1_1_1_all.bmp", "hem/UID_H3_1_1_hem.bmp"):
    ...         path = Path(root, "C-NMC_training_data", "fold_0", name)
    ...         path.parent.mkdir(parents=True)
    ...         path.touch()
    ...     data = load_cnmc(root)
    >>> data.target.tolist(), data.groups.tolist(), data.fold.tolist()
    ([1, 0], ['1', 'H3+H10'], [0, 0])
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(
            f"{str(folder)!r} is not a folder; give the folder that contains the phases of C-NMC"
        )
    if merge not in _GROUPS_OF:
        raise ValueError(f'merge={merge!r} must be "identical" or "similar"')
    if split not in (*_FOLDERS, "all"):
        raise ValueError(f'split={split!r} must be "train", "preliminary", "final" or "all"')
    phases = list(_FOLDERS) if split == "all" else [split]
    folders = {phase: _find_folder(folder, phase) for phase in phases}
    found = [image for phase in phases for image in _LIST[phase](folders[phase], _GROUPS_OF[merge])]
    _check_complete(found, phases)
    return _make_bunch(found)


def split_cnmc_preliminary(
    data: Bunch, *, by: str = "subject", random_state: int | np.random.RandomState | None = None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Split the preliminary images into halves for validation and test.

    Parameters
    ----------
    data : Bunch
        The result of `load_cnmc` for "preliminary" or "all".
    by : {"subject", "image"}, default="subject"
        "image" is the paper's split. Images of one subject are then in both halves, so a model that
        is selected on the validation half gets too good results on the test half. "subject" keeps
        subjects together.
    random_state : int, RandomState instance or None, default=None
        Controls which images are in which half.

    Returns
    -------
    validation, test : ndarray of int
        Positions in `data`, in ascending order.

    Raises
    ------
    ValueError
        If `data` has no preliminary images, or `by` has another value.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.utils import Bunch
    >>> from effboost.datasets import split_cnmc_preliminary
    >>> data = Bunch(  # what load_cnmc(root, "preliminary") returns, with four images
    ...     target=np.array(["ALL", "ALL", "HEM", "HEM"]),
    ...     groups=np.array(["1", "2", "H1", "H2"]),
    ...     split=np.repeat("preliminary", 4),
    ... )
    >>> validation, test = split_cnmc_preliminary(data, random_state=0)
    >>> sorted(data.target[validation].tolist()), sorted(data.target[test].tolist())
    (['ALL', 'HEM'], ['ALL', 'HEM'])
    """
    rows = np.flatnonzero(data.split == "preliminary")
    if not rows.size:
        raise ValueError('data has no preliminary images; use load_cnmc(root, "preliminary")')
    if by == "image":
        order = check_random_state(random_state).permutation(rows)
        half = len(order) // 2
        return np.sort(order[:half]), np.sort(order[half:])
    if by != "subject":
        raise ValueError(f'by={by!r} must be "subject" or "image"')
    parts = subject_split(
        data.target[rows], data.groups[rows], test_size=0.5, random_state=random_state
    )
    return rows[parts.train], rows[parts.test]


def list_training_images(root: Path) -> list[CnmcImage] | None:
    """List the training images of C-NMC 2019; None if a folder is not laid out like it.

    Parameters
    ----------
    root : path
        The folder that `load_cnmc` takes, or the folder of the training images in it.
    """
    names = _FOLDERS["train"]
    folders = [root / name for name in names] + [root] * (root.name in names)
    folder = next((folder for folder in folders if (folder / "fold_0").is_dir()), None)
    # Other data may have folds with the same names, but neither such files nor such classes.
    files = [] if folder is None else (folder / "fold_0").rglob("*.bmp")
    if folder is None or not any(
        _NAME.fullmatch(file.name) or file.parent.name in ("all", "hem") for file in files
    ):
        return None
    found = _list_train(folder, _GROUPS_OF["identical"])
    _check_complete(found, ["train"])
    return found


def is_cnmc(root: str | os.PathLike[str]) -> bool:
    """Return whether a folder contains a folder of training images as C-NMC 2019 does."""
    return any((Path(root) / name).is_dir() for name in _FOLDERS["train"])


def _find_folder(root: Path, phase: str) -> Path:
    for name in _FOLDERS[phase]:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(
        f"the {phase} images are missing: {str(root)!r} contains neither "
        f"{' nor '.join(map(repr, _FOLDERS[phase]))}"
    )


def _list_train(folder: Path, group_of: Mapping[str, str]) -> list[CnmcImage]:
    found = []
    for fold in range(3):
        for path in sorted((folder / f"fold_{fold}").rglob("*.bmp")):
            subject, target = _parse_name(path.name, str(path))
            found.append(
                CnmcImage(
                    str(path),
                    target,
                    subject,
                    group_of.get(subject, subject),
                    fold,
                    "train",
                )
            )
    return found


def _list_preliminary(folder: Path, group_of: Mapping[str, str]) -> list[CnmcImage]:
    table = next((p for p in (folder.parent / _LABELS, folder / _LABELS) if p.is_file()), None)
    if table is None:
        raise DatasetError(
            f"the labels of the preliminary images are missing: {_LABELS!r} is neither in "
            f"{str(folder.parent)!r} nor in {str(folder)!r}"
        )
    found = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"Patient_ID", "new_names", "labels"} <= set(reader.fieldnames or ()):
            raise DatasetError(f"{str(table)!r} lacks the columns Patient_ID, new_names and labels")
        for row in reader:
            subject, target = _parse_name(row["Patient_ID"], f"{table}, line {reader.line_num}")
            if row["labels"] != str(target):
                raise DatasetError(
                    f"{str(table)!r}, line {reader.line_num}: label {row['labels']!r} contradicts "
                    f"the name {row['Patient_ID']!r}"
                )
            path = folder / row["new_names"]
            if path.is_file():
                found.append(
                    CnmcImage(
                        str(path),
                        target,
                        subject,
                        group_of.get(subject, subject),
                        -1,
                        "preliminary",
                    )
                )
    return found


def _list_final(folder: Path, group_of: Mapping[str, str]) -> list[CnmcImage]:
    paths = sorted(folder.glob("*.bmp"), key=lambda path: (len(path.stem), path.stem))
    return [
        CnmcImage(
            str(path), -1, "", f"final {_FINAL_GROUP_OF.get(path.stem, path.stem)}", -1, "final"
        )
        for path in paths
    ]


_LIST: Final = {"train": _list_train, "preliminary": _list_preliminary, "final": _list_final}


def _parse_name(name: str, where: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise DatasetError(
            f"{where}: {name!r} is not a file name of C-NMC, such as 'UID_H12_3_1_hem.bmp'"
        )
    # 36 files of fold 2 are spelled "h3": the same subject as "H3".
    return match[1].upper(), int(match[2].lower() == "all")


def _check_complete(found: Iterable[CnmcImage], phases: list[str]) -> None:
    phase_of = [image.split for image in found]
    wrong = [
        f"{phase_of.count(phase)} of {_RELEASED[phase]} {phase} images"
        for phase in phases
        if phase_of.count(phase) != _RELEASED[phase]
    ]
    if not phase_of:
        raise DatasetError("the folders of C-NMC exist, but contain no .bmp image")
    if wrong:
        warnings.warn(
            f"this copy of C-NMC 2019 differs from the release: it has {', '.join(wrong)}",
            IncompleteDataWarning,
            stacklevel=3,
        )


def _make_bunch(found: list[CnmcImage]) -> Bunch:
    columns: dict[str, Any] = dict(zip(CnmcImage._fields, zip(*found, strict=True), strict=True))
    paths = np.array(columns["path"], dtype=object)
    groups = np.array(columns["group"])
    return Bunch(
        paths=paths,
        images=ImageSequence(paths, groups=groups, frame=_FRAME),
        target=np.array(columns["target"]),
        target_names=list(TARGET_NAMES),
        subjects=np.array(columns["subject"]),
        groups=groups,
        fold=np.array(columns["fold"]),
        split=np.array(columns["split"]),
    )
