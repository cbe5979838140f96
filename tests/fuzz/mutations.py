"""Damage, of the kinds that accidents do and of the kinds that attackers do."""

import io
import json
import struct
import zipfile

from common.model_files import read_members, write_members
from effboost.persistence._archive import write_archive

ODD_NUMBERS = (0, 1, 2, 127, 128, 255, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62)
ODD_VALUES = (
    None,
    True,
    -1,
    0,
    10**9,
    10**30,
    1e308,
    "",
    "x" * 1000,
    "../../x",
    "builtins.eval",
    [],
    {},
    [[]],
    {"dict": [[{}, {}]]},
    {"array": ["<U1000000000", ["x"]]},
)


def damage(content, rng, others):
    """Flip, overwrite, cut, repeat or splice bytes."""
    content = bytearray(content)
    kind = rng.choice(["flip", "flip", "overwrite", "number", "cut", "insert", "repeat", "splice"])
    at = rng.randrange(len(content) or 1)
    length = rng.choice([1, 2, 4, 16, 256])
    if kind == "flip":
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


def change_json(value, rng):
    """Replace, drop, repeat or rename one part somewhere in a tree of JSON."""
    places = []

    def walk(part):
        keys = part if isinstance(part, dict) else range(len(part))
        for key in keys:
            places.append((part, key))
            if isinstance(part[key], dict | list):
                walk(part[key])

    walk(value)
    if not places:
        return value
    part, key = rng.choice(places)
    kind = rng.choice(["odd", "odd", "other", "drop", "rename", "nest"])
    if kind == "odd":
        part[key] = rng.choice(ODD_VALUES)
    elif kind == "other":
        other, name = rng.choice(places)
        part[key] = json.loads(json.dumps(other[name]))
    elif kind == "drop":
        del part[key]
    elif kind == "rename" and isinstance(part, dict):
        part[rng.choice(["__class__", "x", "../x", "factory", "callbacks"])] = part.pop(key)
    else:
        for _ in range(rng.choice([1, 60, 400])):
            part[key] = [part[key]]
    return value


def change_model(content, rng, others):
    """Damage a model file's bytes, or one of its parts with all hashes put right."""
    if rng.random() < 0.3:
        return damage(content, rng, others)
    manifest, members = read_members(content)
    # Without a seed it is the network that most would hit: it is most of the file.
    name = rng.choice(["manifest.json", *members, *(set(members) - {"network.safetensors"})])
    if name == "manifest.json":
        manifest["model"] = change_json(manifest["model"], rng)
    elif name == "network.safetensors":
        members[name] = change_safetensors(members[name], rng, others)
    elif name.endswith(".skops"):
        members[name] = change_skops(members[name], rng, others)
    else:
        for _ in range(rng.choice([1, 1, 3])):
            members[name] = damage(members[name], rng, list(members.values())) or b"{"
    return write_members(manifest, members)


def change_safetensors(content, rng, others):
    """Change the header, or whatever is hit."""
    if rng.random() < 0.3:
        return damage(content, rng, others)
    length = int.from_bytes(content[:8], "little")
    header = change_json(json.loads(content[8 : 8 + length]), rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def change_skops(content, rng, others):
    """Change the tree of types or one of the arrays, and zip them again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if rng.random() < 0.6:
        schema = change_json(json.loads(members["schema.json"]), rng)
        members["schema.json"] = json.dumps(schema).encode()
    else:
        name = rng.choice([name for name in members if name.endswith(".npy")])
        at = rng.choice([0, 128])
        members[name] = members[name][:at] + damage(members[name][at:] or b"x", rng, others)
    stream = io.BytesIO()
    write_archive(stream, members)
    return stream.getvalue()
