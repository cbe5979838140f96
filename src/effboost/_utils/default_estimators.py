"""Parameters with a short form, such as None or "paper", that stands for an estimator."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone

__all__ = ["NestedDefaults", "seed_children"]


class NestedDefaults(BaseEstimator):
    """Base class of estimators with parameters that have a short form and nested names.

    For each such parameter, `_defaults` of a class lists the short forms, and a function that
    builds the estimator for each.
    """

    _defaults: ClassVar[dict[str, dict[Hashable, Callable[[], Any]]]] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Also list those of the nested estimators, including the ones that short forms such as
            None stand for, by names such as ``featurizer__backbone``.

        Returns
        -------
        dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        for name in self._get_param_names():
            value = self._parameter(name)
            if value is not params[name]:  # found a method of that name
                params[name] = value
                if deep and hasattr(value, "get_params"):
                    params |= {f"{name}__{key}": one for key, one in value.get_params().items()}
        if deep:
            for name in self._defaults:
                default = self._default(name, self._parameter(name))
                if default is not None:
                    nested = default.get_params()
                    params |= {f"{name}__{key}": value for key, value in nested.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; after an error, all of them are as they were before.

        Parameters
        ----------
        **params : dict
            Parameter names, such as ``random_state`` or ``featurizer__backbone``, mapped to their
            values. A nested name replaces a short form, such as None, by the estimator that it
            stands for; but ``set_params(**get_params())`` changes nothing.

        Returns
        -------
        self : object
            The estimator.
        """
        state = _State(self)
        try:
            super().set_params(**self._with_defaults(params))
        except Exception:
            state.restore()
            raise
        return self

    def _parameter(self, name: str) -> Any:
        """Return the value of a parameter, also of one that has the name of a method."""
        return vars(self).get(name, getattr(self, name, None))

    def _with_defaults(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters; short forms whose nested parameters are set become estimators."""
        for name in self._defaults:
            prefix = f"{name}__"
            nested = {key for key in params if key.startswith(prefix)}
            value = params.get(name, self._parameter(name))
            default = self._default(name, value)
            if nested and default is None and not hasattr(value, "set_params"):
                wrong = min(nested).removeprefix(prefix)
                raise ValueError(f"{name}={value!r} has no parameter {wrong!r}; set {name} first")
            if not nested or default is None:
                continue
            known = default.get_params()
            if name in params and all(
                key.removeprefix(prefix) in known
                and _is_same(params[key], known[key.removeprefix(prefix)])
                for key in nested
            ):
                params = {key: value for key, value in params.items() if key not in nested}
            else:
                params = {**params, name: default}
        return params

    def _default(self, name: str, value: Any) -> Any:
        """Build the estimator that a short form stands for; return None for other values."""
        forms = self._defaults[name]
        if value is None or isinstance(value, str):
            build = forms.get(value)
            return None if build is None else build()
        return None

    def _child(self, name: str) -> Any:
        """Return an unfitted copy of a nested estimator, or the one for a short form."""
        value = self._parameter(name)
        default = self._default(name, value)
        if default is not None:
            return default
        return clone(value) if hasattr(value, "get_params") else value


def seed_children(children: list[Any], rng: np.random.RandomState) -> None:
    """Draw a seed for each estimator, and set it where its own random state is None."""
    for child in children:
        seed = int(rng.randint(2**31 - 1))
        if child.get_params().get("random_state", 0) is None:
            child.set_params(random_state=seed)


class _State:
    """The parameters of an estimator and of all nested ones, to restore them."""

    def __init__(self, estimator: Any):
        self._kept: list[tuple[Any, dict[str, Any]]] = []
        self._keep(estimator, set())

    def _keep(self, estimator: Any, seen: set[int]) -> None:
        if not hasattr(estimator, "get_params") or isinstance(estimator, type):
            return
        if id(estimator) in seen:
            return
        seen.add(id(estimator))
        self._kept.append((estimator, dict(vars(estimator))))
        for value in estimator.get_params(deep=False).values():
            # Pipelines, votes and the like hold pairs of a name and an estimator.
            parts = value if isinstance(value, list | tuple) else [value]
            for part in parts:
                for one in part if isinstance(part, list | tuple) else [part]:
                    self._keep(one, seen)

    def restore(self) -> None:
        """Restore the parameters of all estimators."""
        for estimator, state in self._kept:
            vars(estimator).clear()
            vars(estimator).update(state)


def _is_same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    try:
        return bool(a == b) or bool(a != a and b != b)
    except ValueError:  # arrays
        return False
