"""Heads: XGBoost's as UBJ, scikit-learn's through skops, and boosters inside of those apart."""

from __future__ import annotations

import copy
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from effboost._utils.compat import load_extra
from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._archive import Archive, write_archive
from effboost.persistence._boosters import build_booster, describe_booster, is_booster
from effboost.persistence._checks import check_numbers
from effboost.persistence._json import check_fields, parse_json
from effboost.persistence._sklearn_types import (
    FORMER_MODULES,
    FUNCTIONS,
    LOADERS,
    TREES,
    TYPES,
    public_module,
)

__all__ = ["MAX_BYTES", "BoosterSlot", "HeadFiles", "read_heads", "write_heads"]

MAX_BYTES: Final = 2**27
_SKOPS: Final = "heads.skops"
_MAX_ARRAYS: Final = 100_000
_MAX_SCHEMA: Final = 2**24
_MAX_DEPTH: Final = 200
_NPY_HEADER: Final = 10_000
_PROTOCOL: Final = 2
_PLACE: Final = re.compile(r'("__id__": |"file": ")(\d+)')
_ALSO_TRUSTED: Final = ("sklearn.tree._tree.Tree", "sklearn.utils.Bunch")

HeadFiles = dict[str, bytes]


class BoosterSlot:
    """Stands in a scikit-learn estimator for one of XGBoost's, which lies beside it as UBJ.

    Parameters
    ----------
    number : int
        Which one.
    """

    def __init__(self, number: int):
        self.number = number


def write_heads(heads: Mapping[str, Any]) -> tuple[dict[str, Any], HeadFiles, list[str]]:
    """Describe classifiers, fitted or not, by plain data and members of a model file.

    Parameters
    ----------
    heads : mapping of str to classifier or None
        By name.

    Returns
    -------
    description : dict
        "boosters": what `describe_booster` gives for each; "heads": for each name None, the number
        of a booster, or "skops".
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
    slots: dict[int, Any] = {id(part): BoosterSlot(i) for i, part in enumerate(boosters)}
    places: dict[str, Any] = {}
    rest = {}
    for name, head in copy.deepcopy(dict(heads), slots).items():
        if head is None or isinstance(head, BoosterSlot):
            places[name] = None if head is None else head.number
        else:
            places[name], rest[name] = "skops", head
    if rest:
        members[_SKOPS] = _dump(rest)
    return {"boosters": described, "heads": places}, members, dropped


def read_heads(description: Any, members: Mapping[str, bytes]) -> dict[str, Any]:
    """Make the classifiers that `write_heads` described.

    Raises
    ------
    RefusedError
        If something in them is not known to be harmless.
    """
    what = "manifest.json: heads"
    check_fields(description, what, {"boosters": list, "heads": dict})
    boosters = [
        build_booster(one, members.get(_member(number)), f"{what}: booster {number}")
        for number, one in enumerate(description["boosters"])
    ]
    expected = {_member(number) for number in range(len(boosters))} | {_SKOPS}
    for name in members:
        if name not in expected:
            raise RefusedError(f"its member {quote_name(name)} belongs to nothing")
    rest = _load(members[_SKOPS], boosters) if _SKOPS in members else {}
    heads = {}
    for name, place in description["heads"].items():
        if place == "skops" and name in rest:
            heads[name] = rest[name]
        elif place is None or (type(place) is int and 0 <= place < len(boosters)):
            heads[name] = None if place is None else boosters[place]
        else:
            raise RefusedError(f"{what}: {quote_name(name)} is not there")
    return heads


def _member(number: int) -> str:
    return f"booster-{number}.ubj"


def _walk(root: Any) -> Iterator[Any]:
    """Give every object that is reached from one, each once; nothing inside a booster."""
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


def _dump(heads: dict[str, Any]) -> bytes:
    """Write estimators by skops, the same ones as the same bytes."""
    skops = load_extra("skops.io", "persist")
    for part in _walk(heads):
        check_numbers(part)
        # A stream of random numbers is no part of what was learned, and native code trusts it.
        for name, value in list(getattr(part, "__dict__", {}).items()):
            if isinstance(value, np.random.RandomState | np.random.Generator):
                setattr(part, name, None)
    try:
        content = skops.dumps(heads)
    except Exception as error:  # whatever an attribute that skops does not know leads to
        raise RefusedError(f"the head cannot be written ({error})") from error
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
        schema = archive.read("schema.json").decode()
    # skops numbers things by their places in memory. From 1 on, for 0 is no number to it.
    places: dict[str, str] = {}
    schema = _PLACE.sub(lambda m: f"{m[1]}{places.setdefault(m[2], str(len(places) + 1))}", schema)
    schema = json.dumps(_rename_modules(json.loads(schema), public_module), indent=2)
    renamed = {f"{places[name.removesuffix('.npy')]}.npy": part for name, part in arrays.items()}
    stream = io.BytesIO()
    write_archive(stream, {"schema.json": schema.encode(), **renamed})
    _audit(stream)
    return stream.getvalue()


def _load(content: bytes, boosters: list[Any]) -> dict[str, Any]:
    skops = load_extra("skops.io", "persist")
    content = _with_public_names(content)
    _audit(io.BytesIO(content))
    try:
        heads = skops.loads(content, trusted=sorted({*TYPES, *FUNCTIONS, *_ALSO_TRUSTED}))
    except Exception as error:  # parts of the right types that do not fit together
        raise RefusedError(f"{_SKOPS} is damaged ({type(error).__name__}: {error})") from error
    slots = {}
    for part in _walk(heads):
        if isinstance(part, BoosterSlot):
            number = vars(part).get("number")
            if type(number) is not int or not 0 <= number < len(boosters):
                raise RefusedError(f"{_SKOPS} asks for a booster that there is not")
            slots[id(part)] = boosters[number]
        else:
            check_numbers(part)
    loaded: dict[str, Any] = copy.deepcopy(heads, slots)
    if type(loaded) is not dict:
        raise RefusedError(f"{_SKOPS} is damaged: it holds no heads")
    return loaded


def _with_public_names(content: bytes) -> bytes:
    """Return what skops wrote with its types named as they are today."""
    archive = Archive(io.BytesIO(content), max_members=_MAX_ARRAYS)
    schema = parse_json(archive.read("schema.json", _MAX_SCHEMA), f"{_SKOPS}: schema.json")
    _rename_modules(schema, lambda module, name: FORMER_MODULES.get(module, module))
    members = {name: archive.read(name, MAX_BYTES) for name in archive.sizes}
    stream = io.BytesIO()
    write_archive(stream, members | {"schema.json": json.dumps(schema).encode()})
    return stream.getvalue()


def _rename_modules(schema: Any, rename: Callable[[str, str], str]) -> Any:
    """Change the modules of all types in a schema, in place, and return it."""
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            stack += node.values()
            module, name = node.get("__module__"), node.get("__class__")
            if isinstance(module, str) and isinstance(name, str):
                node["__module__"] = rename(module, name)
    return schema


def _audit(stream: io.BytesIO) -> None:
    """Check what skops would do, before it does it: loaders, types, and the sizes of arrays."""
    archive = Archive(stream, max_members=_MAX_ARRAYS)
    schema = parse_json(archive.read("schema.json", _MAX_SCHEMA), f"{_SKOPS}: schema.json")
    # Its older protocols are read by other code than was looked at here.
    if type(schema.get("protocol")) is not int or schema["protocol"] != _PROTOCOL:
        raise RefusedError(f"{_SKOPS} has protocol {schema.get('protocol')!r}, not {_PROTOCOL}")
    audit = _SchemaAudit()
    try:
        audit.check(schema)
    except (AttributeError, KeyError, TypeError) as error:
        raise RefusedError(f"{_SKOPS}: schema.json lacks a part ({error})") from error
    if audit.arrays | {"schema.json"} != archive.sizes.keys():
        raise RefusedError(f"{_SKOPS} has arrays too many, or too few")
    for name in sorted(audit.arrays):
        _check_npy(archive.read(name, MAX_BYTES), f"{_SKOPS}: {name}")


class _SchemaAudit:
    """Walks what skops would make, and refuses what it should not.

    Attributes
    ----------
    arrays : set of str
        The members that arrays are read from.
    """

    def __init__(self) -> None:
        self.arrays: set[str] = set()
        self._known: dict[Any, tuple[str, str]] = {}
        self._unshared: set[Any] = set()

    def check(self, node: Any, depth: int = 0, owner: str = "", key: str = "") -> None:
        """Check a node, and all below it.

        `owner` is the estimator whose attributes stand in this node or, with `key`, whose
        attribute of that name it is.
        """
        loader, name = node["__loader__"], f"{node['__module__']}.{node['__class__']}"
        if depth > _MAX_DEPTH:
            raise RefusedError(f"{_SKOPS} is nested too deeply")
        if name not in LOADERS.get(loader, ()):
            raise RefusedError(
                f"{_SKOPS} holds a {quote_name(name)}, which is not among the types that "
                "effboost writes and reads; heads that it keeps are XGBoost's and the scikit-learn "
                "classifiers of the guide's page on files. joblib.dump keeps any, as a pickle"
            )
        self._check_sharing(node, loader, name, attributes=owner in TREES and not key)
        # Only where it is somebody's tree is it compared with the features of its owner.
        if loader == "TreeNode" and (owner not in TREES or key != "tree_"):
            raise RefusedError(f"{_SKOPS} has a tree without a classifier around it")
        if loader == "NdArrayNode" and node["type"] != "json":
            self.arrays.add(node["file"])
        inside = owner if loader == "DictNode" and not key else ""
        for part, child in _children(node, loader):
            below = name if loader == "ObjectNode" else inside
            self.check(child, depth + 1, below, part if below == inside else "")

    def _check_sharing(self, node: Any, loader: str, name: str, *, attributes: bool) -> None:
        """Check that two places share what they may: skops takes the first for both, unseen."""
        place = node.get("__id__")
        if not place:
            return
        shared = place in self._known
        if self._known.setdefault(place, (loader, name)) != (loader, name):
            raise RefusedError(f"{_SKOPS} has one place for two things")
        if (shared and attributes) or place in self._unshared:
            raise RefusedError(f"{_SKOPS} shares the attributes of a classifier")
        if attributes:
            self._unshared.add(place)


def _children(node: Any, loader: str) -> list[tuple[str, Any]]:
    """Give the nodes below one, with the names that they have in a dictionary."""
    content = node.get("content")
    if loader == "DictNode":
        return [("", node["key_types"]), *content.items()]
    if loader in ("ListNode", "TupleNode"):
        return [("", child) for child in content]
    if loader == "ObjectNode":
        return [] if content is None else [("", content)]
    if loader == "TreeNode":
        return [("", content), ("", node["__reduce__"]["args"])]
    if loader == "NdArrayNode" and node["type"] == "json":
        return [("", node["shape"]), *(("", child) for child in content)]
    return []


def _check_npy(content: bytes, what: str) -> None:
    """Check that an array is as large as it says, and holds no objects."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}[version]
        shape, _, dtype = read(stream, max_header_size=_NPY_HEADER)
    except Exception as error:  # its header is a Python literal, parsed as such
        raise RefusedError(f"{what} is no array ({type(error).__name__})") from error
    if dtype.hasobject or dtype.kind not in "biufUV" or any(side < 0 for side in shape):
        raise RefusedError(f"{what} holds {dtype}, not numbers")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise RefusedError(f"{what} is not as large as its shape {shape} says")
