"""Heads: boosters of XGBoost as UBJ, also inside others; all else by skops."""

from __future__ import annotations

import copy
import inspect
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator

from effboost._heads.booster import is_booster
from effboost._utils.compat import load_extra
from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._archive import write_archive
from effboost.persistence._boosters import build_booster, describe_booster
from effboost.persistence._checks import check_estimator, pin_jobs
from effboost.persistence._json import check_fields
from effboost.persistence._schemas import find_schema
from effboost.persistence._sklearn_types import FUNCTIONS, TYPES, public_module
from effboost.persistence._skops_schema import rebuild_skops

__all__ = ["MAX_BYTES", "BoosterSlot", "HeadFiles", "read_heads", "write_heads"]

MAX_BYTES: Final = 2**27
_SKOPS: Final = "heads.skops"
_PLACE: Final = re.compile(r'("__id__": |"file": ")(\d+)')
_ALSO_TRUSTED: Final = ("sklearn.tree._tree.Tree", "sklearn.utils.Bunch")
# Each takes some tenths of a millisecond to build.
_MAX_BOOSTERS: Final = 2_000

HeadFiles = dict[str, bytes]


class BoosterSlot:
    """Placeholder in a scikit-learn estimator for a booster, which is stored separately as UBJ.

    Parameters
    ----------
    number : int
        The number of the booster.
    """

    def __init__(self, number: int):
        self.number = number


def write_heads(heads: Mapping[str, Any]) -> tuple[dict[str, Any], HeadFiles, list[str]]:
    """Convert classifiers, fitted or not, to plain data and members of a model file.

    Parameters
    ----------
    heads : mapping of str to classifier or None
        By name.

    Returns
    -------
    description : dict
        "boosters": what `describe_booster` returns for each; "heads": for each name None, the
        number of a booster, or "skops".
    members : dict of str to bytes
        The boosters as UBJ, and the rest through skops.
    dropped : list of str
        Names of parameters that are code.
    """
    boosters = [part for part in _walk(dict(heads)) if is_booster(part)]
    described, members, dropped = [], {}, []
    for number, booster in enumerate(boosters):
        description, content, code = describe_booster(booster)
        described.append(description)
        dropped += code
        if content is not None:
            members[_member(number)] = content
    copied = copy.deepcopy(dict(heads), {id(part): part for part in boosters})
    dropped += _forget_random_states(copied)
    slots: dict[int, Any] = {id(part): BoosterSlot(i) for i, part in enumerate(boosters)}
    places: dict[str, Any] = {}
    rest = {}
    for name, head in copy.deepcopy(copied, slots).items():
        if head is None or isinstance(head, BoosterSlot):
            places[name] = None if head is None else head.number
        else:
            places[name], rest[name] = "skops", head
    if rest:
        members[_SKOPS] = _dump(rest)
    # What is written can be loaded.
    _check_parts(copied)
    return {"boosters": described, "heads": places}, members, dropped


def read_heads(description: Any, members: Mapping[str, bytes]) -> dict[str, Any]:
    """Build the classifiers that `write_heads` described.

    Raises
    ------
    RefusedError
        If something in them is unknown, or does not follow its schema.
    """
    what = "manifest.json: heads"
    check_fields(description, what, {"boosters": list, "heads": dict})
    if len(description["boosters"]) > _MAX_BOOSTERS:
        raise RefusedError(f"{what} have more than {_MAX_BOOSTERS:,} boosters")
    boosters = [
        build_booster(one, members.get(_member(number)), f"{what}: booster {number}")
        for number, one in enumerate(description["boosters"])
    ]
    expected = {_member(number) for number in range(len(boosters))} | {_SKOPS}
    for name in members:
        if name not in expected:
            raise RefusedError(f"its member {quote_name(name)} is not part of the model")
    rest = _load(members[_SKOPS], boosters) if _SKOPS in members else {}
    heads = {}
    for name, place in description["heads"].items():
        if place == "skops" and name in rest:
            heads[name] = rest[name]
        elif place is None or (type(place) is int and 0 <= place < len(boosters)):
            heads[name] = None if place is None else boosters[place]
        else:
            raise RefusedError(f"{what}: {quote_name(name)} does not exist")
    return heads


def _member(number: int) -> str:
    return f"booster-{number}.ubj"


def _walk(root: Any) -> Iterator[Any]:
    """Yield every object that can be reached from one, each once; nothing inside a booster."""
    seen, stack = {id(root)}, [root]
    while stack:
        part = stack.pop()
        yield part
        children: list[Any] = []
        if isinstance(part, dict):
            children = list(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            children = list(part)
        elif isinstance(part, np.ndarray):
            children = part.ravel().tolist() if part.dtype == object else []
        elif not isinstance(part, type) and not is_booster(part):
            children = list(getattr(part, "__dict__", {}).values())
        for child in reversed(children):
            if id(child) not in seen:
                seen.add(id(child))
                stack.append(child)


def _forget_random_states(heads: Any) -> list[str]:
    """Remove the states of random generators, and return the parameters that were such states."""
    parameters = []
    for part in _walk(heads):
        for name, value in list(getattr(part, "__dict__", {}).items()):
            if isinstance(value, np.random.RandomState | np.random.Generator):
                setattr(part, name, None)
                if isinstance(part, BaseEstimator) and name in part.get_params(deep=False):
                    parameters.append(name)
    return parameters


def _dump(heads: dict[str, Any]) -> bytes:
    """Write estimators by skops; the same ones give the same bytes."""
    skops = load_extra("skops.io", "persist")
    try:
        content = skops.dumps(heads)
    except Exception as error:  # of attributes that skops does not know
        raise RefusedError(f"the head cannot be written ({error})") from error
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
        schema = archive.read("schema.json").decode()
    # skops numbers objects by their addresses. From 1 on: it takes 0 for a missing number.
    places: dict[str, str] = {}
    schema = _PLACE.sub(lambda m: f"{m[1]}{places.setdefault(m[2], str(len(places) + 1))}", schema)
    schema = json.dumps(_name_publicly(json.loads(schema)), indent=2)
    renamed = {f"{places[name.removesuffix('.npy')]}.npy": part for name, part in arrays.items()}
    stream = io.BytesIO()
    write_archive(stream, {"schema.json": schema.encode(), **renamed})
    rebuild_skops(stream.getvalue())
    return stream.getvalue()


def _load(content: bytes, boosters: list[Any]) -> dict[str, Any]:
    skops = load_extra("skops.io", "persist")
    content = rebuild_skops(content)
    try:
        heads = skops.loads(content, trusted=sorted({*TYPES, *FUNCTIONS, *_ALSO_TRUSTED}))
    except Exception as error:  # parts of the right types that do not fit each other
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise RefusedError(f"{_SKOPS} is damaged ({reason})") from error
    slots = {}
    for part in _walk(heads):
        if isinstance(part, BaseEstimator):
            _add_parameters(part)
        elif isinstance(part, BoosterSlot):
            number = vars(part).get("number")
            if type(number) is not int or not 0 <= number < len(boosters):
                raise RefusedError(f"{_SKOPS} names a booster that does not exist")
            slots[id(part)] = boosters[number]
    loaded: dict[str, Any] = copy.deepcopy(heads, slots)
    _check_parts(loaded)
    for part in _walk(loaded):
        if isinstance(part, BaseEstimator):
            pin_jobs(part)
    return loaded


def _add_parameters(estimator: Any) -> None:
    """Set the parameters that its class did not have when an estimator was saved."""
    defaults = inspect.signature(type(estimator)).parameters
    for name in type(estimator)._get_param_names():
        if name not in vars(estimator):
            if defaults[name].default is inspect.Parameter.empty:
                raise RefusedError(f"a {type(estimator).__name__} has no {name}")
            setattr(estimator, name, defaults[name].default)


def _check_parts(heads: Any) -> None:
    """Check every estimator that can be reached from some heads."""
    for part in _walk(heads):
        if is_booster(part):
            continue
        if isinstance(part, BaseEstimator) or find_schema(type(part)) is not None:
            check_estimator(part)


def _name_publicly(schema: Any) -> Any:
    """Change the modules of all types in a schema to public ones, in place, and return it."""
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            stack += node.values()
            module, name = node.get("__module__"), node.get("__class__")
            if isinstance(module, str) and isinstance(name, str):
                node["__module__"] = public_module(module, name)
    return schema
