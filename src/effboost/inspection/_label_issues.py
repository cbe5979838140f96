"""Images and subjects whose label is probably wrong."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.columns import check_groups
from effboost._utils.compat import load_extra
from effboost._utils.escape import escape_invisible
from effboost._utils.probabilities import find_fault
from effboost._validation import check_labels
from effboost.exceptions import UnsupportedInputError
from effboost.model_selection import aggregate_by_subject

__all__ = ["LabelIssues", "label_issues"]

# How many images the frequencies of the classes over all images count for in a subject. The last
# one means that labels do not depend on the subject.
_STRENGTHS: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, np.inf)
# Of the log-likelihood of all labels, for the labels to depend on subjects.
_LEAST_GAIN: Final = 5.0
_LEAST: Final = 1e-12
# Of subjects with images of one class, for the labels to be those of subjects.
_FEWEST_SUBJECTS: Final = 4
_SHOWN: Final = 10


@dataclasses.dataclass(frozen=True)
class LabelIssues:
    """Result of `label_issues`.

    Attributes
    ----------
    images : ndarray of shape (n_issues,), int
        Positions of the images with a probably wrong label, the most suspicious first. Images with
        the label of a subject below are left out.
    subjects : ndarray of shape (n_subject_issues,)
        Subjects whose images probably all have a wrong label, the most suspicious first.
    quality : ndarray of shape (n_samples,), float64
        Probability of the given label of each image, from its pixels and from the labels of the
        other images of its subject; low values are suspicious.
    suggested : ndarray of shape (n_samples,)
        The most probable class of each image.
    subject_quality : dict of subject to float
        The mean probability of the given label, from pixels alone; empty if subjects are not known
        or have images of several classes.
    labels_of_subjects : bool
        Whether labels belong to subjects: most images of a subject have the same label.
    y : ndarray of shape (n_samples,)
        The given labels.
    groups : ndarray of shape (n_samples,) or None
        The subject of each image.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import label_issues
    >>> y = np.repeat(["ALL", "HEM"], 20)
    >>> ALL = np.where(y == "ALL", 0.9, 0.1)
    >>> y[3] = "HEM"  # a wrong label
    >>> print(label_issues(y, np.column_stack([ALL, 1 - ALL])))
    1 of 40 images probably have a wrong label
      position 3: HEM, probably ALL (label quality 0.100)
    """

    images: npt.NDArray[np.intp]
    subjects: npt.NDArray[Any]
    quality: npt.NDArray[np.float64]
    suggested: npt.NDArray[Any]
    subject_quality: dict[Any, float]
    labels_of_subjects: bool
    y: npt.NDArray[Any]
    groups: npt.NDArray[Any] | None

    def __str__(self) -> str:
        return "\n".join(_format(self))


def label_issues(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    classes: npt.ArrayLike | None = None,
) -> LabelIssues:
    """Find images and subjects whose label is probably wrong.

    Confident learning [1]_, as implemented in cleanlab, compares labels with probabilities that a
    model predicted for images that it had not seen. In addition, the subjects are used in two ways:

    - If most images of a subject have the same label, as in data that were labelled by diagnosis,
      an image with another label is suspicious, whatever it looks like. The probabilities of an
      image are multiplied by the frequencies of the classes among the other images of its subject.
      How much these count is estimated from the labels; where labels do not depend on subjects,
      they count for nothing.
    - If a whole subject has a wrong label, its images agree with each other. Then the mean
      probabilities of the subjects are compared with their labels.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The labels.
    probabilities : array-like of shape (n_samples, n_classes)
        Out-of-fold probabilities, from folds by subject: ``evaluate(...).probabilities``. From
        folds by image, a model knows the wrong label of a subject by its other images.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image. None makes each image its own.
    classes : array-like of shape (n_classes,), default=None
        The class of each column of `probabilities`; None means the sorted labels.

    Returns
    -------
    LabelIssues
        The suspicious images and subjects. It prints as a table.

    Raises
    ------
    MissingDependencyError
        If cleanlab is not installed (extra ``labels``).
    UnsupportedInputError
        If lengths differ, a label is not a class, or `probabilities` are not probabilities.

    References
    ----------
    .. [1] C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident learning: estimating uncertainty
       in dataset labels", Journal of Artificial Intelligence Research 70, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import label_issues
    >>> y = np.repeat(["ALL", "HEM"], 20)
    >>> ALL = np.where(y == "ALL", 0.9, 0.1)
    >>> y[3] = "HEM"  # a wrong label
    >>> found = label_issues(y, np.column_stack([ALL, 1 - ALL]))
    >>> found.images.tolist(), found.suggested[3].item()
    ([3], 'ALL')
    """
    labels = check_labels(y)
    names = np.unique(labels) if classes is None else np.asarray(classes)
    proba = np.asarray(probabilities, dtype=np.float64)
    fault = find_fault(proba, len(labels), len(names))
    if fault is not None:
        raise UnsupportedInputError(
            f"{fault}; give out-of-fold probabilities, and the classes of their columns"
        )
    codes = _encode(labels, names)
    subjects = None if groups is None else check_groups(groups, len(labels))
    own = np.arange(len(labels)) if subjects is None else subjects
    combined, strength = _add_subjects(proba, codes, own)
    images = _find(codes, combined)
    wrong, qualities = _find_subjects(codes, proba, own, strength)
    images = images[~(np.isin(own, wrong) & _agree(codes, own))[images]]
    return LabelIssues(
        images=images,
        subjects=wrong,
        quality=combined[np.arange(len(codes)), codes],
        suggested=names[combined.argmax(axis=1)],
        subject_quality=qualities if subjects is not None else {},
        labels_of_subjects=bool(np.isfinite(strength)),
        y=labels,
        groups=subjects,
    )


def _encode(labels: npt.NDArray[Any], names: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    position = {label: i for i, label in enumerate(names.tolist())}
    unknown = [label for label in labels.tolist() if label not in position]
    if unknown:
        raise UnsupportedInputError(
            f"the label {unknown[0]!r} is not a class; the classes are {list(position)}"
        )
    return np.array([position[label] for label in labels.tolist()], dtype=np.intp)


def _add_subjects(
    proba: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], groups: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], float]:
    """Multiply probabilities by the frequencies of classes among other images of the subject.

    The frequencies are those of a Dirichlet distribution around the frequencies over all images,
    whose strength makes the labels most likely, each given the others of its subject.
    """
    n_classes = proba.shape[1]
    _, subject_of = np.unique(groups, return_inverse=True)
    counts = np.zeros((subject_of.max() + 1, n_classes))
    np.add.at(counts, (subject_of, codes), 1)
    others = counts[subject_of]
    others[np.arange(len(codes)), codes] -= 1
    share = (counts.sum(axis=0) + 1) / (len(codes) + n_classes)

    def expect(strength: float) -> npt.NDArray[np.float64]:
        if not np.isfinite(strength):
            return np.broadcast_to(share, others.shape)
        total = others.sum(axis=1, keepdims=True) + strength
        expected: npt.NDArray[np.float64] = (others + strength * share) / total
        return expected

    def likelihood(strength: float) -> float:
        return float(np.log(expect(strength)[np.arange(len(codes)), codes]).sum())

    best = max(_STRENGTHS, key=likelihood)
    if likelihood(best) - likelihood(np.inf) < _LEAST_GAIN:
        best = np.inf
    weighted = np.maximum(proba, _LEAST) * expect(best) / share
    return weighted / weighted.sum(axis=1, keepdims=True), best


def _find(codes: npt.NDArray[np.intp], proba: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Find suspicious labels by confident learning, the most suspicious first."""
    present = np.unique(codes)
    if len(present) < 2:
        return np.empty(0, dtype=np.intp)
    # cleanlab needs labels of each class.
    part = proba[:, present]
    total = part.sum(axis=1, keepdims=True)
    part = np.divide(part, total, out=np.full_like(part, 1 / len(present)), where=total > 0)
    find = load_extra("cleanlab.filter", "labels").find_label_issues
    ranked = find(
        np.searchsorted(present, codes),
        part,
        return_indices_ranked_by="self_confidence",
        filter_by="prune_by_noise_rate",
        n_jobs=1,
    )
    return np.asarray(ranked, dtype=np.intp)


def _count(codes: npt.NDArray[np.intp], groups: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Count the images of each class of the sorted subjects."""
    names, subject_of = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), codes.max() + 1))
    np.add.at(counts, (subject_of, codes), 1)
    return counts


def _agree(codes: npt.NDArray[np.intp], groups: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return whether each image has the label of most images of its subject."""
    subject_of = np.unique(groups, return_inverse=True)[1]
    agree: npt.NDArray[np.bool_] = _count(codes, groups).argmax(axis=1)[subject_of] == codes
    return agree


def _find_subjects(
    codes: npt.NDArray[np.intp],
    proba: npt.NDArray[np.float64],
    groups: npt.NDArray[Any],
    strength: float,
) -> tuple[npt.NDArray[Any], dict[Any, float]]:
    """Find subjects whose label is suspicious, if labels belong to subjects."""
    names, means = aggregate_by_subject(proba, groups)
    if not np.isfinite(strength) or len(names) < _FEWEST_SUBJECTS:
        return names[:0], {}
    majority = _count(codes, groups).argmax(axis=1)
    quality = means[np.arange(len(names)), majority]
    return names[_find(majority, means)], dict(zip(names.tolist(), quality.tolist(), strict=True))


def _format(found: LabelIssues) -> list[str]:
    n, n_subjects = len(found.images), len(found.subjects)
    lines = [f"{n} of {len(found.y)} images probably have a wrong label"]
    for i in found.images[:_SHOWN].tolist():
        where = "" if found.groups is None else f" of {escape_invisible(found.groups[i])}"
        lines.append(
            f"  position {i}{where}: {escape_invisible(found.y[i])}, probably "
            f"{escape_invisible(found.suggested[i])} (label quality {found.quality[i]:.3f})"
        )
    if n > _SHOWN:
        lines.append(f"  ... and {n - _SHOWN} more")
    if found.labels_of_subjects:
        lines.append(f"{n_subjects} subjects probably have a wrong label")
        for name in found.subjects[:_SHOWN].tolist():
            quality = found.subject_quality[name]
            lines.append(f"  {escape_invisible(name)} (label quality {quality:.3f})")
        if n_subjects > _SHOWN:
            lines.append(f"  ... and {n_subjects - _SHOWN} more")
    return lines
