"""What helps at a laboratory that a model has not seen?

White cells of BCCD and PBC, kinds that both have, on features of a frozen network: the paper's
head as in presets.frozen, and presets.recommended. Within a site: folds by group. Across sites:
fitted on one site, tested on the other. What adapts at prediction sees the images of the tested
site, without their labels. With stain jitter, jittered copies of the training images are rows of
the training set; the tested images are as they are. Intervals come from a bootstrap over groups.
"""

import itertools
from pathlib import Path

import numpy as np
from _common import make_parser, report
from _sites import PREPARATIONS, PRESETS, compute_features, load_white_cells

from effboost import LinearBoostedClassifier, SiteAdaptedClassifier
from effboost._heads.booster import paper_booster
from effboost.evaluation._scores import draw_subjects, with_interval
from effboost.model_selection import subject_folds

# The heads of the presets.
HEADS = {
    "paper's head": paper_booster,
    "recommended": lambda: LinearBoostedClassifier(random_state=0),
}
# What is done at prediction, without labels: parameters of SiteAdaptedClassifier.
ADAPTATIONS = {
    "as it is": {"adapt": None, "prior": None},
    "adapt=standardize": {"adapt": "standardize", "prior": None},
    "ComBat": {"adapt": None, "prior": None},
    "prior=saerens": {"adapt": None, "prior": "saerens"},
    "adapt=standardize, prior=saerens": {"adapt": "standardize", "prior": "saerens"},
}


def combat(X, mean, scale):
    """Bring means and deviations to those of training, shrunk by empirical Bayes over features.

    As in Johnson et al. 2007, with the training site as the reference, and moments as estimates;
    without features that are nearly constant in training, which would dominate these.
    """
    varied = scale > 1e-3 * np.median(scale)
    z = (X[:, varied] - mean[varied]) / scale[varied]
    n = len(z)
    gamma, delta = z.mean(axis=0), z.var(axis=0)
    spread = gamma.var()
    gamma = (n * spread * gamma + delta * gamma.mean()) / (n * spread + delta)
    centre, spread = delta.mean(), delta.var()
    shape, rate = centre**2 / spread + 2, centre**3 / spread + centre
    delta = (rate + ((z - gamma) ** 2).sum(axis=0) / 2) / (n / 2 + shape - 1)
    aligned = np.tile(mean, (n, 1))
    aligned[:, varied] = (z - gamma) / np.sqrt(delta) * scale[varied] + mean[varied]
    return aligned.astype(X.dtype)


# --- measuring ---------------------------------------------------------------------------------


def fit(head, versions, y, groups):
    """Fit a head on images and on their jittered copies, if there are any."""
    n_versions = len(versions)
    return SiteAdaptedClassifier(HEADS[head]()).fit(
        np.concatenate(versions), np.tile(y, n_versions), groups=np.tile(groups, n_versions)
    )


def predict_within(head, versions, y, groups, n_folds):
    """Predict a site by folds by group of itself."""
    probabilities = np.zeros((len(y), len(np.unique(y))))
    for train, test in subject_folds(y, groups, n_folds, random_state=0):
        model = fit(head, versions[:, train], y[train], groups[train])
        probabilities[test] = predict_across(model, versions[0, test], "as it is")
    return probabilities


def predict_across(model, X, adaptation):
    """Predict a site by a model of another one, which is not fitted again."""
    model.set_params(**ADAPTATIONS[adaptation])
    if adaptation == "ComBat":
        X = combat(X, model.mean_, model.scale_)
    return model.predict_proba(X)


def mean_recall(hits, y):
    """Return the mean over classes of the share of their images that are recognised."""
    return round(float(np.mean([hits[y == label].mean() for label in np.unique(y)])), 3)


def compare(within, across, y, groups):
    """Return accuracies with intervals, and mean recalls."""
    classes = np.unique(y)
    hits = [classes[p.argmax(axis=1)] == y for p in (within, across)]
    _, group_of = np.unique(groups, return_inverse=True)
    draws = draw_subjects(group_of.max() + 1, 1000, np.random.RandomState(0))
    n = draws @ np.bincount(group_of)
    shares = [draws @ np.bincount(group_of, weights=hit) / n for hit in hits]
    return {
        "within": str(with_interval(shares[0], 0.95)),
        "across": str(with_interval(shares[1], 0.95)),
        "gap": str(with_interval(shares[0] - shares[1], 0.95)),
        "mean recall within": mean_recall(hits[0], y),
        "mean recall across": mean_recall(hits[1], y),
    }


def main():
    question = __doc__.partition("\n")[0]
    parser = make_parser(question)
    parser.add_argument("--data", type=Path, help="folder with bccd_cells and pbc_cells")
    parser.add_argument("--cache", type=Path, default=Path(".sites_cache"))
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--preparations", nargs="+", default=list(PREPARATIONS))
    parser.add_argument("--heads", nargs="+", default=list(PRESETS))
    parser.add_argument("--draw", type=int, default=0, help="number of the draw of stain jitter")
    parser.add_argument("--folds", type=int, default=5, help="folds within a site")
    options = parser.parse_args()
    if options.data is None:
        parser.exit(message="--data is required: there is no other laboratory in generated cells\n")
    paths, y, groups, site = load_white_cells(options.data)
    settings = {name: getattr(options, name) for name in ("draw", "backbone", "weights")}
    rows = []
    for preparation, head in itertools.product(options.preparations, options.heads):
        features = compute_features(paths, y, head, preparation, options.cache, **settings)
        for name in np.unique(site):
            own, other = site == name, site != name
            within = predict_within(head, features[:, own], y[own], groups[own], options.folds)
            model = fit(head, features[:, other], y[other], groups[other])
            for adaptation in ADAPTATIONS:
                across = predict_across(model, features[0, own], adaptation)
                row = {
                    "head": head,
                    "images": preparation,
                    "at prediction": adaptation,
                    "tested on": name,
                }
                rows.append(row | compare(within, across, y[own], groups[own]))
                print(*rows[-1].values(), sep=" | ", flush=True)
    report("sites", question, rows)


if __name__ == "__main__":
    main()
