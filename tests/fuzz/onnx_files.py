"""ONNX files changed field by field, and in ways that readers of Protocol Buffers differ on."""

from effboost.onnx._wire import _MESSAGES, _fields, _varint
from fuzz.mutations import damage

__all__ = ["change_onnx"]

OUTSIDE = b"\x0a\x08location\x12\x06passwd"
# What an export does not have: the message, a field, and its content.
FOREIGN = (
    ("tensor", 13, OUTSIDE),
    ("tensor", 14, 1),
    ("tensor", 1, 10**10),
    ("tensor", 3, b""),
    ("model", 25, b"\x0a\x01f"),
    ("model", 20, b""),
    ("node", 7, b"com.microsoft"),
    ("node", 8, b"x"),
    ("graph", 15, b""),
    ("attribute", 21, b"x"),
    ("attribute", 22, b""),
)
NUMBERS = (0, 1, 2, 3, 7, 255, 10**6, 2**31 - 1, 2**31, 2**32, 10**10, 2**63, 2**64 - 1)


def change_onnx(content, rng, others):
    """Damage a file's bytes, or change fields of its messages."""
    if rng.random() < 0.15:
        return damage(content, rng, others)
    model = _parse(memoryview(content), "model")
    for _ in range(rng.choice([1, 1, 2])):
        _change(model, rng)
    return _write(model)


def _parse(data, message):
    """Return a message as a list of [number, wire type, content, bits that hide its tag]."""
    fields = []
    for number, wire, value in _fields(data):
        kind = _MESSAGES[message].get(number, "bytes").removesuffix("*")
        if kind in _MESSAGES:
            fields.append([number, wire, (kind, _parse(value, kind)), 0])
        else:
            fields.append([number, wire, value if isinstance(value, int) else bytes(value), 0])
    return fields


def _write(fields):
    parts = []
    for number, wire, value, hidden in fields:
        parts.append(_varint((number << 3 | wire) + hidden))
        content = _write(value[1]) if isinstance(value, tuple) else value
        if isinstance(content, int):
            parts.append(_varint(content % 2**64))
        else:
            parts += [_varint(len(content)), content] if wire == 2 else [content]
    return b"".join(parts)


def _list_messages(fields, message="model"):
    found = [(message, fields)]
    for _, _, value, _ in fields:
        if isinstance(value, tuple):
            found += _list_messages(value[1], value[0])
    return found


def _change(model, rng):
    messages = _list_messages(model)
    # Without a choice of its kind, it would be an axis most times.
    kind = rng.choice(sorted({kind for kind, _ in messages}))
    fields = rng.choice([fields for name, fields in messages if name == kind])
    how = rng.choice(["foreign", "hide", "drop", "twice", "number", "bytes", "swap", "field"])
    if how == "foreign" or not fields:
        wanted, number, value = rng.choice(FOREIGN)
        places = [one for kind, one in messages if kind == wanted] or [fields]
        wire = 0 if isinstance(value, int) else 2
        hidden = rng.choice([0, 2**32, 2**35, 2**60])
        rng.choice(places).append([number, wire, value, hidden])
        return
    field = rng.choice(fields)
    if how == "hide":
        field[3] = 2 ** rng.choice([32, 40, 63])
    elif how == "drop":
        fields.remove(field)
    elif how == "twice":
        fields.append(field)
    elif how == "field":
        field[0] = rng.randrange(30)
    elif how == "swap":
        other = rng.choice(rng.choice(messages)[1] or [field])
        field[2], other[2], field[1], other[1] = other[2], field[2], other[1], field[1]
    elif isinstance(field[2], int):
        field[2] = rng.choice(NUMBERS)
    elif isinstance(field[2], bytes) and field[1] == 2:
        field[2] = damage(field[2] or b"x", rng, [b"1", b"[1, 2]", b'["a", "b", "c"]', bytes(100)])
    elif isinstance(field[2], bytes):
        field[2] = rng.randbytes(len(field[2]))
