"""How well do systems classify real cells of C-NMC 2019, by subject, beside humble baselines?

Each system is tested on the same five folds by group, or trained on the official fold_0 and tested
on fold_2. Intervals of differences are over the groups of independent subjects.
"""

import time
import warnings

import numpy as np
import pandas as pd
from _common import make_parser, report
from joblib import Memory
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from effboost import ImageSequence, presets
from effboost.datasets import load_image_folder, make_blood_cells
from effboost.metrics import expected_calibration_error
from effboost.model_selection import SubjectKFold, aggregate_by_subject

N_DRAWS = 1000


def colour_and_shape(pixels):
    """Return mean and standard deviation of the colours of a cell, and its size and shape."""
    cell = pixels.max(axis=2) > 8
    rows, columns = (np.flatnonzero(cell.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros(10)
    inside = pixels[cell].astype(float)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    area = cell.sum()
    shape = np.sqrt(area), max(height, width), min(height, width) / max(height, width)
    return np.concatenate([inside.mean(axis=0), inside.std(axis=0), shape, [area / height / width]])


def load_cells(options):
    """Load images, whether each is of class ALL, groups, subjects and official folds.

    Without a folder, cells are generated, in which each subject is of one class.
    """
    if not options.data:
        cells = make_blood_cells(16, 4, image_size=64, random_state=0)
        official = np.where(np.arange(64) // 8 % 2, "fold_2", "fold_0")
        images = ImageSequence(cells.images, groups=cells.groups)
        return images, (cells.target == "ALL").astype(int), cells.groups, cells.groups, official
    data = load_image_folder(options.data, target="label", group="group")
    # One cell in ten.
    keep = np.arange(len(data.target)) % 10 == 0 if options.small else slice(None)
    subjects, official = (data.table[name][keep] for name in ("subject", "fold"))
    y = (data.target[keep] == "all").astype(int)
    return ImageSequence(data.paths[keep]), y, data.groups[keep], subjects, official


def linear(C=1.0):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))


def systems(options):
    """Build each system as (input, classifier); the input is "images", "colour" or "shape"."""
    own = {"weights": options.weights, "random_state": 0, "cache": options.cache}
    frozen = {"fine_tune": False} | own

    def recommended(**params):
        return "images", presets.recommended(options.backbone, **own).set_params(**params)

    random = presets.paper(options.backbone, **(frozen | {"weights": None}))
    built = {
        "majority": ("colour", DummyClassifier(strategy="prior")),
        "colour statistics, logistic": ("colour", linear()),
        "size and shape, logistic": ("shape", linear()),
        "random network, paper's head": ("images", random),
        "paper's head, frozen": ("images", presets.paper(options.backbone, **frozen)),
        "recommended": recommended(),
    }
    if options.variants:

        def one_view(**params):
            return recommended(featurizer__views="original", **params)

        transform, head = "featurizer__transform__", "classifier__"
        built |= {
            "one view": one_view(),
            "one view, 224 pixels": one_view(**{transform + "image_size": 224}),
            "one view, whole images": one_view(**{transform + "foreground": False}),
            "one view, Reinhard": one_view(**{transform + "stain": "reinhard"}),
            "one view, Macenko": one_view(**{transform + "stain": "macenko"}),
            "one view, with the last stage": one_view(featurizer__features="pooled"),
            "one view, last stage alone": one_view(
                featurizer__features="pooled", featurizer__extra_features=None
            ),
            "one view, linear alone": one_view(**{head + "linear_weight": 1.0}),
            "one view, trees alone": one_view(**{head + "linear_weight": 0.0}),
            "one view, paper's head": one_view(
                classifier=XGBClassifier(learning_rate=0.35, tree_method="hist")
            ),
            "one view, class_weight": one_view(class_weight="balanced"),
            "one view, C=0.001": one_view(**{head + "linear__C": 0.001}),
            "one view, C=0.1": one_view(**{head + "linear__C": 0.1}),
            "one view, temperature": one_view(calibration="temperature"),
        }
    if options.tuned:
        built["paper"] = "images", presets.paper(options.backbone, **own)
        built |= {f"recommended, {name}": ("images", clf) for name, clf in tuned(options, own)}
    return built


def tuned(options, own):
    """Yield the names and the classifiers that fine-tune as `presets.recommended` does."""

    def classifier(**keywords):
        return presets.recommended(options.backbone, fine_tune=True, **own, **keywords)

    yield "tuned", classifier()
    if options.variants:
        training = classifier().featurizer.training
        still = clone(training.augmentation).set_params(stain_jitter=0.0)
        yield "tuned, last stage", classifier(trainable=1)
        yield "tuned, all stages", classifier(trainable="all")
        yield "tuned, 3 epochs", classifier(max_epochs=3)
        yield "tuned, 20 epochs", classifier(max_epochs=20)
        yield "tuned, a third of the rate", classifier(lr=tuple(lr / 3 for lr in training.lr))
        yield "tuned, three times the rate", classifier(lr=tuple(lr * 3 for lr in training.lr))
        yield "tuned, no stain jitter", classifier(augmentation=still)
        yield "tuned, temperature", classifier().set_params(calibration="temperature")


def scores(y, p, subjects):
    is_all = p > 0.5
    _, means = aggregate_by_subject(np.column_stack([y, p]), subjects)
    patient, of_patient = means[:, 0] > 0.5, means[:, 1]
    return {
        "accuracy": accuracy_score(y, is_all),
        "weighted F1": f1_score(y, is_all, average="weighted"),
        "AUROC": roc_auc_score(y, p),
        "calibration error": expected_calibration_error(y, np.column_stack([1 - p, p])),
        "subject AUROC": roc_auc_score(patient, of_patient),
        "subject accuracy": accuracy_score(patient, of_patient > 0.5),
    }


def difference(y, p, reference, groups, score):
    """Format the difference of a score from the reference, with its interval over groups."""
    _, inverse = np.unique(groups, return_inverse=True)
    n = inverse.max() + 1
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=N_DRAWS)
    found = []
    for draw in draws:
        weight = draw[inverse]
        if len(np.unique(y[weight > 0])) == 2:
            found.append(score(y, p, weight) - score(y, reference, weight))
    low, high = np.quantile(found, [0.025, 0.975])
    mean = score(y, p, None) - score(y, reference, None)
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def auroc(y, p, weight):
    return roc_auc_score(y, p, sample_weight=weight)


def weighted_f1(y, p, weight):
    return f1_score(y, p > 0.5, average="weighted", sample_weight=weight)


def test(clf, X, y, groups, train, rows):
    """Return the probability of class ALL for the test rows of a fold."""
    known = {"groups": groups[train]} if isinstance(X, ImageSequence) else {}
    return clone(clf).fit(X[train], y[train], **known).predict_proba(X[rows])[:, 1]


def main():
    parser = make_parser(__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder with labels.csv; default: generated cells")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--cache", help="folder of features and predictions, to continue a run")
    parser.add_argument("--variants", action="store_true", help="one setting at a time")
    parser.add_argument("--tuned", action="store_true", help="also fine-tune, which takes hours")
    parser.add_argument("--only", nargs="+", help="names of the systems to test")
    parser.add_argument(
        "--across", action="store_true", help="only train on fold_0 and test on fold_2"
    )
    parser.add_argument(
        "--split",
        choices=["group", "subject", "image"],
        default="group",
        help="what stays whole; independent subjects (group) do not share images",
    )
    parser.add_argument("--limit", type=int, default=0, help="cells of each subject (0: all)")
    parser.add_argument("--name", default="cnmc", help="name of the file with results")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    images, *columns = load_cells(options)
    if options.limit:
        keep = pd.Series(columns[2]).groupby(columns[2]).cumcount().to_numpy() < options.limit
        images, columns = images[np.flatnonzero(keep)], [column[keep] for column in columns]
    y, all_groups, subjects, official = columns
    rows = np.array([colour_and_shape(np.asarray(image)) for image in images])
    inputs = {"images": images, "colour": rows[:, :6], "shape": rows[:, 6:]}
    unit = {"group": all_groups, "subject": subjects, "image": np.arange(len(y))}[options.split]
    folds = list(SubjectKFold(5, random_state=0).split(y, y, unit))
    across = [(np.flatnonzero(official == "fold_0"), np.flatnonzero(official == "fold_2"))]
    folds = across if options.across else folds
    tested = np.sort(np.concatenate([rows for _, rows in folds]))
    y_tested, subjects, groups = y[tested], subjects[tested], all_groups[tested]
    kept = Memory(options.cache, verbose=0).cache(test)
    found, lines = {}, {}
    for name, (kind, clf) in systems(options).items():
        if options.only and name.strip() not in options.only and name != "recommended":
            continue
        start = time.perf_counter()
        p = np.zeros(len(y))
        for train, rows in folds:
            p[rows] = kept(clf, inputs[kind], y, unit, train, rows)
        p = p[tested]
        found[name] = p
        line = {"system": name} | {k: f"{v:.3f}" for k, v in scores(y_tested, p, subjects).items()}
        lines[name] = line | {"s": f"{time.perf_counter() - start:.0f}"}
        print("  ".join(lines[name].values()), flush=True)
    for name, line in lines.items():
        for title, score in (("AUROC", auroc), ("weighted F1", weighted_f1)):
            line[f"{title} minus recommended"] = difference(
                y_tested, found[name], found["recommended"], groups, score
            )
    report(options.name, __doc__.partition("\n")[0], list(lines.values()))


if __name__ == "__main__":
    main()
