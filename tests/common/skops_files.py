"""Skops files of heads taken apart and put together again."""

import io
import json
import zipfile

import numpy as np

from effboost.persistence._archive import write_archive

__all__ = ["read_skops", "write_npy", "write_skops"]


def read_skops(content):
    """Return the schema and the other members of a skops file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("schema.json")), members


def write_skops(schema, members):
    """Return the skops file of a schema, as JSON or as its text, and other members."""
    stream = io.BytesIO()
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    write_archive(stream, {"schema.json": text, **members})
    return stream.getvalue()


def write_npy(array):
    """Return an array as the bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
