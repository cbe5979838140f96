"""Model files changed as somebody would who knows the format, and repairs all hashes."""

import copy
import json

import numpy as np

from common.model_files import read_members, write_members
from common.skops_files import read_skops, write_skops
from common.ubjson import write_ubjson
from effboost._utils.refusal import RefusedError
from effboost.persistence._archive import digest
from effboost.persistence._sklearn_types import TYPES
from effboost.persistence._ubjson import parse_ubjson
from fuzz.arrays import change_array, change_npy
from fuzz.mutations import ODD_VALUES, change_json, damage, dumps, list_places, nested

__all__ = ["change_heads", "change_model"]

NETWORK = "network.safetensors"
# Attributes that would take the place of methods, or that Python calls.
SHADOWS = (
    "predict_proba",
    "predict",
    "decision_function",
    "get_params",
    "n_features_in_",
    "_validate_data",
    "__deepcopy__",
    "__reduce_ex__",
    "__getstate__",
    "__class__",
    "__dict__",
)
TEXTS = ("0", "-1", "1", "2", "3", "7", "1e30", "nan", "99999999", "1" * 30, "", "x", "[5E-1]")
SCALARS = ("null", "true", "-1", "0", "1", "3", "1000000000", "1e308", "NaN", '"x"', '"auto"')
OPTIONS = (
    ("inverted_residual_setting", [[6, 10**9, 1, 1]]),
    ("inverted_residual_setting", [[6, 16, 10**9, 1]]),
    ("inverted_residual_setting", [[6, 16, 1, 1]] * 2000),
    ("width_mult", 1e6),
    ("width_mult", 1e308),
    ("num_classes", 10**9),
    ("num_classes", -1),
    ("round_nearest", 0),
    ("round_nearest", 10**9),
    ("dropout", "x"),
    ("block", 1),
)
NAMES = ("swin_t", "vit_b_16", "maxvit_t", "regnet_y_400mf", "densenet121", "efficientnet_b7")
SIZES = (-1, 0, 1, 7, 33, 64, 1025, 2048, 8192, 10**9)


def change_model(content, rng, others):
    """Damage a model file's bytes, or one of its parts with all hashes repaired."""
    if rng.random() < 0.1:
        return damage(content, rng, others)
    manifest, members = read_members(content)
    heads = [name for name in members if name != NETWORK]
    name = rng.choice(["manifest.json", "manifest.json", NETWORK, *heads, *heads])
    if name == "manifest.json":
        manifest["model"] = _change_manifest(manifest["model"], rng)
    elif name == NETWORK:
        members[name] = _change_safetensors(members[name], rng, others)
    else:
        members[name] = _change_head(name, members[name], rng, others)
    listed = {name: {"size": len(m), "sha256": digest(m)} for name, m in members.items()}
    return write_members(dumps(manifest | {"members": listed}), members, rehash=False)


def change_heads(seed, rng, others):
    """Change the description of heads or one of their members."""
    description, members = json.loads(json.dumps(seed[0])), dict(seed[1])
    if not members or rng.random() < 0.1:
        return change_json(description, rng), members
    name = rng.choice(list(members))
    members[name] = _change_head(name, members[name], rng, list(members.values()))
    return description, members


def _change_head(name, content, rng, others):
    if rng.random() < 0.1:
        return damage(content, rng, others) or b"{"
    return _change_skops(content, rng) if name.endswith(".skops") else _change_booster(content, rng)


def _change_manifest(model, rng):
    """Change the settings of the network and its images, or anything."""
    kind = rng.choice(["any", "any", "any", "options", "size", "nested", "both"])
    parts = [model[name] for name in ("featurizer", "featurizer_") if model.get(name)] or [model]
    if kind == "options":
        option, value = rng.choice(OPTIONS)
        spec = {"name": rng.choice(["mobilenet_v2", "mobilenet_v2", *NAMES]), "weights": None}
        spec |= {"options": {"tuple": [{"tuple": [option, value]}]}}
        for part in parts:
            old = part["backbone"]["spec"] if isinstance(part["backbone"], dict) else {}
            part["backbone"] = {"spec": old | spec, "factory": False, "is_spec": True}
    elif kind == "size":
        size = rng.choice(SIZES)
        for part in parts:
            _transform_params(part.get("params", {}))["image_size"] = size
            part.get("params", {})["extra_features"] = rng.choice([None, "stages"])
            part.get("transform", {})["image_size"] = size
    elif kind == "nested":
        places = [(one, key) for one, key in list_places(model) if isinstance(one[key], list)]
        part, key = rng.choice(places)
        part[key] = nested(rng.randrange(480, 950))
    elif kind == "both":
        # The same in both featurizers, so that nothing contradicts it.
        name, value = rng.choice(list(parts[-1]["params"])), rng.choice(ODD_VALUES)
        for part in parts:
            if isinstance(part.get("params"), dict) and name != "runtime":
                part["params"][name] = value
    else:
        return change_json(model, rng)
    return model


def _change_safetensors(content, rng, others):
    """Change the header or the values of tensors."""
    if rng.random() < 0.2:
        return damage(content, rng, others)
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    if rng.random() < 0.5:
        name = rng.choice(list(header))
        start, end = header[name]["data_offsets"]
        dtype = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}[header[name]["dtype"]]
        values = np.frombuffer(bytes(data[start:end]), dtype)
        changed = change_array(values, rng)
        if changed.dtype == values.dtype and changed.shape == values.shape:
            data[start:end] = changed.tobytes()
    elif rng.random() < 0.3:
        name = rng.choice(list(header))
        header[name]["shape"] = rng.choice([[10**3000] * 50, [2**62, 2**62, 0], [1] * 2000, [-1]])
    else:
        header = change_json(header, rng)
    text = dumps(header)
    return len(text).to_bytes(8, "little") + text + bytes(data)


def _change_skops(content, rng):
    """Change the attributes of an estimator, the values of an array, or the schema."""
    schema, members = read_skops(content)
    kind = rng.choice(["array"] * 5 + ["attribute"] * 3 + ["scalar"] * 2 + ["class", "number"])
    if kind == "array" and members:
        name = rng.choice(sorted(members))
        members[name] = change_npy(members[name], rng)
        return write_skops(dumps(schema), members)
    nodes = [part[key] for part, key in list_places(schema) if isinstance(part[key], dict)]
    nodes = [node for node in nodes if "__loader__" in node]
    objects = [node for node in nodes if node["__loader__"] == "ObjectNode" and "content" in node]
    if kind == "attribute" and objects:
        _change_attributes(rng.choice(objects)["content"]["content"], rng, nodes)
    elif kind == "scalar":
        scalars = [node for node in nodes if node["__loader__"] == "JsonNode"]
        rng.choice(scalars)["content"] = rng.choice((*SCALARS, "[" * 900 + "]" * 900))
    elif kind == "class":
        module, _, name = rng.choice(sorted(TYPES)).rpartition(".")
        node = rng.choice(objects or nodes)
        node["__module__"], node["__class__"] = module, name
    elif kind == "number":
        rng.choice(nodes)["__id__"] = rng.choice(nodes).get("__id__")
    else:
        schema = change_json(schema, rng)
    return write_skops(dumps(schema), members)


def _change_attributes(attributes, rng, nodes):
    names = list(attributes) or ["x"]
    how = rng.choice(["drop", "shadow", "replace", "swap", "rename", "unfit"])
    if how == "drop":
        attributes.pop(rng.choice(names), None)
    elif how == "shadow":
        attributes[rng.choice(SHADOWS)] = copy.deepcopy(rng.choice(nodes))
    elif how == "replace":
        attributes[rng.choice(names)] = copy.deepcopy(rng.choice(nodes))
    elif how == "swap":
        one, other = rng.choice(names), rng.choice(names)
        attributes[one], attributes[other] = attributes.get(other), attributes.get(one)
    elif how == "rename":
        attributes[rng.choice((*SHADOWS, *names))] = attributes.pop(rng.choice(names), None)
    else:
        for name in names:
            if name.endswith("_"):
                attributes.pop(name)


def _change_booster(content, rng):
    """Change a number, an array or a field of a booster."""
    try:
        model = parse_ubjson(content)
    except RefusedError:
        return content[:-1]
    kind = rng.choice(["array", "array", "array", "text", "text", "chain", "field"])
    places = list_places(model)
    arrays = [(part, key) for part, key in places if isinstance(part[key], np.ndarray)]
    texts = [(part, key) for part, key in places if isinstance(part[key], str)]
    if kind == "array" and arrays:
        part, key = rng.choice(arrays)
        part[key] = _as_ubjson(change_array(part[key], rng))
    elif kind == "chain" and "trees" in str(model["learner"]["gradient_booster"].get("model", {})):
        trees = model["learner"]["gradient_booster"]["model"].get("trees", [])
        if trees:
            _grow_chain(rng.choice(trees), rng.choice([600, 40_000]))
    elif kind == "text":
        part, key = rng.choice(texts)
        part[key] = rng.choice(TEXTS)
        if rng.random() < 0.5:
            # The same number everywhere, so that nothing contradicts it.
            for other, name in texts:
                if name == key:
                    other[name] = part[key]
    else:
        part, key = rng.choice(places)
        part[key] = rng.choice([value for value in ODD_VALUES if value != 10**30])
    return write_ubjson(model)


def _as_ubjson(array):
    """Return an array of a dtype that a booster can have, or a list."""
    codes = {"i1", "u1", "i2", "i4", "i8", "f4", "f8"}
    if array.ndim != 1:
        array = array.reshape(-1)
    if array.dtype.str[1:] not in codes:
        return [str(value) for value in array.tolist()]
    return array.astype(array.dtype.newbyteorder(">"))


def _grow_chain(tree, depth):
    """Make a tree one in which every second node is a leaf."""
    n = 2 * depth + 1
    left = np.full(n, -1)
    left[:-1:2] = np.arange(1, n - 1, 2)
    inner = np.flatnonzero(left >= 0)
    right = np.where(left == -1, -1, left + 1)
    parents = np.full(n, 2**31 - 1)
    parents[left[inner]] = parents[right[inner]] = inner
    whole = {"left_children": left, "right_children": right, "parents": parents}
    tree |= {name: values.astype(">i4") for name, values in whole.items()}
    for name in ("base_weights", "loss_changes", "split_conditions", "sum_hessian"):
        tree[name] = np.zeros(n, ">f4")
    tree["split_indices"] = np.zeros(n, ">i4")
    tree["default_left"] = tree["split_type"] = np.zeros(n, "u1")
    tree["tree_param"]["num_nodes"] = str(n)


def _transform_params(params):
    """Return the parameters of the transform; files of format 1 have them among the others."""
    group = params.get("transform")
    return next(iter(group.values())) if isinstance(group, dict) and group else params
