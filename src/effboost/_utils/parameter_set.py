"""Groups of parameters with nested names, such as `FineTuning`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from effboost._utils.default_estimators import NestedDefaults

__all__ = ["ParameterSet"]


class ParameterSet(NestedDefaults):
    """Parameters that belong together, with `get_params`, `set_params`, `clone` and equality.

    As in estimators, values are checked when they are used, not in the constructor.
    """

    def check(self) -> Self:
        """Check the values, and that each has an effect.

        Returns
        -------
        self : object
            The object itself.

        Raises
        ------
        ValueError, TypeError
            If a value is out of range, or has no effect in combination with the others.
        """
        self._validate_params()
        for name in self._defaults:
            child = self._child(name)
            if isinstance(child, ParameterSet):
                child.check()
        self._check_combination()
        return self

    def _check_combination(self) -> None:
        """Check that no parameter is set that has no effect."""

    def _check_unused(self, names: tuple[str, ...], without: str) -> None:
        """Refuse parameters that differ from their defaults although they have no effect."""
        defaults = type(self)().get_params(deep=False)
        for name in names:
            value = getattr(self, name)
            if value != defaults[name]:
                raise ValueError(f"{name}={value!r} has no effect {without}")

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a dictionary; nested groups as dictionaries, too.

        Returns
        -------
        dict
            The parameters by name.
        """
        return {
            name: value.to_dict() if isinstance(value, ParameterSet) else value
            for name, value in self.get_params(deep=False).items()
        }

    @classmethod
    def from_dict(cls, params: Mapping[str, Any]) -> Self:
        """Build the group from parameters by name.

        Parameters
        ----------
        params : mapping
            The parameters, such as those that JSON stores: lists become tuples.

        Returns
        -------
        ParameterSet
            A group of this class.
        """
        # JSON has lists where Python has tuples.
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in params.items()})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]
