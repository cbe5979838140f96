"""JSON from strangers, and its parts checked for their kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError

__all__ = ["check_fields", "parse_json"]


def parse_json(text: bytes, what: str) -> dict[str, Any]:
    """Parse an object; nothing twice in it, and no NaN."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=refuse
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise RefusedError(f"{what} is damaged ({reason})") from error
    if not isinstance(value, dict):
        raise RefusedError(f"{what} is a {type(value).__name__}, not an object")
    return value


def check_fields(
    value: Any, what: str, needed: Mapping[str, Any], optional: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Check that an object has the fields that it must have, of their types, and no others."""
    if not isinstance(value, dict):
        raise RefusedError(f"{what} is a {type(value).__name__}, not an object")
    kinds = {**needed, **(optional or {})}
    for name in value:
        if name not in kinds:
            raise RefusedError(f"{what} has a field {quote_name(name)}, which is unknown")
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


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known = dict(pairs)
    if len(known) != len(pairs):
        raise ValueError("a name stands there twice")
    return known
