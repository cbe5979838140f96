"""A constructor parameter that has the name of a method, such as `transform`."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

__all__ = ["ParameterBesideMethod"]


class ParameterBesideMethod:
    """A method with the same name as a parameter that instances store.

    Reading the attribute returns the method; setting it stores the parameter in the instance's
    dictionary, where `NestedDefaults.get_params` finds it.

    Parameters
    ----------
    method : function
        The method.
    """

    def __init__(self, method: Callable[..., Any]):
        self._method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self._method if instance is None else MethodType(self._method, instance)

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = value
