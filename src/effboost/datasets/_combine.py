"""Several sources of images as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from effboost._images import ImageSequence, as_images
from effboost._utils.columns import check_groups, check_label_column
from effboost.exceptions import DatasetError

__all__ = ["combine"]

# Sites of published sets that show the same cells.
_SAME: Final = (frozenset(("PBC Barcelona", "BloodMNIST")), frozenset(("ALL-IDB1", "ALL-IDB2")))
_ClassMap = Mapping[str, str | None]


def combine(
    *sources: Bunch,
    classes: _ClassMap | Sequence[_ClassMap] | None = None,
    names: Sequence[str] | None = None,
) -> Bunch:
    """Use several sources of images as one, with one set of classes.

    Parameters
    ----------
    *sources : Bunch
        Two or more results of loaders, such as `load_published`, `load_cnmc` and
        `load_image_folder`.
    classes : dict of str to str or None, or sequence of such dicts, default=None
        New names of classes, such as ``{"lymphoblast": "ALL"}``; None as a name leaves the images
        of a class out. Classes that are not in it keep their names. One dict is for all sources, a
        sequence has one dict for each.
    names : sequence of str, default=None
        The site of each source. None keeps the sites that the sources have, which those of
        `load_published` do.

    Returns
    -------
    Bunch
        - images : ImageSequence of shape (n_samples,), carrying the groups
        - paths : object ndarray of shape (n_samples,) of str, or None if a source has none
        - target : ndarray of shape (n_samples,) of str, the classes
        - target_names : list of str, the classes in sorted order
        - groups : ndarray of shape (n_samples,) of str, such as "BCCD/BloodImage_00000": groups of
          different sites are different. Without known groups, each image is its own.
        - site : ndarray of shape (n_samples,) of str, for `effboost.evaluate`
        - DESCR : str, the descriptions of all sources that have one

    Raises
    ------
    DatasetError
        If there is one source, a class is in one source only, two sources have the same site or
        show the same cells, a source has no site, or its images have no labels.

    Notes
    -----
    Copies of images in two sources are not looked for: `effboost.evaluate` finds identical files,
    `check_images` also those that were resized.

    Examples
    --------
    >>> from effboost.datasets import combine, make_blood_cells
    >>> ours = make_blood_cells(n_subjects=2, images_per_subject=2, image_size=64, random_state=0)
    >>> theirs = make_blood_cells(n_subjects=2, images_per_subject=1, image_size=64, random_state=1)
    >>> data = combine(ours, theirs, classes={"HEM": "healthy"}, names=["ours", "theirs"])
    >>> data.target[1:].tolist(), data.groups.tolist()[3:5]
    (['ALL', 'healthy', 'healthy', 'ALL', 'healthy'], ['ours/S001', 'theirs/S000'])
    """
    if len(sources) < 2:
        raise DatasetError(f"got {len(sources)} sources; give two or more")
    maps = _check_maps(classes, len(sources))
    sites = _find_sites(sources, names)
    targets = [_name_classes(source) for source in sources]
    _check_known(maps, targets, shared=classes is None or isinstance(classes, Mapping))
    renamed = [
        np.array([new.get(label, label) for label in target], dtype=object)
        for new, target in zip(maps, targets, strict=True)
    ]
    kept = [np.array([label is not None for label in labels], dtype=bool) for labels in renamed]
    _check_classes(renamed, sites)
    parts = [
        _take(source, labels[keep].astype(str), site[keep], keep)
        for source, labels, site, keep in zip(sources, renamed, sites, kept, strict=True)
    ]
    groups = np.concatenate([part.groups for part in parts])
    target = np.concatenate([part.target for part in parts])
    paths = [part.paths for part in parts]
    return Bunch(
        images=ImageSequence(np.concatenate([part.handles for part in parts]), groups=groups),
        paths=None if any(own is None for own in paths) else np.concatenate(paths),
        target=target,
        target_names=sorted(set(target.tolist())),
        groups=groups,
        site=np.concatenate([part.site for part in parts]),
        DESCR="\n".join(str(source.DESCR) for source in sources if "DESCR" in source),
    )


def _check_maps(
    classes: _ClassMap | Sequence[_ClassMap] | None, n_sources: int
) -> list[dict[str, str | None]]:
    """Return the new names of classes for each source."""
    if classes is None:
        return [{} for _ in range(n_sources)]
    if isinstance(classes, Mapping):
        return [dict(classes) for _ in range(n_sources)]
    if len(classes) != n_sources:
        raise DatasetError(
            f"classes has {len(classes)} dicts for {n_sources} sources: give one for each"
        )
    return [dict(own) for own in classes]


def _find_sites(
    sources: Sequence[Bunch], names: Sequence[str] | None
) -> list[npt.NDArray[np.str_]]:
    """Return the site of each image of each source."""
    if names is not None and len(names) != len(sources):
        raise DatasetError(f"names has {len(names)} sites for {len(sources)} sources")
    sites = []
    for i, source in enumerate(sources):
        if names is not None:
            sites.append(np.full(len(source.target), str(names[i])))
        elif "site" in source:
            sites.append(np.asarray(source.site, dtype=str))
        else:
            raise DatasetError(f"source {i} has no site: give the sites of all sources as names")
    seen: set[str] = set()
    for own in sites:
        shared = sorted(seen & set(own.tolist()))
        if shared:
            raise DatasetError(
                f"two sources are of the site {shared[0]!r}: if they are of two sites, name them "
                "by names"
            )
        seen |= set(own.tolist())
    # The sites that the sources themselves have; names cannot hide that cells are the same.
    own_sites = {str(name) for source in sources for name in set(source.get("site", ()))}
    for same in _SAME:
        if same <= own_sites:
            raise DatasetError(f"{' and '.join(sorted(same))} show the same cells: use one of them")
    return sites


def _name_classes(source: Bunch) -> list[str]:
    """Return the name of the class of each image; numbers become their names."""
    target = check_label_column(source.target)
    if target.dtype.kind in "iu" and "target_names" in source:
        if target.min() < 0:
            raise DatasetError(
                f"{int((target < 0).sum())} images have no label (-1): leave them out, for example "
                'by load_cnmc(root, "train")'
            )
        return [str(source.target_names[number]) for number in target.tolist()]
    return [str(label) for label in target.tolist()]


def _check_known(
    maps: list[dict[str, str | None]], targets: list[list[str]], *, shared: bool
) -> None:
    """Check that classes to be renamed exist."""
    everywhere = set().union(*targets)
    for i, (own, target) in enumerate(zip(maps, targets, strict=True)):
        known = everywhere if shared else set(target)
        unknown = sorted(set(own) - known)
        if unknown:
            raise DatasetError(
                f"classes renames {unknown[0]!r}, which is not a class of "
                f"{'any source' if shared else f'source {i}'}; the classes are "
                f"{', '.join(sorted(known))}"
            )


def _check_classes(
    renamed: list[npt.NDArray[np.object_]], sites: list[npt.NDArray[np.str_]]
) -> None:
    """Check that each class is in two sources."""
    found = [set(labels.tolist()) - {None} for labels in renamed]
    for label in sorted(set().union(*found)):
        where = [i for i, own in enumerate(found) if label in own]
        if len(where) < 2:
            others = sorted(set().union(*(own for i, own in enumerate(found) if i != where[0])))
            raise DatasetError(
                f"the class {label!r} is only in {str(sites[where[0]][0])!r}: a model would "
                "recognise the source instead. Rename it to a class of the others "
                f"({', '.join(others)}), or leave it out by classes={{{label!r}: None}}"
            )
    if not set().union(*found):
        raise DatasetError("classes leaves out all images")


def _take(
    source: Bunch,
    target: npt.NDArray[np.str_],
    site: npt.NDArray[np.str_],
    keep: npt.NDArray[np.bool_],
) -> Bunch:
    """Take the kept images of a source, with groups that no other site has."""
    images = as_images(source.images)
    groups = source.get("groups")
    if groups is None:
        groups = [f"image {i}" for i in range(len(images))]
    own = check_groups(groups, len(images))[keep]
    paths = source.get("paths")
    return Bunch(
        handles=np.asarray(images)[keep, 0],
        paths=None if paths is None else np.asarray(paths, dtype=object)[keep],
        target=target,
        groups=np.array([f"{place}/{name}" for place, name in zip(site, own, strict=True)]),
        site=site,
    )
