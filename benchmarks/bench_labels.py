"""Which wrong labels are found, if 5 % of the labels of real or generated cells are wrong?

Wrong labels of single images, and of whole subjects. cleanlab alone on probabilities from folds by
image, cleanlab alone on probabilities from folds by subject, and label_issues on the latter.
"""

import warnings
from pathlib import Path

import numpy as np
from _common import add_data_options, load_data, make_parser, report
from cleanlab.filter import find_label_issues
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from effboost import presets
from effboost.inspection import label_issues
from effboost.model_selection import subject_folds


def predict(X, y, folds):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    return cross_val_predict(model, X, y, cv=folds, method="predict_proba")


def plant(codes, groups, by_subject, rng):
    """Change 5 % of the labels of images, or of subjects; return new labels and changed images."""
    names = np.unique(groups)
    if by_subject:
        chosen = rng.choice(names, max(1, round(len(names) / 20)), replace=False)
        where = np.isin(groups, chosen)
        new = {name: rng.integers(1, codes.max() + 1) for name in chosen}
        shift = np.array([new.get(name, 0) for name in groups])
    else:
        where = np.zeros(len(codes), dtype=bool)
        where[rng.choice(len(codes), max(1, round(len(codes) / 20)), replace=False)] = True
        shift = np.where(where, rng.integers(1, codes.max() + 1, len(codes)), 0)
    return (codes + shift) % (codes.max() + 1), where


def find(X, codes, groups, seed):
    """Find wrong labels in three ways, as masks of images."""
    by_image = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, codes))
    by_subject = subject_folds(codes, groups, 5, random_state=seed)
    leaking, honest = (predict(X, codes, folds) for folds in (by_image, by_subject))
    found = label_issues(codes, honest, groups)
    images = np.zeros(len(codes), dtype=bool)
    images[found.images] = True
    return {
        "cleanlab, folds by image": find_label_issues(codes, leaking, n_jobs=1),
        "cleanlab, folds by subject": find_label_issues(codes, honest, n_jobs=1),
        "label_issues, images": images,
        "label_issues, subjects": np.isin(groups, found.subjects),
    }


def measure(X, codes, groups, by_subject, n_draws):
    counts = {}
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        wrong, planted = plant(codes, groups, by_subject, rng)
        for name, mask in find(X, wrong, groups, seed).items():
            counts.setdefault(name, []).append(
                (int((mask & planted).sum()), int(mask.sum()), int(planted.sum()))
            )
    for name, own in counts.items():
        right, found, planted = np.sum(own, axis=0)
        yield {
            "wrong labels of": "subjects" if by_subject else "images",
            "method": name,
            "found": found / n_draws,
            "precision": right / found if found else float("nan"),
            "recall": right / planted,
        }


def main():
    question = __doc__.partition("\n")[0]
    parser = make_parser(question)
    add_data_options(parser)
    parser.add_argument("--per-subject", type=int, default=12, help="most images of a subject")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--features", type=Path, help=".npz file to keep the features in")
    options = parser.parse_args()
    if options.small:
        options.backbone, options.weights, options.draws = "resnet18", "none", 1
    paths, y, groups = load_data(options, 40, 12, 96 if options.small else 224)
    y, groups = np.asarray(y), np.asarray(groups)
    rng = np.random.default_rng(0)
    # Subjects with hundreds of cells would be all that is measured.
    kept = np.concatenate(
        [
            rng.permutation(np.flatnonzero(groups == name))[: options.per_subject]
            for name in np.unique(groups)
        ]
    )
    X, y, groups = paths[kept], y[kept], groups[kept]
    if options.features and options.features.is_file():
        features = np.load(options.features)["features"]
    else:
        clf = presets.frozen(
            options.backbone,
            weights=None if options.weights == "none" else options.weights,
            image_size=32 if options.small else 224,
        )
        features = clf.featurizer.fit(X, y).transform(X)
        if options.features:
            np.savez(options.features, features=features)
    codes = np.unique(y, return_inverse=True)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [
            row
            for by_subject in (False, True)
            for row in measure(features, codes, groups, by_subject, options.draws)
        ]
    print(f"{len(y)} images of {len(np.unique(groups))} subjects")
    report("labels", question, rows)


if __name__ == "__main__":
    main()
