"""Model files taken apart and put together again, with their hashes."""

import io
import json
import zipfile
from pathlib import Path

import pytest

import effboost
from common.networks import TinyNet
from effboost.exceptions import EffboostError, ModelFileError
from effboost.persistence._archive import digest, write_archive


def read_members(content):
    """Return manifest and members of a file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("manifest.json")), members


def write_members(manifest, members, *, rehash=True):
    """Return the file of a manifest and members, with repaired hashes if `rehash`."""
    if rehash:
        manifest = manifest | {
            "members": {
                name: {"size": len(part), "sha256": digest(part)} for name, part in members.items()
            }
        }
    stream = io.BytesIO()
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    write_archive(stream, {"manifest.json": text, **members})
    return stream.getvalue()


def edit(path, change):
    """Change a file in place: `change` edits manifest and members, or returns others."""
    manifest, members = read_members(path.read_bytes())
    changed = change(manifest, members) or (manifest, members)
    path.write_bytes(write_members(*changed))
    return path


def refuse(path, message, **options):
    """Check that loading a file is refused, and that nothing is written or changed."""
    before = sorted(path.parent.rglob("*")), Path.cwd(), path.is_file() and path.read_bytes()
    with pytest.raises(ModelFileError, match=message) as caught:
        effboost.load(path, **{"backbone": TinyNet} | options)
    assert caught.value.path == str(path)
    assert isinstance(caught.value, EffboostError)
    assert isinstance(caught.value, ValueError)
    after = sorted(path.parent.rglob("*")), Path.cwd(), path.is_file() and path.read_bytes()
    assert after == before
