"""Parameters whose None stands for a default estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone

__all__ = ["NestedDefaults", "seed_children"]


class NestedDefaults(BaseEstimator):
    """An estimator of estimators, whose defaults can be searched by nested name.

    Classes list in `_defaults` which parameters mean a default estimator where they are None,
    and how to build it.
    """

    _defaults: ClassVar[dict[str, Callable[[], Any]]] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Also list those of the nested estimators, of the defaults too, by names such as
            ``featurizer__image_size``.

        Returns
        -------
        dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        if deep:
            for name, build in self._defaults.items():
                if getattr(self, name) is None:
                    nested = build().get_params()
                    params |= {f"{name}__{key}": value for key, value in nested.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params : dict
            Parameter names, such as ``random_state`` or ``featurizer__image_size``, mapped to
            their values. A nested name first replaces a None by the default.

        Returns
        -------
        self : object
            The estimator.
        """
        for name, build in self._defaults.items():
            nested = any(key.startswith(f"{name}__") for key in params)
            if nested and params.get(name, getattr(self, name)) is None:
                params = {**params, name: build()}
        super().set_params(**params)
        return self

    def _child(self, name: str) -> Any:
        """Give an unfitted copy of a nested estimator, or the default."""
        child = getattr(self, name)
        return self._defaults[name]() if child is None else clone(child)


def seed_children(children: list[Any], rng: np.random.RandomState) -> None:
    """Hand a seed to each estimator whose own random state is None."""
    for child in children:
        seed = int(rng.randint(2**31 - 1))
        if child.get_params().get("random_state", 0) is None:
            child.set_params(random_state=seed)
