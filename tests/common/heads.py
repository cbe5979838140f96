"""Small fitted heads of every kind that may be in a model file."""

import warnings
from functools import cache

import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest, SelectPercentile, VarianceThreshold, chi2
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifier,
    RidgeClassifierCV,
)
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from xgboost import XGBClassifier, XGBRFClassifier

from effboost import LinearBoostedClassifier, SiteAdaptedClassifier
from effboost._heads.calibration import calibrate_head

__all__ = ["HEADS", "N_FEATURES", "features", "fitted_heads"]

N_FEATURES = 6


def features(n=48, n_classes=3, seed=0):
    """Draw features that tell classes apart, not perfectly."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % n_classes
    rows = rng.normal(size=(n, N_FEATURES)) + 0.8 * np.eye(n_classes, N_FEATURES)[classes]
    return np.abs(rows).astype(np.float32), classes


def _booster(**params):
    return XGBClassifier(n_estimators=3, max_depth=3, tree_method="hist", n_jobs=1, **params)


def _tree():
    return DecisionTreeClassifier(max_depth=3, random_state=0)


def _unfitted():
    logistic = LogisticRegression()
    return {
        "adaboost": AdaBoostClassifier(n_estimators=3, random_state=0),
        "bagging": BaggingClassifier(_tree(), 3, max_features=0.7, n_jobs=1, random_state=0),
        "bagging of boosters": BaggingClassifier(_booster(), 2, random_state=0),
        "bernoulli": make_pipeline(RobustScaler(), BernoulliNB()),
        "booster": _booster(),
        "booster, dart": _booster(booster="dart", rate_drop=0.5),
        "booster, forest": XGBRFClassifier(n_estimators=3, max_depth=2, n_jobs=1),
        "booster, linear": XGBClassifier(n_estimators=3, booster="gblinear", n_jobs=1),
        "booster, pruned": XGBClassifier(n_estimators=3, tree_method="exact", gamma=2, n_jobs=1),
        "calibrated, isotonic": CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2),
        "calibrated, sigmoid": CalibratedClassifierCV(logistic, cv=KFold(2, shuffle=True)),
        "calibrated, temperature": CalibratedClassifierCV(
            _booster(), method="temperature", ensemble=False, cv=StratifiedKFold(2)
        ),
        "dummy": DummyClassifier(),
        "extra trees": ExtraTreesClassifier(3, max_depth=3, random_state=0),
        "extra tree": ExtraTreeClassifier(max_depth=3, random_state=0),
        "forest": RandomForestClassifier(3, max_depth=3, random_state=0),
        "gaussian": GaussianNB(),
        "lda": LinearDiscriminantAnalysis(),
        "lda, eigen": LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
        "linear boosted": LinearBoostedClassifier(trees=_booster(), random_state=0),
        "site adapted": SiteAdaptedClassifier(_booster(), prior="saerens", min_samples=5),
        "linear svc": LinearSVC(),
        "logistic": logistic,
        "logistic cv": LogisticRegressionCV(
            Cs=2,
            cv=StratifiedShuffleSplit(2, random_state=0),
            l1_ratios=(0,),
            scoring="neg_log_loss",
            use_legacy_attributes=False,
        ),
        "mlp": MLPClassifier((4,), max_iter=30, random_state=0),
        "mlp, sgd": MLPClassifier((4, 3), max_iter=30, solver="sgd", random_state=0),
        "nu svc": NuSVC(nu=0.3),
        "one or the rest": OneVsRestClassifier(logistic),
        "one or the other": OneVsOneClassifier(make_pipeline(MaxAbsScaler(), LinearSVC())),
        "pipeline": make_pipeline(StandardScaler(), PCA(3), logistic),
        "pipeline of scalers": make_pipeline(
            PowerTransformer(), QuantileTransformer(n_quantiles=9), MinMaxScaler(), logistic
        ),
        "pipeline of selectors": make_pipeline(
            VarianceThreshold(),
            SelectPercentile(percentile=80),
            SelectKBest(chi2, k=3),
            Normalizer(),
            logistic,
        ),
        "qda": QuadraticDiscriminantAnalysis(reg_param=0.1),
        "ridge": RidgeClassifier(),
        "ridge cv": RidgeClassifierCV(cv=ShuffleSplit(2, random_state=0)),
        "stacking": StackingClassifier([("a", GaussianNB()), ("b", _tree())], cv=2),
        "svc": SVC(),
        "svc, poly": SVC(kernel="poly", degree=2, decision_function_shape="ovo"),
        "tree": _tree(),
        "vote": VotingClassifier(
            [("a", make_pipeline(StandardScaler(), logistic)), ("b", _booster()), ("c", _tree())],
            voting="soft",
            weights=[2, 1, 1],
        ),
        "vote, hard": VotingClassifier([("a", GaussianNB()), ("b", "drop"), ("c", _tree())]),
    }


_CALIBRATIONS = ("isotonic", "sigmoid", "temperature")
HEADS = (*_unfitted(), *(f"frozen, {method}" for method in _CALIBRATIONS), "frozen")


@cache
def fitted_heads(n_classes=3):
    """Fit a head of every kind, and of boosters inside of others.

    Returns
    -------
    dict of str to classifier
        By the names of `HEADS`. Shared by all tests: not to be changed.
    """
    X, y = features(n_classes=n_classes)
    heads = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, head in _unfitted().items():
            heads[name] = clone(head).fit(X, y)
    for method in _CALIBRATIONS:
        heads[f"frozen, {method}"] = calibrate_head(heads["forest"], method, (X, y))
    return heads | {"frozen": FrozenEstimator(heads["booster"])}
