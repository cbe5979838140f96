"""Which images should the head be fitted on, and what reduces its over-confidence?"""

import time

from _common import (
    add_data_options,
    add_training_options,
    load_data,
    make_parser,
    network_settings,
    paired_difference,
    report,
    training_settings,
)
from sklearn.calibration import CalibratedClassifierCV

from effboost import ImageSequence, evaluate, presets
from effboost.model_selection import SubjectKFold

METRICS = ("accuracy", "log_loss", "calibration_error", "auroc")


def contenders(options):
    def paper(**params):
        clf = presets.paper(**network_settings(options), **training_settings(options))
        return clf.set_params(**params)

    stopping = {
        "featurizer__training__early_stopping": 3,
        "featurizer__training__validation_fraction": 0.2,
        "classifier__early_stopping_rounds": 10,
    }
    ensemble = {"cv": SubjectKFold(3), "ensemble": True}
    return {
        "in_sample": paper(),
        "holdout, 0.3": paper(head_protocol="holdout"),
        "holdout, 0.15": paper(head_protocol="holdout", holdout_fraction=0.15),
        "in_sample, early stopping": paper(**stopping),
        "holdout, early stopping": paper(head_protocol="holdout", **stopping),
        "in_sample, 3 calibrated by subject": CalibratedClassifierCV(paper(), **ensemble),
        "in_sample, 3 by temperature": CalibratedClassifierCV(
            paper(), method="temperature", **ensemble
        ),
    }


def main():
    parser = make_parser(__doc__)
    add_data_options(parser)
    add_training_options(parser)
    parser.add_argument("--difficulty", default="hard", help="difficulty of generated cells")
    parser.add_argument("--name", default="head_protocols", help="name of the file with results")
    options = parser.parse_args()
    if options.small:
        options.epochs, options.image_size, options.folds = 1, 32, 2
    n_subjects = 40 if options.small else 60
    X, y, groups = load_data(options, n_subjects, 6, options.image_size, options.difficulty)
    images = ImageSequence(X, groups=groups)
    rows, first = [], None
    for name, clf in contenders(options).items():
        start = time.perf_counter()
        found = evaluate(clf, images, y, cv=options.folds)
        first = first or found
        row = {"head": name} | {metric: str(found.metrics[metric]) for metric in METRICS}
        row["accuracy minus in_sample"] = paired_difference([found], [first])
        row["s"] = time.perf_counter() - start
        rows.append(row)
    report(options.name, __doc__, rows)


if __name__ == "__main__":
    main()
