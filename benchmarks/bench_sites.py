"""What helps at a laboratory that a model has not seen?

White cells of BCCD and PBC, kinds that both have, on frozen features that are computed once for
each preparation of the images. Within a site: five folds by group. Across sites: fitted on one
site, tested on the other. What adapts at prediction sees the images of the tested site, without
their labels. Intervals come from a bootstrap over groups.
"""

import itertools
from pathlib import Path

import numpy as np
from _common import make_parser, report
from _sites import PREPARATIONS, compute_features, load_white_cells

from effboost import LinearBoostedClassifier
from effboost._heads.booster import paper_booster
from effboost.evaluation._scores import draw_subjects, with_interval
from effboost.model_selection import subject_folds

N_LAST = 1280


class CodedBooster:
    """The paper's head, for labels that are not numbers."""

    def fit(self, X, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.model_ = paper_booster().fit(X, codes)
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


class Recommended:
    """The head of presets.recommended, at the default C of its linear model."""

    def fit(self, X, y):
        self.model_ = LinearBoostedClassifier(random_state=0).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


HEADS = {"paper's head": CodedBooster, "recommended": Recommended}


# --- what is done to features, by batch statistics of a site ----------------------------------


def as_it_is(train, test):
    return train, test


def standardise(train, test):
    """Bring the features of each site to a mean of 0 and a deviation of 1."""
    return tuple((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-6) for X in (train, test))


def shift(train, test):
    """Bring the means of the tested site to those of the training site."""
    return train, test - test.mean(axis=0) + train.mean(axis=0)


def combat(train, test):
    """Bring means and deviations of the tested site to those of training, shrunk as in ComBat.

    Empirical Bayes over features (Johnson et al. 2007), with the training site as the reference.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    z = (test - mean) / deviation
    n = len(z)
    gamma, delta = z.mean(axis=0), z.var(axis=0, ddof=1)
    prior_mean, prior_variance = gamma.mean(), gamma.var() + 1e-9
    gamma = (n * prior_variance * gamma + delta * prior_mean) / (n * prior_variance + delta)
    m, v = delta.mean(), delta.var() + 1e-9
    shape, scale = m * m / v + 2, m**3 / v + m
    delta = (scale + 0.5 * ((z - gamma) ** 2).sum(axis=0)) / (n / 2 + shape - 1)
    return train, (z - gamma) / np.sqrt(delta) * deviation + mean


ADAPTATIONS = {
    "as it is": as_it_is,
    "standardised by site": standardise,
    "means aligned": shift,
    "ComBat": combat,
}


# What is tried on prepared images.
PREPARED = ("as it is", "standardised by site")


def saerens(probabilities, prior, n_rounds=100):
    """Estimate the frequencies of classes at a site, and correct probabilities for them.

    Expectation maximisation (Saerens et al. 2002).
    """
    new = prior.copy()
    for _ in range(n_rounds):
        weighted = probabilities * new / prior
        weighted /= weighted.sum(axis=1, keepdims=True)
        new = weighted.mean(axis=0)
    return weighted


# --- measuring ---------------------------------------------------------------------------------


def predict_within(head, X, y, groups):
    """Predict a site by five folds by group of itself."""
    probabilities = np.zeros((len(y), len(np.unique(y))))
    for train, test in subject_folds(y, groups, 5, random_state=0):
        probabilities[test] = HEADS[head]().fit(X[train], y[train]).predict_proba(X[test])
    return probabilities


class Across:
    """Models of one site that predict the other; a model is fitted once for the same features."""

    def __init__(self, head, X, y, own, other):
        self.head, self.X, self.y, self.own, self.other = head, X, y, own, other
        self.fitted = {}

    def predict(self, name, *, correct):
        train, test = ADAPTATIONS[name](self.X[self.other], self.X[self.own])
        key = name if name == "standardised by site" else "as it is"
        if key not in self.fitted:
            self.fitted[key] = HEADS[self.head]().fit(train, self.y[self.other])
        found = self.fitted[key].predict_proba(test)
        if not correct:
            return found
        labels = np.unique(self.y)
        return saerens(found, np.array([(self.y[self.other] == label).mean() for label in labels]))


def compare(within, across, y, groups):
    """Return accuracies with intervals, and the mean recall of the classes."""
    classes = np.unique(y)
    hits = [classes[p.argmax(axis=1)] == y for p in (within, across)]
    _, group_of = np.unique(groups, return_inverse=True)
    draws = draw_subjects(group_of.max() + 1, 1000, np.random.RandomState(0))
    n = draws @ np.bincount(group_of)
    shares = [draws @ np.bincount(group_of, weights=hit) / n for hit in hits]
    recalls = [hits[1][y == label].mean() for label in classes]
    return {
        "within": str(with_interval(shares[0], 0.95)),
        "across": str(with_interval(shares[1], 0.95)),
        "gap": str(with_interval(shares[0] - shares[1], 0.95)),
        "mean recall across": round(float(np.mean(recalls)), 3),
    }


def main():
    question = __doc__.partition("\n")[0]
    parser = make_parser(question)
    parser.add_argument("--data", type=Path, help="folder with bccd_cells and pbc_cells")
    parser.add_argument("--cache", type=Path, default=Path("sites_cache"))
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--views", default="original", choices=["original", "dihedral"])
    parser.add_argument("--preparations", nargs="+", default=list(PREPARATIONS))
    parser.add_argument("--heads", nargs="+", default=list(HEADS))
    options = parser.parse_args()
    if options.data is None:
        parser.exit(message="--data is required: there is no other laboratory in generated cells\n")
    paths, y, groups, site = load_white_cells(options.data)
    settings = {"backbone": options.backbone, "weights": options.weights}
    rows = []
    within = {}
    for preparation in options.preparations:
        features = compute_features(paths, y, preparation, options.views, options.cache, **settings)
        plain = preparation == "as it is"
        tried = [(name, False) for name in (ADAPTATIONS if plain else PREPARED)]
        if plain:
            tried += [("as it is", True), ("standardised by site", True)]
        for head, name in itertools.product(options.heads, np.unique(site)):
            own, other = np.flatnonzero(site == name), np.flatnonzero(site != name)
            X = features[:, :N_LAST] if head == "paper's head" else features
            if (head, name) not in within:
                within[head, name] = predict_within(head, X[own], y[own], groups[own])
            model = Across(head, X, y, own, other)
            for adaptation, correct in tried:
                across = model.predict(adaptation, correct=correct)
                row = {
                    "head": head,
                    "images": preparation,
                    "features": adaptation,
                    "prior": "Saerens" if correct else "-",
                    "tested on": name,
                }
                rows.append(row | compare(within[head, name], across, y[own], groups[own]))
                print(*rows[-1].values(), sep=" | ", flush=True)
    report("sites", question, rows)


if __name__ == "__main__":
    main()
