"""What does a grid search over the head cost, with and without a cache of features?"""

import tempfile
import time
from contextlib import contextmanager

import numpy as np
import torchvision  # noqa: F401  (effboost imports it with the first network: not part of a search)
from _common import add_data_options, load_data, make_parser, report
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelEncoder
from xgboost import XGBClassifier

from effboost import presets
from effboost.runtime import OnnxRuntime

GRID = {"max_depth": [2, 3, 4, 6], "n_estimators": [30, 60, 100]}


def timed(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


@contextmanager
def counted_images():
    """Count the images that the network computes features of, also to check its export."""
    sizes, run_all = [], OnnxRuntime.run_all

    def run_and_count(self, pixels):
        sizes.append(len(pixels))
        return run_all(self, pixels)

    OnnxRuntime.run_all = run_and_count
    try:
        yield sizes
    finally:
        OnnxRuntime.run_all = run_all


def named(step, grid):
    return {f"{step}__{name}": values for name, values in grid.items()}


def main():
    parser = make_parser(__doc__)
    add_data_options(parser)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", default="none", help='"imagenet", "none" or a file')
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--skip-plain", action="store_true", help="leave out the slow contender")
    options = parser.parse_args()
    grid, folds = GRID, 5
    if options.small:
        options.image_size, folds = 32, 2
        grid = {"max_depth": [2, 3], "n_estimators": [3]}
    X, y, groups = load_data(options, 6 if options.small else 24, 10, options.image_size)
    codes = LabelEncoder().fit_transform(y)
    cv = list(StratifiedGroupKFold(folds).split(np.zeros(len(y)), y, groups))
    weights = None if options.weights == "none" else options.weights
    with tempfile.TemporaryDirectory() as folder:
        clf = presets.frozen(
            options.backbone,
            weights=weights,
            image_size=options.image_size,
            random_state=0,
            cache=folder,
        )
        search = GridSearchCV(clf, named("classifier", grid), cv=cv, refit=False)
        with counted_images() as sizes:
            search_s, _ = timed(lambda: search.fit(X, y))
    featurizer = clf.featurizer.set_params(cache=None, random_state=0)
    extract_s, features = timed(lambda: featurizer.fit_transform(X))
    booster = XGBClassifier(learning_rate=0.35, tree_method="hist")
    bare = GridSearchCV(booster, grid, cv=cv, refit=False)
    heads_s, _ = timed(lambda: bare.fit(features, codes))
    rows = [
        {"contender": "one extraction", "s": extract_s, "images extracted": len(y)},
        {"contender": "the heads on ready features", "s": heads_s, "images extracted": 0},
        {"contender": "search with cache", "s": search_s, "images extracted": sum(sizes)},
    ]
    if not options.skip_plain:
        plain = Pipeline([("features", featurizer), ("head", clone(booster))])
        search = GridSearchCV(plain, named("head", grid), cv=cv, refit=False)
        plain_s, _ = timed(lambda: search.fit(X, codes))
        n_fits = len(cv) * np.prod([len(values) for values in grid.values()])
        rows.append(
            {"contender": "search without", "s": plain_s, "images extracted": n_fits * len(y)}
        )
    for row in rows:
        row["to extraction + heads"] = row["s"] / (extract_s + heads_s)
        row["images extracted"] = int(row["images extracted"])
    report("search", __doc__, rows)


if __name__ == "__main__":
    main()
