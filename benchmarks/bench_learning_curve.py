"""Does the interval of a learning curve contain what twice the subjects give?

Generated cells, described by colours and areas. In each draw, a curve is measured on n subjects and
extrapolated to twice its training subjects; then models are fitted on so many new and old subjects,
and tested on all others. The draws share a population, and overlap.
"""

import numpy as np
from _common import make_parser, report
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from effboost import ImageSequence
from effboost.datasets import make_blood_cells
from effboost.evaluation import learning_curve


class Described(ClassifierMixin, BaseEstimator):
    """Logistic regression on features that were computed before, found by the "path" of an image.

    So that a thousand fits take seconds.
    """

    features = None

    def fit(self, X, y):
        self.model_ = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
        self.model_.fit(self._look_up(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(self._look_up(X))

    def _look_up(self, X):
        return self.features[[int(X.path(i)) for i in range(len(X))]]


def describe(pictures):
    """Compute the area of each cell, and statistics of its colours."""
    rows = []
    for picture in pictures:
        inside = picture[(picture > 0).all(axis=2)].astype(float)
        rows.append(
            [
                len(inside),
                *inside.mean(axis=0),
                *inside.std(axis=0),
                *np.percentile(inside, [10, 50], axis=0).ravel(),
            ]
        )
    return np.array(rows)


def measure(cells, n_subjects, rng, n_models=5):
    """Extrapolate from n subjects, and measure at twice the training subjects of the curve."""
    names = np.unique(cells.groups)
    order = rng.permutation(names)
    own = np.flatnonzero(np.isin(cells.groups, order[:n_subjects]))
    clf = Described()
    curve = learning_curve(
        clf,
        ImageSequence([str(i) for i in own]),
        cells.target[own],
        groups=cells.groups[own],
        check_leakage=False,
        random_state=int(rng.integers(2**31)),
    )
    twice = round(2 * curve.n_subjects[-1])
    accuracies = []
    for _ in range(n_models):
        train_names = rng.permutation(names)[:twice]
        train = np.flatnonzero(np.isin(cells.groups, train_names))
        test = np.flatnonzero(~np.isin(cells.groups, train_names))
        clf.fit(ImageSequence([str(i) for i in train]), cells.target[train])
        tested = ImageSequence([str(i) for i in test])
        accuracies.append((clf.predict(tested) == cells.target[test]).mean())
    return curve.accuracy[-1], curve.predict(twice), float(np.mean(accuracies))


def main():
    question = __doc__.partition("\n")[0]
    parser = make_parser(question)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--subjects", type=int, nargs="+", default=[20, 40])
    options = parser.parse_args()
    n_population, per_subject = (120, 4) if options.small else (500, 8)
    if options.small:
        options.draws, options.subjects = 2, [20]
    cells = make_blood_cells(
        n_population, per_subject, image_size=32, difficulty="hard", random_state=0
    )
    Described.features = describe(cells.images)
    rows = []
    for n_subjects in options.subjects:
        found = [
            measure(cells, n_subjects, np.random.default_rng(seed)) for seed in range(options.draws)
        ]
        now, later, true = zip(*found, strict=True)
        covered = [m.low <= value <= m.high for m, value in zip(later, true, strict=True)]
        rows.append(
            {
                "subjects": n_subjects,
                "draws": options.draws,
                "accuracy now": np.mean([metric.value for metric in now]),
                "predicted for twice": np.mean([metric.value for metric in later]),
                "measured": np.mean(true),
                "mean error": np.mean([m.value - v for m, v in zip(later, true, strict=True)]),
                "width of interval": np.mean([metric.high - metric.low for metric in later]),
                "coverage of 95 %": np.mean(covered),
            }
        )
    report("learning_curve", question, rows)


if __name__ == "__main__":
    main()
