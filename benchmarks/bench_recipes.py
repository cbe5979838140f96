"""Which recipe is better than the paper's on new subjects, and by how much?

Each recipe changes one setting of the one in its name. All use the same folds, which are drawn
again for each repeat. Differences are paired. Their intervals are over subjects, or over data sets
if several are generated.
"""

import re
import tempfile
import time
import warnings
from itertools import chain

import numpy as np
from _common import (
    add_data_options,
    add_training_options,
    difference_of_draws,
    image_log_loss,
    load_data,
    make_parser,
    network_settings,
    paired_difference,
    report,
    training_settings,
)
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from effboost import (
    Augmentation,
    ImageSequence,
    LinearBoostedClassifier,
    evaluate,
    presets,
)
from effboost.model_selection import SubjectKFold

METRICS = ("accuracy", "log_loss", "calibration_error")
STAGES = {"featurizer__extra_features": "stages"}
VIEWS = {"featurizer__views": "dihedral"}


def paper_booster(**params):
    return XGBClassifier(learning_rate=0.35, tree_method="hist", **params)


def ridge(C=0.01):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))


def forest_of_columns(**params):
    settings = {"n_estimators": 200, "learning_rate": 0.1, "max_depth": 4, "max_bin": 64}
    return XGBClassifier(tree_method="hist", colsample_bynode=0.05, **(settings | params))


def frozen_recipes(settings):
    """Build the paper's booster on a frozen network, and its variants."""

    def start(**params):
        clf = presets.frozen(**settings, **STILL)
        return clf.set_params(**params)

    def recommended(**params):
        return presets.recommended(**settings, **STILL).set_params(**params)

    both = STAGES | VIEWS
    recipes = {
        "paper": start(),
        "paper, pixels in [0, 1]": start(featurizer__transform__normalize="unit"),
        "paper, whitened by 64 components": start(
            classifier=make_pipeline(PCA(64, whiten=True), paper_booster())
        ),
        "paper, best 256 features": start(
            classifier=make_pipeline(SelectKBest(k=256), paper_booster())
        ),
        "paper, class_weight": start(class_weight="balanced"),
        "paper, 5 % of columns a node": start(classifier=forest_of_columns()),
        "paper, extremely random trees": start(classifier=ExtraTreesClassifier(500)),
        "paper, logistic regression, C=1": start(classifier=ridge(1.0)),
        "paper, logistic regression, C=0.01": start(classifier=ridge()),
        "paper, eight views": start(**VIEWS),
        "paper, eight views, probabilities": start(view_averaging="probabilities", **VIEWS),
        "paper, stages": start(**STAGES),
        "paper, eight views, stages": start(**both),
    }
    for pooling in ("max", "std", "gem"):
        extra = ((-1, pooling),)
        recipes[f"logistic, {pooling} of the last stage"] = start(
            classifier=ridge(), featurizer__extra_features=extra
        )
    heads = {
        "5 % of columns a node": forest_of_columns(),
        "extremely random trees": ExtraTreesClassifier(500),
        "support vectors": make_pipeline(
            StandardScaler(), CalibratedClassifierCV(SVC(C=10), ensemble=False)
        ),
        "logistic regression, C=1": ridge(1.0),
        "logistic regression, C=0.1": ridge(0.1),
        "logistic regression, C=0.01": ridge(),
        "logistic regression, C=0.001": ridge(0.001),
    }
    for name, head in heads.items():
        recipes[f"eight views, stages, {name}"] = start(classifier=head, **both)
    recipes |= {
        "recommended": recommended(),
        "recommended, trees alone": recommended(classifier__linear_weight=0.0),
        "recommended, half trees": recommended(classifier__linear_weight=0.5),
        "recommended, linear alone": recommended(classifier__linear_weight=1.0),
        "recommended, one view": recommended(featurizer__views="original"),
        "recommended, no stages": recommended(featurizer__extra_features=None),
        "recommended, probabilities": recommended(view_averaging="probabilities"),
        "recommended, class_weight": recommended(class_weight="balanced"),
        "recommended, Reinhard": recommended(featurizer__transform__stain="reinhard"),
        "recommended, Macenko": recommended(featurizer__transform__stain="macenko"),
        "recommended, cropped to the cell": recommended(featurizer__transform__foreground=True),
    }
    return recipes


STILL = {"crop_size": None}
TURNED = Augmentation(horizontal_flip=0.5, vertical_flip=0.5, rotation=180.0)


def tuned_recipes(settings):
    """Build the paper's training and head, and its variants."""

    def start(**featurizer):
        return presets.paper(**(settings | featurizer))

    def recommended(**featurizer):
        own = {k: v for k, v in settings.items() if k not in ("normalize", "lr", "max_epochs")}
        return presets.recommended(**(own | {"fine_tune": True} | featurizer))

    kept = ("backbone", "weights", "image_size", "random_state")
    as_loaded = {name: settings[name] for name in kept}

    return {
        "paper": start(),
        "paper, frozen": presets.paper(
            **as_loaded, fine_tune=False, crop_size=None, normalize=settings["normalize"]
        ),
        "paper, any orientation": start(augmentation=TURNED),
        "paper, stain jitter": start(augmentation=Augmentation(stain_jitter=0.2)),
        "paper, twice the epochs": start(max_epochs=2 * settings["max_epochs"]),
        "paper, lr 3e-4": start(lr=3e-4),
        "paper, lr by depth": start(lr=(1e-5, 1e-4, 1e-3)),
        "paper, AdamW": start(optimizer="adamw", lr=3e-4),
        "paper, last 3 stages": start(trainable=3),
        "paper, cosine": start(schedule="cosine", warmup_fraction=0.1),
        "paper, label smoothing": start(label_smoothing=0.1),
        "paper, focal loss": start(focal_gamma=2.0),
        "paper, mixup": start(mixup_alpha=0.2),
        "paper, CutMix": start(cutmix_alpha=1.0),
        "paper, EMA": start(weight_average="ema"),
        "paper, SWA": start(weight_average="swa"),
        "paper, subjects alike": start(sampling="subject"),
        "paper, gradual unfreezing": start(unfreezing_epochs=1),
        "paper, early stopping": start(early_stopping=3, validation_fraction=0.2),
        "paper, eight views": start(views="dihedral"),
        "paper, stages": start(extra_features="stages"),
        "paper, linear and trees": start().set_params(classifier=LinearBoostedClassifier()),
        "recommended": recommended(),
        "recommended, temperature": recommended().set_params(calibration="temperature"),
        "recommended, frozen": presets.recommended(**as_loaded),
        "recommended, all stages": recommended(trainable="all"),
        "recommended, no stain jitter": recommended(
            augmentation=clone(recommended().featurizer.training.augmentation).set_params(
                stain_jitter=0.0
            )
        ),
        "recommended, the paper's training": recommended(
            trainable="all",
            augmentation="paper",
            schedule=None,
            weight_decay=None,
            label_smoothing=0.0,
            regularization=None,
            optimizer="adamax",
            lr=settings["lr"],
            max_epochs=settings["max_epochs"],
        ),
    }


def measure(clf, images, y, options, cache):
    """Return a report for each repeat, and the seconds per fold in each."""
    if options.cache:
        clf.set_params(featurizer__cache=cache)
    found, seconds = [], []
    for repeat in range(options.repeats):
        start = time.perf_counter()
        folds = SubjectKFold(options.folds, random_state=repeat)
        found.append(evaluate(clf, images, y, cv=folds))
        seconds.append((time.perf_counter() - start) / options.folds)
    return found, seconds


def difference(found, first, *measure):
    if len(found) == 1:
        return paired_difference(found[0], first[0], *measure)
    return difference_of_draws(found, first, *measure)


def load_sets(options):
    """Load images with groups, and their classes, for each data set."""
    sets = []
    for random_state in options.draws:
        X, y, groups = load_data(
            options,
            options.subjects,
            options.images,
            2 * options.image_size,
            options.difficulty,
            random_state,
        )
        sets.append((ImageSequence(X, groups=groups), y))
    return sets


def main():
    parser = make_parser(__doc__.partition("\n")[0])
    add_data_options(parser)
    add_training_options(parser)
    parser.add_argument("--fine-tune", action="store_true")
    parser.add_argument("--difficulty", default="easy", help="difficulty of generated cells")
    parser.add_argument("--subjects", type=int, default=60)
    parser.add_argument("--images", type=int, default=6, help="images of each subject")
    parser.add_argument(
        "--draws", type=int, nargs="+", default=[0], help="seeds, one for each set of cells"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="regular expression of the recipes to run")
    parser.add_argument("--no-cache", dest="cache", action="store_false")
    parser.add_argument("--name", default="recipes", help="name of the file with results")
    options = parser.parse_args()
    if options.small:
        options.epochs, options.image_size, options.folds, options.repeats = 1, 32, 2, 1
        options.subjects, options.only = 12, options.only or "^(paper|recommended)$"
    if options.data and len(options.draws) > 1:
        parser.error("--draws works only with generated cells")
    sets = load_sets(options)
    settings = network_settings(options)
    if options.fine_tune:
        recipes = tuned_recipes(settings | training_settings(options))
    else:
        del settings["normalize"]
        recipes = frozen_recipes(settings)
    rows, first = [], None
    with tempfile.TemporaryDirectory() as cache:
        for name, clf in recipes.items():
            if not re.search(options.only, name) and name != "paper":
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                measured = [measure(clf, *data, options, cache) for data in sets]
            found, seconds = zip(*measured, strict=True)
            first = first or found
            means = {
                metric: float(np.mean([r.metrics[metric].value for r in chain(*found)]))
                for metric in METRICS
            }
            row = {"recipe": name} | {k: f"{v:.3f}" for k, v in means.items()}
            row["accuracy minus paper"] = difference(found, first)
            row["log-loss minus paper"] = difference(found, first, image_log_loss)
            row["s a fold"] = f"{np.median(seconds):.1f}"
            rows.append(row)
            print("  ".join(row.values()), flush=True)
    report(options.name, __doc__.partition("\n")[0], rows)


if __name__ == "__main__":
    main()
