"""XGBoost's classifiers as UBJ and plain parameters."""

from __future__ import annotations

import math
from typing import Any, Final

from effboost._utils.compat import load_xgboost
from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._booster_checks import check_booster
from effboost.persistence._checks import pin_jobs
from effboost.persistence._json import check_fields
from effboost.persistence._rules import is_plain
from effboost.persistence._values import NotPlainError, decode, encode

__all__ = ["build_booster", "check_metrics", "describe_booster"]

_KINDS: Final = ("XGBClassifier", "XGBRFClassifier")
_MAX_PARAMS: Final = 200
# Of the parameters that predictions read, the types; the others matter for training alone.
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "booster": (str, type(None)),
    "device": (str, type(None)),
    "enable_categorical": (bool, type(None)),
    "feature_types": (list, type(None)),
    "missing": (int, float),
    "n_jobs": (int, type(None)),
    "objective": (str, type(None)),
    "verbosity": (int, type(None)),
}


def describe_booster(estimator: Any) -> tuple[dict[str, Any], bytes | None, list[str]]:
    """Describe one of XGBoost's classifiers.

    Returns
    -------
    description : dict
        Its class, parameters and metrics, as values of JSON.
    content : bytes or None
        Its trees as UBJ; None if it is not fitted.
    dropped : list of str
        Names of parameters that are code and only matter for training.

    Raises
    ------
    RefusedError
        If it cannot be saved.
    """
    kind = type(estimator).__name__
    if type(estimator) not in [getattr(load_xgboost(), name) for name in _KINDS]:
        raise RefusedError(f"a {kind} cannot be saved as a head; {' and '.join(_KINDS)} can")
    if callable(estimator.objective):
        raise RefusedError(
            f"the {kind} has a custom objective, which is code; use one of XGBoost's by name"
        )
    params, dropped = {}, []
    for name, value in estimator.get_params(deep=False).items():
        try:
            params[name] = encode(value)
        except NotPlainError:
            params[name] = None
            dropped.append(name)
    description: dict[str, Any] = {"kind": kind, "params": params}
    if not estimator.__sklearn_is_fitted__():
        return description, None, dropped
    description["evals_result"] = encode(_plain_metrics(getattr(estimator, "evals_result_", None)))
    content = bytes(estimator.get_booster().save_raw("ubj"))
    check_booster(content)
    return description, content, dropped


def build_booster(description: Any, content: bytes | None, what: str) -> Any:
    """Build the classifier that `describe_booster` described.

    Raises
    ------
    RefusedError
        If its parameters or trees are not valid for XGBoost.
    """
    fitted = {} if content is None else {"evals_result": (dict, type(None))}
    check_fields(description, what, {"kind": str, "params": dict, **fitted})
    if description["kind"] not in _KINDS:
        raise RefusedError(
            f"{what} is a {quote_name(description['kind'])}; expected {' or '.join(_KINDS)}"
        )
    params = _decode_params(description["params"], what)
    kind = getattr(load_xgboost(), description["kind"])
    known = kind().get_params(deep=False).keys()
    estimator = kind(**{name: params[name] for name in params.keys() - known})
    estimator.n_jobs = params.get("n_jobs")
    pin_jobs(estimator)
    if content is not None:
        _load_trees(estimator, content, what)
        metrics = decode(description["evals_result"], f"{what}: evals_result")
        if metrics is not None:
            check_metrics(metrics, f"{what}: evals_result")
            estimator.evals_result_ = metrics
    # Not set_params, which would pass some on to the native booster, which cannot read them.
    # Last: loading trees sets some of them.
    for name in known & params.keys():
        setattr(estimator, name, params[name])
    pin_jobs(estimator)
    return estimator


def check_metrics(metrics: Any, what: str) -> None:
    """Check that metrics are lists of numbers, by data and by metric.

    Raises
    ------
    RefusedError
        If they are something else.
    """
    if not isinstance(metrics, dict):
        raise RefusedError(f"{what} is not a dictionary")
    for of_rows in metrics.values():
        if not isinstance(of_rows, dict) or not all(
            isinstance(values, list) and all(type(value) in (int, float) for value in values)
            for values in of_rows.values()
        ):
            raise RefusedError(f"{what} is not a dictionary of metrics, each a list of numbers")


def _decode_params(described: dict[str, Any], what: str) -> dict[str, Any]:
    if len(described) > _MAX_PARAMS:
        raise RefusedError(f"{what} has {len(described)} parameters; the limit is {_MAX_PARAMS}")
    params = {}
    for name, value in described.items():
        shown = f"{what}: parameter {quote_name(name)}"
        if not name.isidentifier() or name.startswith("_"):
            raise RefusedError(f"{shown} is not a name")
        params[name] = decode(value, shown)
        types = _TYPES.get(name)
        if not is_plain(params[name]) or (types and type(params[name]) not in types):
            raise RefusedError(f"{shown} is a {type(params[name]).__name__}")
    if isinstance(params.get("missing"), float | int) and math.isinf(params["missing"]):
        raise RefusedError(f"{what}: missing is infinite")
    if params.get("verbosity") not in (None, 0, 1, 2, 3):
        raise RefusedError(f"{what}: verbosity is not between 0 and 3")
    return params


def _load_trees(estimator: Any, content: bytes, what: str) -> None:
    check_booster(content)
    try:
        estimator.load_model(bytearray(content))
    except load_xgboost().core.XGBoostError as error:
        # The rest is a stack trace.
        reason = str(error).strip().partition("\n")[0][:200]
        raise RefusedError(f"{what} is refused by XGBoost ({reason})") from error


def _plain_metrics(metrics: Any) -> Any:
    # XGBoost has ordered dictionaries.
    if metrics is None:
        return None
    return {rows: {k: list(map(float, v)) for k, v in of.items()} for rows, of in metrics.items()}
