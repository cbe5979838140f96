"""The tree of types in a skops file, checked and written again before skops reads it."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.tree import DecisionTreeClassifier

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._archive import Archive, write_archive
from effboost.persistence._json import parse_json, parse_scalar
from effboost.persistence._schemas import attribute_names
from effboost.persistence._sklearn_types import FORMER_MODULES, LOADERS, TREES

__all__ = ["rebuild_skops"]

_Node = dict[str, Any]

_FILE: Final = "heads.skops"
_MAX_BYTES: Final = 2**27
_MAX_MEMBERS: Final = 100_000
_MAX_SCHEMA: Final = 2**24
# A node takes two to three levels of JSON.
_MAX_DEPTH: Final = 64
_MAX_JSON_DEPTH: Final = 4 * _MAX_DEPTH
_MAX_TEXT: Final = 100_000
_MAX_SIDE: Final = 2**31
_NPY_HEADER: Final = 10_000
_PROTOCOL: Final = 2
_STRING_TYPE: Final = {"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"}


def rebuild_skops(content: bytes) -> bytes:
    """Check a skops file down to each array, and write the checked content to a new file.

    skops only reads the new file, so that it cannot interpret anything in the old one differently.
    The new file contains only types and attributes that effboost knows, with the current names of
    types. Objects that skops would share between two places are shared in only one way.

    Parameters
    ----------
    content : bytes
        The skops file.

    Returns
    -------
    bytes
        The new one.

    Raises
    ------
    RefusedError
        If something in it is unknown, damaged, or larger than it may be.
    """
    archive = Archive(io.BytesIO(content), max_members=_MAX_MEMBERS)
    text = archive.read("schema.json", _MAX_SCHEMA)
    schema = parse_json(text, f"{_FILE}: schema.json", _MAX_JSON_DEPTH)
    # Older protocols are read by other code of skops, which was not looked at here.
    if type(schema.get("protocol")) is not int or schema["protocol"] != _PROTOCOL:
        raise RefusedError(
            f"{_FILE} has protocol {str(schema.get('protocol'))[:20]!r}, not {_PROTOCOL}"
        )
    names = archive.sizes.keys() - {"schema.json"}
    members = {name: archive.read(name, _MAX_BYTES) for name in sorted(names)}
    reader = _SchemaReader(members)
    try:
        rebuilt = reader.read(schema, 0) | {"protocol": _PROTOCOL}
    except (AttributeError, KeyError, TypeError) as error:
        raise RefusedError(f"{_FILE}: schema.json lacks a part ({error})") from error
    if names - reader.used - _list_files(schema):
        raise RefusedError(f"{_FILE} has arrays that its schema does not name")
    stream = io.BytesIO()
    used = {name: members[name] for name in sorted(reader.used)}
    write_archive(stream, {"schema.json": json.dumps(rebuilt).encode(), **used})
    return stream.getvalue()


def _list_files(schema: _Node) -> set[str]:
    """List the arrays that nodes name; for trees in two places, skops writes and names two sets."""
    found: set[str] = set()
    stack: list[Any] = [schema]
    while stack:
        part = stack.pop()
        children = part.values() if isinstance(part, dict) else part
        stack += [child for child in children if isinstance(child, dict | list)]
        if isinstance(part, dict) and isinstance(part.get("file"), str):
            found.add(part["file"])
    return found


class _SchemaReader:
    """Reader of the nodes of a schema, which returns the nodes for skops.

    Attributes
    ----------
    used : set of str
        The members that arrays are read from.
    """

    def __init__(self, members: Mapping[str, bytes]):
        self._members = members
        self.used: set[str] = set()
        # What skops shares between places, by the number that both have: its type, and its file.
        self._shared: dict[int, tuple[str, str]] = {}
        self._open: set[int] = set()
        self._readers: dict[str, Callable[[_Node, str, int], _Node]] = {
            "DictNode": self._read_dict,
            "JsonNode": self._read_scalar,
            "ListNode": self._read_list,
            "NdArrayNode": self._read_array,
            "ObjectNode": self._read_object,
            "TupleNode": self._read_list,
        }

    def read(self, node: Any, depth: int, owner: str = "", key: str = "") -> _Node:
        """Read a node and all below it; the node is the attribute `key` of `owner`."""
        loader, name = node["__loader__"], _type_name(node)
        if depth > _MAX_DEPTH:
            raise RefusedError(f"{_FILE} is nested too deeply")
        if name not in LOADERS.get(loader, ()):
            raise RefusedError(
                f"{_FILE} contains a {quote_name(name)}, which is not among the types that "
                "effboost writes and reads. Heads that it can save are XGBoost's and the "
                "scikit-learn classifiers listed in the guide's page on files; joblib.dump saves "
                "any, as a pickle"
            )
        if loader == "FunctionNode" and key == "score_func":
            return _clean(node)
        if loader == "TreeNode" and owner in TREES and key == "tree_":
            return self._read_tree(node, depth)
        read = self._readers.get(loader)
        if read is None:
            raise RefusedError(f"{_FILE} has a {loader} where none may be")
        return read(node, name, depth)

    def _read_dict(self, node: _Node, name: str, depth: int) -> _Node:
        types = [_type_name(one) for one in node["key_types"]["content"]]
        content = node["content"]
        if not all(one in LOADERS["TypeNode"] for one in types) or len(types) != len(content):
            raise RefusedError(f"{_FILE} has a dictionary whose keys do not have types")
        if name != "builtins.dict":
            # A Bunch gives its keys as attributes.
            for key in content:
                _check_attribute(key, None, name)
        key_types = [_clean(one) for one in node["key_types"]["content"]]
        children = {key: self.read(child, depth + 1) for key, child in content.items()}
        return _dict(_clean(node), key_types, children)

    def _read_list(self, node: _Node, name: str, depth: int) -> _Node:
        if not isinstance(node["content"], list):
            raise RefusedError(f"{_FILE} has a list that is not one")
        return _clean(node) | {"content": [self.read(one, depth + 1) for one in node["content"]]}

    def _read_scalar(self, node: _Node, name: str, depth: int) -> _Node:
        return _clean(node) | {"content": json.dumps(_scalar(node)), "is_json": True}

    def _read_object(self, node: _Node, name: str, depth: int) -> _Node:
        place = node.get("__id__")
        clean = _clean(node)
        if type(place) is int and place > 0:
            clean["__id__"] = place
            if place in self._open:
                raise RefusedError(f"{_FILE} has an estimator inside itself")
            if self._is_known(place, (name, "")):
                return clean
            self._open.add(place)
        content = node["content"]
        known = attribute_names(name)
        for key in content["content"]:
            _check_attribute(key, known, name)
        children = {
            key: self.read(child, depth + 1, name, key) for key, child in content["content"].items()
        }
        if clean.get("__id__"):
            self._open.discard(clean["__id__"])
        attributes = {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode"}
        return clean | {"content": _dict(attributes, [_STRING_TYPE] * len(children), children)}

    def _read_array(self, node: _Node, name: str, depth: int) -> _Node:
        if node["type"] == "json":
            # Of objects: missing parameters, or names of features.
            scalars = [_scalar(one) for one in node["content"]]
            if len(node["shape"]["content"]) != 1 or name != "numpy.ndarray":
                raise RefusedError(f"{_FILE} has an array of objects of more than one dimension")
            shape = _tuple([_json(len(scalars))])
            content = [_json(value) for value in scalars]
            return _clean(node) | {"type": "json", "shape": shape, "content": content}
        file, place = node["file"], node.get("__id__")
        clean = _clean(node) | {"type": "numpy", "file": file}
        if type(place) is int and place > 0:
            clean["__id__"] = place
            if self._is_known(place, (name, file)):
                return clean
        dtype, sides, _ = self._look_at(file)
        if dtype.kind == "V" or (name != "numpy.ndarray" and sides != ()):
            raise RefusedError(f"{_FILE}: {quote_name(file)} is not a {name}")
        return clean

    def _is_known(self, place: int, what: tuple[str, str]) -> bool:
        known = place in self._shared
        if self._shared.setdefault(place, what) != what:
            raise RefusedError(f"{_FILE} has one number for two objects")
        return known

    def _look_at(self, file: str) -> tuple[np.dtype[Any], tuple[int, ...], bytes]:
        """Return dtype, shape and bytes of an array that belongs to one node only."""
        if file in self.used or file not in self._members:
            raise RefusedError(
                f"{_FILE}: the array {quote_name(str(file))} is missing or used twice"
            )
        self.used.add(file)
        content = self._members[file]
        return (*_check_npy(content, f"{_FILE}: {quote_name(file)}"), content)

    def _read_tree(self, node: _Node, depth: int) -> _Node:
        """Read a decision tree; building a tree from wrong parts would crash the process."""
        n_features, counts, n_outputs = node["__reduce__"]["args"]["content"]
        state = node["content"]["content"]
        if state.keys() != {"max_depth", "node_count", "nodes", "values"}:
            raise RefusedError(f"{_FILE} has a decision tree with other parts than trees have")
        numbers = [_scalar(one) for one in (n_features, n_outputs, state["node_count"])]
        dtype, shape, content = self._look_at(counts["file"])
        if dtype != np.int64 or shape != (1,):
            raise RefusedError(f"{_FILE} has a decision tree whose number of classes is missing")
        n_classes = int(np.load(io.BytesIO(content), allow_pickle=False)[0])
        nodes, values = (self._look_at(state[part]["file"])[:2] for part in ("nodes", "values"))
        n_nodes = nodes[1][0] if len(nodes[1]) == 1 else 0
        if (
            any(type(number) is not int for number in numbers)
            or numbers[0] < 1
            or numbers[1:] != [1, n_nodes]
            or n_classes < 1
            or n_nodes < 1
            or nodes[0] != _node_dtype()
            or values != (np.dtype(np.float64), (n_nodes, 1, n_classes))
        ):
            raise RefusedError(f"{_FILE} has a decision tree whose arrays do not fit each other")
        arguments = [_json(numbers[0]), _array(counts["file"]), _json(1)]
        parts = {
            "max_depth": _json(_scalar(state["max_depth"])),
            "node_count": _json(n_nodes),
            "nodes": _array(state["nodes"]["file"]),
            "values": _array(state["values"]["file"]),
        }
        attributes = {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode"}
        return _clean(node) | {
            "__reduce__": {"args": _tuple(arguments)},
            "content": _dict(attributes, [_STRING_TYPE] * len(parts), parts),
        }


def _type_name(node: Any) -> str:
    module, name = node["__module__"], node["__class__"]
    if not isinstance(module, str) or not isinstance(name, str):
        raise RefusedError(f"{_FILE} has a type without a name")
    return f"{FORMER_MODULES.get(module, module)}.{name}"


def _clean(node: Any) -> _Node:
    """Return the fields that name the type of a node, without its number and its content."""
    module, _, name = _type_name(node).rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": node["__loader__"]}


def _check_attribute(key: str, known: frozenset[str] | None, name: str) -> None:
    if key.startswith("__") or (known is not None and key not in known):
        raise RefusedError(f"{_FILE}: a {name} has no attribute {quote_name(key)}")


def _scalar(node: Any) -> Any:
    if node["__loader__"] != "JsonNode" or not isinstance(node["content"], str):
        raise RefusedError(f"{_FILE} has a {quote_name(str(node['__loader__']))} for a number")
    text = node["content"]
    if len(text) > _MAX_TEXT:
        raise RefusedError(f"{_FILE} has a text of {len(text):,} characters")
    return parse_scalar(text, f"a value in {_FILE}")


def _json(value: Any) -> _Node:
    node = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode"}
    return node | {"content": json.dumps(value), "is_json": True}


def _tuple(content: list[_Node]) -> _Node:
    node = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode"}
    return node | {"content": content}


def _array(file: str) -> _Node:
    node = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode"}
    return node | {"type": "numpy", "file": file}


def _dict(node: _Node, key_types: list[_Node], content: dict[str, _Node]) -> _Node:
    types = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    return node | {"key_types": types | {"content": key_types}, "content": content}


def _check_npy(content: bytes, what: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Check that an array is as large as its header says, and contains only numbers or text.

    Returns
    -------
    dtype : dtype
        Native, of at least one byte.
    shape : tuple of int
        The shape.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}[version]
        shape, _, dtype = read(stream, max_header_size=_NPY_HEADER)
    except Exception as error:  # its header is a Python literal, parsed as such
        raise RefusedError(f"{what} is not an array ({type(error).__name__})") from error
    if (
        dtype.hasobject
        or dtype.subdtype is not None
        or dtype.kind not in "biufUV"
        or dtype.itemsize < 1
        or not dtype.isnative
        or (dtype.kind == "V" and dtype != _node_dtype())
    ):
        raise RefusedError(f"{what} contains {str(dtype)[:80]}, not numbers")
    if not all(type(side) is int and 0 <= side <= _MAX_SIDE for side in shape) or len(shape) > 8:
        raise RefusedError(f"{what} has an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise RefusedError(f"{what} is not as large as its shape {shape} says")
    return dtype, shape


@cache
def _node_dtype() -> np.dtype[Any]:
    """Find the dtype of the nodes of scikit-learn's trees."""
    stump = DecisionTreeClassifier(max_depth=1).fit([[0], [1]], [0, 1])
    nodes: npt.NDArray[Any] = stump.tree_.__getstate__()["nodes"]
    return nodes.dtype
