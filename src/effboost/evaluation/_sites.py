"""Results at sites that a classifier was not fitted on, beside those within sites."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.columns import check_groups
from effboost._utils.escape import escape_invisible
from effboost.evaluation._out_of_fold import Folds, LabelledSample, OutOfFold
from effboost.evaluation._scores import (
    Metric,
    confusions,
    draw_subjects,
    scores_of_confusions,
    with_interval,
)
from effboost.exceptions import SplitError
from effboost.model_selection import subject_folds

__all__ = [
    "SiteComparison",
    "SiteResult",
    "Sites",
    "check_n_splits",
    "check_sites",
    "compare_sites",
    "format_sites",
    "sites_to_dict",
]

_METRICS: Final = ("accuracy", "weighted_f1")


@dataclasses.dataclass(frozen=True)
class SiteComparison:
    """A metric of the same images, by models fitted within their site and at others.

    Attributes
    ----------
    within : Metric
        By models that were fitted on other subjects of the same site.
    across : Metric
        By a model that was fitted on all other sites.
    gap : Metric
        `within` minus `across`, on the same bootstrap draws.

    Examples
    --------
    >>> from effboost.evaluation import Metric, SiteComparison
    >>> within, across = Metric(0.9, 0.85, 0.95), Metric(0.7, 0.6, 0.8)
    >>> SiteComparison(within, across, gap=Metric(0.2, 0.1, 0.3)).falls
    True
    """

    within: Metric
    across: Metric
    gap: Metric

    @property
    def falls(self) -> bool:
        """Whether the whole interval of the gap is above 0."""
        return self.gap.low > 0


@dataclasses.dataclass(frozen=True)
class SiteResult:
    """The results at one site.

    Attributes
    ----------
    n_images, n_subjects : int
        Images and subjects of the site.
    metrics : dict of str to SiteComparison
        "accuracy" and "weighted_f1".
    recall : dict of str to SiteComparison
        The recall of each class that the site has.

    Examples
    --------
    Results like those of ``evaluate(..., sites=...).sites``:

    >>> from effboost.evaluation import Metric, SiteComparison, SiteResult
    >>> within, across = Metric(0.9, 0.85, 0.95), Metric(0.7, 0.6, 0.8)
    >>> recall = SiteComparison(within, across, gap=Metric(0.2, 0.1, 0.3))
    >>> SiteResult(200, 20, metrics={}, recall={"ALL": recall}).falling
    ('ALL',)
    """

    n_images: int
    n_subjects: int
    metrics: Mapping[str, SiteComparison]
    recall: Mapping[str, SiteComparison]

    @property
    def falling(self) -> tuple[str, ...]:
        """The classes whose recall falls, by the interval of its gap."""
        return tuple(name for name, recall in self.recall.items() if recall.falls)


class Sites:
    """The site of each image, with the folds within and across sites.

    Attributes
    ----------
    names : list of str
        The sites, sorted.
    codes : ndarray of shape (n_samples,)
        Position of each image's site in the names.
    """

    def __init__(self, names: list[str], codes: npt.NDArray[np.intp]):
        self.names, self.codes = names, codes

    def leave_one_out(self) -> Folds:
        """Return folds that each test one site by all others."""
        codes = range(len(self.names))
        return [(np.flatnonzero(self.codes != i), np.flatnonzero(self.codes == i)) for i in codes]

    def folds_within(
        self, sample: LabelledSample, n_splits: int, rng: np.random.RandomState
    ) -> Folds:
        """Return folds by subject within each site, for all sites."""
        folds: Folds = []
        for i, name in enumerate(self.names):
            own = np.flatnonzero(self.codes == i)
            try:
                parts = subject_folds(
                    sample.labels[own], sample.subjects[own], n_splits, random_state=rng
                )
            except SplitError as error:
                raise SplitError(f"site {name!r}: {error}") from error
            folds += [(own[train], own[test]) for train, test in parts]
        return folds


def check_n_splits(cv: Any) -> None:
    """Check that `cv` is a number of folds."""
    if not isinstance(cv, int | np.integer) or isinstance(cv, bool):
        raise SplitError(
            f"cv={cv!r}, but sites need a number of folds: each site is tested by the others, and "
            "in folds by subject within itself"
        )


def check_sites(sites: Any, sample: LabelledSample) -> Sites:
    """Validate the sites of images.

    Raises
    ------
    SplitError
        If there is one site, a subject is at two sites, a site has
        one class, or a class is at one site only.
    """
    try:
        values = check_groups(sites, len(sample.labels))
    except SplitError as error:
        raise SplitError(
            str(error).replace("groups", "sites").replace("subject", "site")
        ) from error
    found, codes = np.unique(values, return_inverse=True)
    names = [str(name) for name in found.tolist()]
    if len(names) < 2:
        raise SplitError(f"all images are of the site {names[0]!r}: give two sites or more")
    subjects, subject_of = np.unique(sample.subjects, return_inverse=True)
    at = np.zeros((len(subjects), len(names)), dtype=bool)
    at[subject_of, codes] = True
    torn = np.flatnonzero(at.sum(axis=1) > 1)
    if torn.size:
        where = " and ".join(repr(names[i]) for i in np.flatnonzero(at[torn[0]]))
        raise SplitError(
            f"the subject {subjects[torn[0]].item()!r} is at the sites {where}: give different "
            "people different names, for example by datasets.combine, or move all images of a "
            "person to one site"
        )
    has = np.array([np.isin(sample.classes, sample.labels[codes == i]) for i in range(len(names))])
    for i, name in enumerate(names):
        if has[i].sum() < 2:
            raise SplitError(
                f"site {name!r} has only the class {sample.classes[has[i]].tolist()}: a model "
                "that knows the site knows the class, and nothing can be tested"
            )
    alone = np.flatnonzero(has.sum(axis=0) == 1)
    if alone.size:
        name = names[int(np.argmax(has[:, alone[0]]))]
        raise SplitError(
            f"the class {sample.classes[alone[0]].item()!r} is at site {name!r} only, so that no "
            "model of the other sites can know it: leave it out"
        )
    return Sites(names, codes)


def compare_sites(
    sites: Sites,
    sample: LabelledSample,
    within: OutOfFold,
    across: OutOfFold,
    *,
    n_bootstrap: int,
    confidence: float,
    rng: np.random.RandomState,
) -> dict[str, SiteResult]:
    """Compare predictions within and across sites at each site."""
    names = [str(label) for label in sample.classes]
    results = {}
    for i, site in enumerate(sites.names):
        own = np.flatnonzero(sites.codes == i)
        true = sample.codes[own]
        subjects, subject_of = np.unique(sample.subjects[own], return_inverse=True)
        draws = draw_subjects(len(subjects), n_bootstrap, rng)
        scores = [
            scores_of_confusions(confusions(true, p.codes[own], subject_of, len(names), draws))
            for p in (within, across)
        ]
        compared = {key: _compare(scores[0][key], scores[1][key], confidence) for key in _METRICS}
        recall = {
            names[k]: _compare(scores[0]["recall"][:, k], scores[1]["recall"][:, k], confidence)
            for k in np.unique(true).tolist()
        }
        results[site] = SiteResult(len(own), len(subjects), compared, recall)
    return results


def _compare(
    within: npt.NDArray[np.float64], across: npt.NDArray[np.float64], confidence: float
) -> SiteComparison:
    return SiteComparison(
        *(with_interval(values, confidence) for values in (within, across, within - across))
    )


def sites_to_dict(sites: Mapping[str, SiteResult]) -> dict[str, Any]:
    """Convert results by site to plain numbers and dictionaries; undefined numbers are None."""

    def plain(comparison: SiteComparison) -> dict[str, Any]:
        values = dataclasses.asdict(comparison)
        return {
            kind: {k: round(v, 6) if math.isfinite(v) else None for k, v in metric.items()}
            for kind, metric in values.items()
        }

    return {
        name: {
            "n_images": site.n_images,
            "n_subjects": site.n_subjects,
            "metrics": {key: plain(value) for key, value in site.metrics.items()},
            "recall": {key: plain(value) for key, value in site.recall.items()},
            "falling": list(site.falling),
        }
        for name, site in sites.items()
    }


def format_sites(sites: Mapping[str, SiteResult]) -> Iterator[str]:
    """Format results by site as a table, and the classes that fall."""
    plain = {name: escape_invisible(name) for name in sites}
    width = max(6, *(len(name) + 2 for name in plain.values()))
    columns = ("within the site", "by other sites", "gap")
    yield f"{'site':<{width}}{'images':>6}  " + "".join(f"{c:<22}" for c in columns).rstrip()
    for name, site in sites.items():
        accuracy = site.metrics["accuracy"]
        cells = (accuracy.within, accuracy.across, accuracy.gap)
        yield (
            f"{plain[name]:<{width}}{site.n_images:>6}  "
            + "".join(f"{cell!s:<22}" for cell in cells).rstrip()
        )
    for name, site in sites.items():
        for label in site.falling:
            recall = site.recall[label]
            yield (
                f"recall of {escape_invisible(label)} at {plain[name]} falls from "
                f"{recall.within.value:.3f} to {recall.across.value:.3f}, by {recall.gap}"
            )
