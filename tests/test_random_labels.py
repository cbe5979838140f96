"""Labels that are drawn at random are never predicted better than chance.

The images of a subject are alike, and so are the views of an image: whatever has one of them on
both sides of a split knows the label, however it was drawn. Each subject has one label, so chance
is a coin for each of 40 subjects; scores above `BOUND` would come of one in 10,000 fair draws. A
leak gives nearly 1, which the last tests show.
"""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifierCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    LeavePGroupsOut,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier
from xgboost.callback import EarlyStopping

from common.networks import WideNet, tiny_featurizer
from effboost import HybridClassifier, LinearBoostedClassifier, evaluate, presets
from effboost.model_selection import SubjectKFold

pytestmark = [
    pytest.mark.slow,
    # Searches on noise meet classes that are never predicted, and solvers that need longer.
    pytest.mark.filterwarnings("ignore"),
]

N_SUBJECTS, N_IMAGES = 40, 4
BOUND = binom.isf(1e-4, N_SUBJECTS, 0.5) / N_SUBJECTS
SURE = 0.9  # mean log-loss; a coin has 0.69, and who trusts what it has seen before, above 1


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Images of subjects who look each their own way, and have random labels."""
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (N_SUBJECTS, 16, 16, 3))
    noise = rng.normal(0, 12, (N_SUBJECTS, N_IMAGES, 16, 16, 3))
    pixels = np.clip(looks[:, None] + noise, 0, 255).astype(np.uint8).reshape(-1, 16, 16, 3)
    label = rng.permutation(np.arange(N_SUBJECTS) % 2)
    order = rng.permutation(N_SUBJECTS * N_IMAGES)
    groups = np.repeat([f"S{i:02d}" for i in range(N_SUBJECTS)], N_IMAGES)
    y = np.repeat(np.array(["ALL", "HEM"])[label], N_IMAGES)
    cache = str(tmp_path_factory.mktemp("features"))
    return pixels[order], y[order], groups[order], cache


def lr(**params):
    return LogisticRegression(C=1.0, max_iter=200, **params)


def pipeline(head):
    return make_pipeline(StandardScaler(), head)


HEADS = {
    "search": lambda cv: GridSearchCV(pipeline(lr()), {"logisticregression__C": [0.1, 1]}, cv=cv),
    "LogisticRegressionCV": lambda cv: pipeline(
        LogisticRegressionCV(
            Cs=3,
            cv=cv,
            max_iter=100,
            use_legacy_attributes=False,
            l1_ratios=(0,),
            scoring="accuracy",
        )
    ),
    "RidgeClassifierCV": lambda cv: RidgeClassifierCV(np.logspace(-3, 3, 4), cv=cv),
    "calibration": lambda cv: CalibratedClassifierCV(pipeline(lr()), cv=cv),
    "calibrated forest": lambda cv: CalibratedClassifierCV(
        RandomForestClassifier(20, random_state=0), cv=cv
    ),
    "stack": lambda cv: StackingClassifier(
        [("a", lr()), ("b", RandomForestClassifier(20, random_state=0))], lr(), cv=cv
    ),
    "vote": lambda cv: VotingClassifier(
        [
            ("a", CalibratedClassifierCV(lr(), cv=cv)),
            ("b", LogisticRegression(C=1e6, max_iter=200)),
        ],
        voting="soft",
    ),
    "threshold": lambda cv: TunedThresholdClassifierCV(pipeline(lr()), cv=cv),
    "nested search": lambda cv: GridSearchCV(
        CalibratedClassifierCV(lr(), cv=cv), {"method": ["sigmoid", "isotonic"]}, cv=cv
    ),
    "LinearBoosted": lambda cv: LinearBoostedClassifier(),
    "XGBoost": lambda cv: XGBClassifier(n_estimators=30, early_stopping_rounds=3),
    "XGBoost with a callback": lambda cv: XGBClassifier(
        n_estimators=30, callbacks=[EarlyStopping(rounds=3)]
    ),
    "gradient boosting": lambda cv: HistGradientBoostingClassifier(
        max_iter=4, max_depth=2, max_bins=16, early_stopping=True, n_iter_no_change=3
    ),
    "SVM": lambda cv: pipeline(SVC()),
}
SPLITTERS = {
    "number": 3,
    "SubjectKFold": SubjectKFold(3),
    "GroupKFold": GroupKFold(3, shuffle=True, random_state=0),
    "StratifiedGroupKFold": StratifiedGroupKFold(3),
}


def make(sample, head, views="original", **params):
    featurizer = tiny_featurizer(backbone=WideNet, cache=sample[3])
    if views == "dihedral":
        params["view_averaging"] = "probabilities"
    return HybridClassifier(featurizer.set_params(views=views), head, random_state=0, **params)


def inner_scores(head):
    """Find the scores of splits inside a head, and inside of what it is made of."""
    found, seen = [], set()

    def look(value):
        if id(value) in seen or isinstance(value, str):
            return
        seen.add(id(value))
        if isinstance(value, dict):
            parts = value.values()
        elif isinstance(value, list | tuple):
            parts = value
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("sklearn."):
            parts = vars(value).values()
            if isinstance(value, GridSearchCV | TunedThresholdClassifierCV):
                found.append(float(value.best_score_))
            if isinstance(value, LogisticRegressionCV):
                found.append(float(np.max(np.mean(value.scores_, axis=0))))
        else:
            return
        for part in list(parts):
            look(part)

    look(head)
    return found


@pytest.mark.parametrize(
    ("weights", "views"),
    [("none", "original"), ("none", "dihedral"), ("class", "dihedral"), ("sample", "original")],
)
@pytest.mark.parametrize("name", HEADS)
def test_every_head_stays_at_chance(sample, name, weights, views):
    if weights != "none" and name == "threshold":
        weights = "none"  # weights do not reach it
    X, y, groups, _ = sample
    cv = list(SPLITTERS.values())[list(HEADS).index(name) % len(SPLITTERS)]
    clf = make(sample, HEADS[name](cv), views)
    if weights == "class":
        clf.set_params(class_weight={"ALL": 2.0, "HEM": 1.5})
    report = evaluate(clf, X, y, groups=groups, cv=3, n_bootstrap=5, return_estimator=True)
    assert report.metrics["subject_accuracy"].value <= BOUND
    assert report.metrics["accuracy"].value <= BOUND
    if weights == "sample":
        weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
        models = [clf.fit(X, y, groups=groups, sample_weight=weight)]
    else:
        models = report.estimators
    for model in models:
        assert all(score <= BOUND for score in inner_scores(model.classifier_))
    if name.startswith("calibrat") or name == "vote":
        assert report.metrics["log_loss"].value < SURE


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize("name", ["search", "LogisticRegressionCV", "calibration", "threshold"])
def test_scores_inside_a_head_stay_at_chance_for_every_splitter(sample, name, splitter, routing):
    X, y, groups, _ = sample
    for views in ("original", "dihedral"):
        clf = make(sample, HEADS[name](SPLITTERS[splitter]), views)
        with config_context(enable_metadata_routing=routing):
            clf.fit(X, y, groups=groups)
        assert all(score <= BOUND for score in inner_scores(clf.classifier_))


@pytest.mark.parametrize(
    "cv",
    [
        *SPLITTERS.values(),
        PredefinedSplit(np.arange(N_SUBJECTS * N_IMAGES) % 2),
        LeavePGroupsOut(1),
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_evaluate_stays_at_chance_for_every_splitter(sample, cv):
    X, y, groups, _ = sample
    if isinstance(cv, PredefinedSplit):
        cv = PredefinedSplit(np.unique(groups, return_inverse=True)[1] % 4)
    report = evaluate(make(sample, pipeline(lr())), X, y, groups=groups, cv=cv, n_bootstrap=5)
    assert report.metrics["subject_accuracy"].value <= BOUND


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
def test_calibrated_hybrid_stays_at_chance(sample, method):
    X, y, groups, _ = sample
    clf = make(sample, XGBClassifier(n_estimators=30), calibration=method)
    report = evaluate(clf, X, y, groups=groups, cv=3, n_bootstrap=5)
    assert report.metrics["subject_accuracy"].value <= BOUND
    assert report.metrics["log_loss"].value < (SURE if method == "temperature" else np.inf)


@pytest.mark.parametrize("protocol", ["in_sample", "holdout"])
def test_fine_tuned_network_stays_at_chance(sample, protocol):
    X, y, groups, _ = sample
    clf = presets.paper(
        WideNet, weights=None, crop_size=None, image_size=24, max_epochs=2, random_state=0
    ).set_params(head_protocol=protocol, classifier__n_estimators=20)
    report = evaluate(clf, X, y, groups=groups, cv=3, n_bootstrap=5)
    assert report.metrics["subject_accuracy"].value <= BOUND
    assert report.cnn.metrics["subject_accuracy"].value <= BOUND


# --- the same would be known through a leak -------------------------------------------------


# These learn how far to trust a classifier from folds by subject, where it is wrong as often as
# right: they do not decide by what it has memorised.
DISTRUSTING = {"threshold", "calibration", "calibrated forest", "stack", "nested search"}


@pytest.mark.parametrize("name", [name for name in HEADS if name not in DISTRUSTING])
def test_leaking_folds_are_above_chance_for_every_head(sample, name):
    X, y, groups, _ = sample
    cv = StratifiedKFold(4, shuffle=True, random_state=0)
    clf = make(sample, HEADS[name](2))
    report = evaluate(clf, X, y, groups=groups, cv=cv, check_leakage=False, n_bootstrap=5)
    assert report.metrics["accuracy"].value > BOUND


@pytest.mark.parametrize("name", ["search", "LogisticRegressionCV"])
def test_leaking_folds_are_above_chance_inside_a_head(sample, name):
    X, y, _, _ = sample
    head = HEADS[name](StratifiedKFold(4, shuffle=True, random_state=0))
    clf = make(sample, head).fit(X, y)
    assert min(inner_scores(clf.classifier_)) > 0.9
