"""Heads from a file, checked before any of their numbers reach compiled code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from effboost._utils.compat import load_xgboost
from effboost._utils.probabilities import find_fault
from effboost._utils.refusal import RefusedError
from effboost.persistence._rules import Dims
from effboost.persistence._schemas import find_schema

__all__ = ["check_estimator", "check_head", "pin_jobs", "try_head"]

_KERNELS: Final = ("linear", "poly", "rbf", "sigmoid")
# Of estimators that take part in one prediction, each as often as it does.
_MAX_PARTS: Final = 20_000
_PROBE_SEED: Final = 0
# How far from their means features may lie, in multiples of them.
_PROBE_SCALES: Final = (0, 1, 1, 1, 1, 1, 1, 1, 1, 10, 100)


def pin_jobs(estimator: Any) -> None:
    """Limit an estimator from a file, and those inside it, to one process."""
    if vars(estimator).get("n_jobs") is not None:
        estimator.n_jobs = 1


def check_estimator(estimator: Any) -> None:
    """Check the attributes of an estimator, except those of the estimators inside it.

    Parameters
    ----------
    estimator : object
        An estimator, fitted or not, or another part of a head.

    Raises
    ------
    RefusedError
        If its type has no schema, or an attribute does not follow it.
    """
    kind = type(estimator).__name__
    schema = find_schema(type(estimator))
    if schema is None:
        raise RefusedError(f"a {kind} cannot be in a model file")
    values = vars(estimator)
    if values.get("memory") is not None:
        # A folder of pickles, which a later fit would read.
        raise RefusedError(f"a {kind} has a memory; set memory=None")
    params = set(_list_params(estimator)) - schema.fitted.keys()
    for name in values:
        if name not in params and name not in schema.fitted and name not in schema.optional:
            raise RefusedError(f"a {kind} has an unknown attribute {str(name)[:80]!r}")
    _check_params(estimator, values, params)
    if not values.keys() & schema.fitted.keys():
        return
    dims = _find_dims(values)
    for name, rule in {**schema.fitted, **schema.optional}.items():
        if name in values:
            rule(values[name], dims, f"{name} of a {kind}")
        elif name in schema.fitted:
            raise RefusedError(f"a {kind} has no {name}")
    check = _CHECKS.get(kind)
    if check is not None and not check(estimator):
        raise RefusedError(f"the attributes of a {kind} do not fit each other")


def check_head(head: Any, n_features: int, n_classes: int) -> list[Any]:
    """Check that the estimators of a fitted head agree in features and classes.

    Parameters
    ----------
    head : estimator
        A classifier whose parts have passed `check_estimator` or `check_booster`.
    n_features, n_classes : int
        Number of features and of classes.

    Returns
    -------
    list of XGBModel
        The boosters that take part in its predictions.

    Raises
    ------
    RefusedError
        If they do not agree.
    """
    composition = _Composition()
    composition.check_classifier(head, n_features, n_classes)
    return composition.boosters


def try_head(head: Any, means: npt.NDArray[np.float64], n_classes: int) -> None:
    """Check that a head can predict some rows of features around their means.

    Faults that the schemas cannot detect, such as contradictory parameters, are found here and not
    at the first image.

    Parameters
    ----------
    head : estimator
        The classifier.
    means : ndarray of shape (n_features,)
        Means of the features.
    n_classes : int
        Number of classes.

    Raises
    ------
    RefusedError
        If its parts do not fit each other, it fails, or it returns values that are not
        probabilities.
    """
    boosters = check_head(head, len(means), n_classes)
    noise = np.random.default_rng(_PROBE_SEED).normal(size=(len(_PROBE_SCALES), len(means)))
    noise *= np.array(_PROBE_SCALES)[:, None]
    rows = np.concatenate([np.zeros_like(means)[None], means + noise * np.abs(means)])
    rows = np.clip(rows, -1e30, 1e30).astype(np.float32)
    try:
        with np.errstate(all="ignore"), _single_threaded(boosters):
            fault = _predict(head, rows, n_classes)
    # Of scikit-learn and XGBoost, which raise whatever the parts lead to.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise RefusedError(f"its head cannot predict ({type(error).__name__}: {reason})") from error
    if fault is not None:
        raise RefusedError(f"its head cannot predict ({fault})")


@contextmanager
def _single_threaded(boosters: list[Any]) -> Iterator[None]:
    """Make boosters compute in the calling thread; otherwise, a later fork would hang."""
    jobs = [booster.n_jobs for booster in boosters]
    for booster in boosters:
        booster.n_jobs = 1
        booster.get_booster().set_param({"nthread": 1})
    try:
        yield
    finally:
        for booster, n_jobs in zip(boosters, jobs, strict=True):
            booster.n_jobs = n_jobs
            booster.get_booster().set_param({"nthread": n_jobs or 0})


def _predict(head: Any, rows: npt.NDArray[np.float32], n_classes: int) -> str | None:
    labels = np.asarray(head.predict(rows))
    known = labels.dtype.kind in "iu" and np.isin(labels, np.arange(n_classes)).all()
    if labels.shape != (len(rows),) or not known:
        return "it predicts other classes than the model has"
    if hasattr(head, "predict_proba"):
        return find_fault(head.predict_proba(rows), len(rows), n_classes)
    if hasattr(head, "decision_function"):
        scores = np.asarray(head.decision_function(rows))
        if scores.shape[:1] != (len(rows),) or not np.isfinite(scores).all():
            return "its scores are not finite numbers"
    return None


def _list_params(estimator: Any) -> list[str]:
    names: list[str] = type(estimator)._get_param_names() if _has_params(estimator) else []
    return names


def _has_params(estimator: Any) -> bool:
    return hasattr(type(estimator), "_get_param_names")


def _check_params(estimator: Any, values: dict[str, Any], params: set[str]) -> None:
    """Check parameters by scikit-learn's own constraints."""
    if missing := sorted(params - values.keys()):
        raise RefusedError(f"a {type(estimator).__name__} has no {missing[0]}")
    if not hasattr(type(estimator), "_parameter_constraints"):
        return
    try:
        estimator._validate_params()
    except Exception as error:  # comparisons of odd values fail in many ways
        raise RefusedError(f"a parameter is not valid: {str(error)[:300]}") from error


def _find_dims(values: dict[str, Any]) -> Dims:
    dims: Dims = {}
    n_features, classes = values.get("n_features_in_"), values.get("classes_")
    if type(n_features) is int:
        dims["d"] = n_features
    if isinstance(classes, np.ndarray) and classes.ndim == 1:
        k = len(classes)
        if k < 2 or len(np.unique(classes)) != k:
            raise RefusedError(f"classes_ are {str(classes)[:80]}, not two or more different ones")
        dims |= {"k": k, "r": 1 if k == 2 else k, "pairs": k * (k - 1) // 2, "others": k - 1}
    return dims


def _fits_support(machine: Any) -> bool:
    n_vectors = len(machine.support_vectors_)
    probabilities = len(machine._probA) > 0
    return bool(
        machine.kernel in _KERNELS
        and not machine._sparse
        and n_vectors > 0
        and machine._n_support.sum(dtype=np.int64) == n_vectors
        and (machine.support_ < machine.shape_fit_[0]).all()
        and len(machine._probB) == len(machine._probA)
        and probabilities == bool(machine._effective_probability)
    )


def _fits_layers(network: Any) -> bool:
    widths = [network.n_features_in_, *(len(bias) for bias in network.intercepts_)]
    shapes = [weights.shape for weights in network.coefs_]
    n_outputs = 1 if len(network.classes_) == 2 else len(network.classes_)
    return (
        shapes == list(pairwise(widths))
        and network.n_layers_ == len(widths)
        and network.n_outputs_ == widths[-1] == n_outputs
    )


def _fits_members(bagging: Any) -> bool:
    return all(
        len(places) > 0 and (places < bagging.n_features_in_).all()
        for places in bagging.estimators_features_
    )


def _fits_rotations(analysis: Any) -> bool:
    pairs = zip(analysis.rotations_, analysis.scalings_, strict=True)
    return all(rotation.shape[1] == len(scaling) for rotation, scaling in pairs)


def _fits_thresholds(isotonic: Any) -> bool:
    # Outside of its thresholds, it would raise an error or give NaN.
    thresholds = isotonic.X_thresholds_
    return bool(
        isotonic.out_of_bounds == "clip"
        and len(thresholds) > 0
        and (np.diff(thresholds) >= 0).all()
        and thresholds[0] <= isotonic.X_min_ <= isotonic.X_max_ <= thresholds[-1]
    )


def _fits_quantiles(transformer: Any) -> bool:
    return bool(
        (np.diff(transformer.references_) >= 0).all()
        and (np.diff(transformer.quantiles_, axis=0) >= 0).all()
        and len(transformer.references_) == transformer.n_quantiles_
    )


def _counts_classes(estimator: Any) -> bool:
    return int(estimator.n_classes_) == len(estimator.classes_)


# By class, what the rules for single attributes cannot say.
_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "AdaBoostClassifier": lambda head: (
        _counts_classes(head)
        and len(head.estimator_weights_) >= len(head.estimators_)
        and head.estimator_weights_.sum() > 0
    ),
    "BaggingClassifier": lambda head: _counts_classes(head) and _fits_members(head),
    "DecisionTreeClassifier": _counts_classes,
    "DummyClassifier": _counts_classes,
    "ExtraTreeClassifier": _counts_classes,
    "ExtraTreesClassifier": _counts_classes,
    "IsotonicRegression": _fits_thresholds,
    "MLPClassifier": _fits_layers,
    "NuSVC": _fits_support,
    "PCA": lambda pca: pca.n_components_ == len(pca.components_),
    "QuadraticDiscriminantAnalysis": _fits_rotations,
    "QuantileTransformer": _fits_quantiles,
    "RandomForestClassifier": _counts_classes,
    "SVC": _fits_support,
}


class _Composition:
    """Walks the estimators that take part in a prediction."""

    def __init__(self) -> None:
        self._n_parts = 0
        self.boosters: list[Any] = []

    def check_classifier(
        self, head: Any, n_features: int | None, n_classes: int, *, some: bool = False
    ) -> None:
        """Check a classifier and those inside it; with `some`, classes may be missing."""
        self._count(head)
        kind = type(head).__name__
        if isinstance(head, load_xgboost().XGBModel):
            _check_booster(head, n_features, n_classes, some=some)
            self.boosters.append(head)
            return
        if kind == "FrozenEstimator":
            self.check_classifier(head.estimator, n_features, n_classes, some=some)
            return
        if kind == "Pipeline":
            self._check_pipeline(head, n_features, n_classes, some=some)
            return
        if not hasattr(head, "predict"):
            raise RefusedError(f"a {kind} is not a classifier")
        _check_classes(head, n_classes, some=some)
        own = vars(head).get("n_features_in_", n_features)
        if n_features is not None and own != n_features:
            raise RefusedError(f"a {kind} takes {own} features where {n_features} are computed")
        k = len(head.classes_)
        for part, width, number, fewer in _list_parts(head, own, k):
            self.check_classifier(part, width, number, some=fewer)

    def _check_pipeline(
        self, pipeline: Any, n_features: int | None, n_classes: int, *, some: bool
    ) -> None:
        steps = pipeline.steps
        if not steps or not all(isinstance(step, tuple) and len(step) == 2 for step in steps):
            raise RefusedError("a Pipeline has no steps")
        width = n_features
        for _, step in steps[:-1]:
            if step is None or step == "passthrough":
                continue
            self._count(step)
            if not hasattr(step, "transform"):
                raise RefusedError(f"a {type(step).__name__} is not a transformer")
            own = vars(step).get("n_features_in_", width)
            if width is not None and own != width:
                raise RefusedError(
                    f"a {type(step).__name__} takes {own} features where {width} are computed"
                )
            # scikit-learn compares what these give with what the next step takes.
            width = own if type(step).__name__ in _KEEP_WIDTH else None
        self.check_classifier(steps[-1][1], width, n_classes, some=some)

    def _count(self, part: Any) -> None:
        self._n_parts += 1
        if self._n_parts > _MAX_PARTS:
            raise RefusedError(f"its head consists of more than {_MAX_PARTS:,} estimators")
        if not isinstance(part, BaseEstimator):
            raise RefusedError(f"its head contains a {type(part).__name__}, not an estimator")
        schema = find_schema(type(part))
        if schema is not None and not vars(part).keys() >= schema.fitted.keys():
            raise RefusedError(f"its head contains a {type(part).__name__} that is not fitted")


_KEEP_WIDTH: Final = frozenset(
    {
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "PowerTransformer",
        "QuantileTransformer",
        "RobustScaler",
        "StandardScaler",
    }
)


def _list_parts(
    head: Any, width: int | None, k: int
) -> Iterator[tuple[Any, int | None, int, bool]]:
    """List the classifiers inside one, with their features and classes.

    The last value tells whether some of the classes may be missing.
    """
    kind = type(head).__name__
    if kind in ("RandomForestClassifier", "ExtraTreesClassifier", "AdaBoostClassifier"):
        yield from ((part, width, k, False) for part in _some(head.estimators_, kind))
    elif kind == "VotingClassifier":
        yield from ((part, width, k, False) for part in _some(head.estimators_, kind))
        _check_classes(head.le_, k)
        named = [part for _, part in head.estimators if not isinstance(part, str)]
        if len(named) != len(head.estimators_):
            raise RefusedError(f"the estimators of a {kind} do not match their names")
    elif kind == "StackingClassifier":
        yield from ((part, width, k, False) for part in _some(head.estimators_, kind))
        yield head.final_estimator_, None, k, False
        _check_classes(head._label_encoder, k)
    elif kind == "BaggingClassifier":
        for part, places in zip(_some(head.estimators_, kind), head.estimators_features_):  # noqa: B905
            yield part, len(places), k, True
    elif kind in ("OneVsOneClassifier", "OneVsRestClassifier"):
        yield from ((part, width, 2, False) for part in _some(head.estimators_, kind))
    elif kind == "CalibratedClassifierCV":
        for calibrated in _some(head.calibrated_classifiers_, kind):
            _check_calibrators(calibrated, k)
            yield calibrated.estimator, width, k, True
    elif kind == "SiteAdaptedClassifier":
        yield head.estimator_, width, k, False
    elif kind == "LinearBoostedClassifier":
        if head.linear_ is None and head.trees_ is None:
            raise RefusedError(f"a {kind} has neither a linear model nor trees")
        if head.linear_ is not None and head.scaler_ is None:
            raise RefusedError(f"a {kind} has no scaler")
        parts = (part for part in (head.linear_, head.trees_) if part is not None)
        yield from ((part, width, k, False) for part in parts)


def _some(parts: Any, kind: str) -> Any:
    if not len(parts):
        raise RefusedError(f"a {kind} has no estimators")
    return parts


def _check_calibrators(calibrated: Any, k: int) -> None:
    parts, classes = calibrated.calibrators, calibrated.classes
    own = getattr(calibrated.estimator, "classes_", classes)
    n_expected = 1 if calibrated.method == "temperature" or len(own) == 2 else len(own)
    kind = {"isotonic": "IsotonicRegression", "sigmoid": "_SigmoidCalibration"}.get(
        calibrated.method, "_TemperatureScaling"
    )
    if not np.array_equal(classes, np.arange(k)) or len(parts) != n_expected:
        raise RefusedError("a calibrated classifier has other calibrators than classes")
    for part in parts:
        schema = find_schema(type(part))
        if (
            type(part).__name__ != kind
            or schema is None
            or not vars(part).keys() >= schema.fitted.keys()
        ):
            raise RefusedError(f"a calibrator is not a fitted {kind}")


def _check_classes(estimator: Any, n_classes: int, *, some: bool = False) -> None:
    """Check that classes are 0 to `n_classes` - 1, or some of these in order."""
    classes = getattr(estimator, "classes_", None)
    expected = np.arange(n_classes)
    if isinstance(classes, np.ndarray) and classes.dtype.kind in "iuf":
        if np.array_equal(classes, expected):
            return
        if some and np.isin(classes, expected).all() and (np.diff(classes) > 0).all():
            return
    raise RefusedError(
        f"a {type(estimator).__name__} has the classes {str(classes)[:80]}; expected the numbers "
        f"0 to {n_classes - 1}"
    )


def _check_booster(head: Any, n_features: int | None, n_classes: int, *, some: bool) -> None:
    if not head.__sklearn_is_fitted__():
        raise RefusedError("a booster is not fitted")
    width = head.get_booster().num_features()
    if n_features is not None and width != n_features:
        raise RefusedError(f"a booster takes {width} features where {n_features} are computed")
    if head.n_classes_ != n_classes and not (some and head.n_classes_ < n_classes):
        raise RefusedError(f"a booster has {head.n_classes_} classes; expected {n_classes}")
