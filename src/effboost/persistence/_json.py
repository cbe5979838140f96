"""Untrusted JSON, and checks of the types of its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError

__all__ = ["MAX_DEPTH", "check_fields", "parse_json", "parse_scalar"]

# A manifest nests some ten deep. What reads it further may call itself once or twice a level.
MAX_DEPTH: Final = 64
# Those of 64 bits. Python multiplies longer ones, and takes its time.
_MAX_DIGITS: Final = 20


def parse_json(text: bytes, what: str, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Parse an object without duplicate names, NaN, long integers or deep nesting.

    Parameters
    ----------
    text : bytes
        The JSON, in UTF-8.
    what : str
        Its name in error messages.
    max_depth : int, default=64
        How deep its lists and objects may be nested.

    Raises
    ------
    RefusedError
        If it is something else.
    """
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise RefusedError(f"{what} is damaged ({reason})") from error
    if not isinstance(value, dict):
        raise RefusedError(f"{what} is a {type(value).__name__}, not an object")
    _check_depth(value, what, max_depth)
    return value


def parse_scalar(text: str, what: str) -> float | str | None:
    """Parse a number, a string, true, false or null; NaN and infinity are allowed.

    Raises
    ------
    RefusedError
        If it is something else.
    """
    try:
        value = json.loads(text, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{what} is damaged ({error})") from error
    if isinstance(value, list | dict):
        raise RefusedError(f"{what} is a {type(value).__name__}, not a number or a string")
    scalar: float | str | None = value
    return scalar


def check_fields(
    value: Any, what: str, needed: Mapping[str, Any], optional: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Check that an object has all needed fields, no unknown ones, and each of its type."""
    if not isinstance(value, dict):
        raise RefusedError(f"{what} is a {type(value).__name__}, not an object")
    kinds = {**needed, **(optional or {})}
    for name in value:
        if name not in kinds:
            raise RefusedError(f"{what} has an unknown field {quote_name(name)}")
    for name in needed:
        if name not in value:
            raise RefusedError(f"{what} has no field {name!r}")
    for name, field in value.items():
        kind = kinds[name]
        allowed = kind if isinstance(kind, tuple) else (kind,)
        # Not isinstance: True would be an integer.
        if type(field) not in allowed:
            wanted = " or ".join(one.__name__ for one in allowed)
            raise RefusedError(f"{what}: {name} is a {type(field).__name__}, not {wanted}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer has {len(digits)} digits")
    return int(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known = dict(pairs)
    if len(known) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return known


def _check_depth(value: Any, what: str, limit: int) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > limit:
            raise RefusedError(f"{what} is nested more than {limit} deep")
        level = [
            child
            for part in level
            for child in (part.values() if isinstance(part, dict) else part)
            if isinstance(child, dict | list)
        ]
