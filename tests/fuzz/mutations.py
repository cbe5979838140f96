"""Damage of the kinds that accidents do: to bytes, and to JSON."""

import json
import re
import struct

__all__ = ["ODD_VALUES", "change_json", "damage", "dumps", "list_places", "nested"]

ODD_NUMBERS = (0, 1, 2, 127, 128, 255, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62)
ODD_VALUES = (
    None,
    True,
    -1,
    0,
    3,
    10**9,
    10**30,
    1e308,
    0.5,
    "",
    "x" * 1000,
    "../../x",
    "builtins.eval",
    "ab\u202e",
    [],
    {},
    [[]],
    [6, 10**6, 10**9, 1],
    {"dict": [[{}, {}]]},
    {"float": "nan"},
    {"array": ["<U1000000000", ["x"]]},
    {"array": ["|O", ["x", 1]]},
)
ODD_NAMES = ("__class__", "__deepcopy__", "predict_proba", "x", "../x", "factory", "callbacks")
DEPTHS = (1, 60, 480, 700, 950, 5000)


def damage(content, rng, others):
    """Flip, overwrite, cut, repeat or splice bytes."""
    content = bytearray(content)
    kind = rng.choice(["flip", "flip", "overwrite", "number", "cut", "insert", "repeat", "splice"])
    at = rng.randrange(len(content) or 1)
    length = rng.choice([1, 2, 4, 16, 256])
    if kind == "flip" and content:
        for _ in range(rng.choice([1, 1, 2, 8])):
            place = rng.randrange(len(content))
            content[place] ^= 1 << rng.randrange(8)
    elif kind == "overwrite":
        content[at : at + length] = rng.randbytes(length)
    elif kind == "number":
        number, order = rng.choice(ODD_NUMBERS), rng.choice("<>")
        code, size = rng.choice([("B", 1), ("H", 2), ("I", 4), ("Q", 8)])
        content[at : at + size] = struct.pack(f"{order}{code}", number % 256**size)
    elif kind == "cut":
        del content[at : rng.choice([at + length, len(content)])]
    elif kind == "insert":
        content[at:at] = rng.randbytes(length)
    elif kind == "repeat":
        content[at:at] = content[at : at + length] * rng.choice([1, 2, 50])
    else:
        other = rng.choice(others)
        content = content[:at] + other[rng.randrange(len(other) or 1) :]
    return bytes(content)


def list_places(value):
    """List (container, key) of every part of a tree of JSON."""
    places, stack = [], [value]
    while stack:
        part = stack.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part))
        for key in keys:
            places.append((part, key))
            if isinstance(part[key], dict | list):
                stack.append(part[key])
    return places


def change_json(value, rng):
    """Replace, drop, repeat, rename or nest one part somewhere in a tree of JSON; return it."""
    places = list_places(value)
    if not places:
        return value
    part, key = rng.choice(places)
    kind = rng.choice(["odd", "odd", "other", "drop", "rename", "repeat", "nest"])
    if kind == "odd":
        part[key] = rng.choice(ODD_VALUES)
    elif kind == "other":
        other, name = rng.choice(places)
        part[key] = json.loads(json.dumps(other[name]))
    elif kind == "drop":
        del part[key]
    elif kind == "rename" and isinstance(part, dict):
        part[rng.choice(ODD_NAMES)] = part.pop(key)
    elif kind == "repeat" and isinstance(part, list):
        part.extend([part[key]] * rng.choice([1, 50]))
    else:
        part[key] = nested(rng.choice(DEPTHS))
    return value


def nested(depth):
    """Return what `dumps` writes as lists inside of each other: json.dumps has a limit."""
    return f"nested {depth} deep"


def dumps(value):
    """Write JSON, with what `nested` stands for."""
    text = re.sub(
        '"nested ([0-9]+) deep"',
        lambda found: "[" * int(found[1]) + "]" * int(found[1]),
        json.dumps(value),
    )
    return text.encode()
