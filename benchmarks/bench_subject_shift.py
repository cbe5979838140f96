"""Which linear head is robust to new subjects, and to cells of another acquisition?

All heads are a logistic regression on the features of `presets.recommended`, one view. Those marked
"unlabelled" also use the features of the cells to be predicted, all together, without their labels.
"""

import numpy as np
from _common import make_parser, report
from _sites import jittered
from bench_cnmc import auroc, difference, load_cells, scores, weighted_f1
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from effboost import presets
from effboost.model_selection import SubjectKFold

C = 0.003
_SHRINK = 20  # cells of the mean of all that are added to those of a subject


def logistic(X, y, X_new, weight=None):
    model = LogisticRegression(C=C, max_iter=1000).fit(X, y, sample_weight=weight)
    return model.predict_proba(X_new)[:, 1]


def standardised(X, X_new):
    scaler = StandardScaler().fit(X)
    return scaler.transform(X), scaler.transform(X_new)


def plain(X, y, subjects, X_new, _):
    X, X_new = standardised(X, X_new)
    return logistic(X, y, X_new)


def each_subject_one_vote(power):
    def predict(X, y, subjects, X_new, _):
        _, inverse, counts = np.unique(subjects, return_inverse=True, return_counts=True)
        X, X_new = standardised(X, X_new)
        weight = counts[inverse] ** -power
        return logistic(X, y, X_new, weight / weight.mean())

    return predict


def group_dro(X, y, subjects, X_new, _, rate=0.3, rounds=6):
    """Raise the weight of subjects with a high loss, as group-DRO does (Sagawa et al., 2020)."""
    X, X_new = standardised(X, X_new)
    _, inverse = np.unique(subjects, return_inverse=True)
    votes = np.ones(inverse.max() + 1)
    for _ in range(rounds):
        model = LogisticRegression(C=C, max_iter=1000)
        model.fit(X, y, sample_weight=(votes / votes.mean())[inverse])
        loss = -np.log(model.predict_proba(X)[np.arange(len(y)), y] + 1e-9)
        of_subject = np.bincount(inverse, loss) / np.bincount(inverse)
        votes *= np.exp(rate * of_subject / of_subject.mean())
    return model.predict_proba(X_new)[:, 1]


def without_subject_directions(strength):
    """Shrink directions in which subjects of one class differ (WCCN, Hatch et al., 2006)."""

    def predict(X, y, subjects, X_new, _):
        X, X_new = standardised(X, X_new)
        means = []
        for label in (0, 1):
            centre = X[y == label].mean(axis=0)
            of_class = (subjects == s for s in np.unique(subjects[y == label]))
            means += [X[own & (y == label)].mean(axis=0) - centre for own in of_class]
        means = np.array(means)
        values, vectors = eigh(means @ means.T / len(means))
        kept = values > 1e-8 * values[-1]
        axes = means.T @ vectors[:, kept] / np.sqrt(len(means) * values[kept])
        removed = 1 - 1 / np.sqrt(1 + strength * values[kept])
        X, X_new = (rows - (rows @ axes * removed) @ axes.T for rows in (X, X_new))
        return logistic(X, y, X_new)

    return predict


def subject_centred(X, y, subjects, X_new, subjects_new):
    """Subtract the mean of each subject, shrunk to that of all."""

    def centre(rows, own):
        centred, mean = np.empty_like(rows), rows.mean(axis=0)
        for subject in np.unique(own):
            some = own == subject
            centred[some] = rows[some] - (rows[some].sum(axis=0) + _SHRINK * mean) / (
                some.sum() + _SHRINK
            )
        return centred

    X, X_new = standardised(centre(X, subjects), centre(X_new, subjects_new))
    return logistic(X, y, X_new)


def own_statistics(X, y, subjects, X_new, _):
    """Standardise the cells to be predicted by their own means and deviations."""
    return logistic(StandardScaler().fit_transform(X), y, StandardScaler().fit_transform(X_new))


def jittered_rows(X, y, subjects, X_new, _):
    """Learn also from copies of the cells with jittered stains."""
    return plain(np.concatenate(X), np.tile(y, len(X)), subjects, X_new[0], _)


def jittered_mean(X, y, subjects, X_new, _):
    """Average the probabilities of each new cell and of its copies with jittered stains."""
    return np.mean([plain(X[0], y, subjects, version, _) for version in X_new], axis=0)


# These take the features of the cells and of their copies, of shape (1 + n_copies, n, n_features).
JITTERED = {
    "two copies with jittered stains": jittered_rows,
    "mean over two copies with jittered stains": jittered_mean,
}
HEADS = {
    "logistic": plain,
    "each subject one vote": each_subject_one_vote(1.0),
    "weight 1 / sqrt(cells of the subject)": each_subject_one_vote(0.5),
    "group-DRO over subjects": group_dro,
    "directions of subjects shrunk, 0.3": without_subject_directions(0.3),
    "directions of subjects shrunk, 5": without_subject_directions(5.0),
    "each subject centred (unlabelled)": subject_centred,
    "own mean and deviation (unlabelled)": own_statistics,
}


def main():
    parser = make_parser(__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder with labels.csv; default: generated cells")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--cache", help="folder of features")
    options = parser.parse_args()
    images, y, groups, subjects, official = load_cells(options)
    network = presets.recommended(
        options.backbone,
        weights=options.weights,
        views="original",
        cache=options.cache,
        random_state=0,
    ).featurizer
    versions = [images, *(jittered(images, seed) for seed in (0, 1))]
    X = np.stack([network.fit_transform(version) for version in versions])
    folds = list(SubjectKFold(5, random_state=0).split(y, y, groups))
    first, second = (np.flatnonzero(official == name) for name in ("fold_0", "fold_2"))

    def predict(head, train, test):
        rows = X if head in JITTERED.values() else X[0]
        return head(
            rows[..., train, :], y[train], subjects[train], rows[..., test, :], subjects[test]
        )

    rows, reference = [], None
    for name, head in (HEADS | JITTERED).items():
        p = np.zeros(len(y))
        for train, test in folds:
            p[test] = predict(head, train, test)
        reference = p if reference is None else reference
        row = {"head": name} | {
            key: f"{value:.3f}"
            for key, value in scores(y, p, subjects).items()
            if key in ("weighted F1", "AUROC", "calibration error", "subject AUROC")
        }
        row["AUROC minus logistic"] = difference(y, p, reference, groups, auroc)
        row["weighted F1 minus logistic"] = difference(y, p, reference, groups, weighted_f1)
        for title, train, test in (("0 to 2", first, second), ("2 to 0", second, first)):
            found = scores(y[test], predict(head, train, test), subjects[test])
            row[f"{title}: weighted F1"] = f"{found['weighted F1']:.3f}"
            row[f"{title}: AUROC"] = f"{found['AUROC']:.3f}"
        rows.append(row)
        print("  ".join(row.values()), flush=True)
    report("subject_shift", __doc__.partition("\n")[0], rows)


if __name__ == "__main__":
    main()
