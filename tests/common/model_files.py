"""Model files taken apart and put together again, hashes and all."""

import io
import json
import zipfile

from effboost.persistence._archive import digest, write_archive


def read_members(content):
    """Return manifest and members of a file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("manifest.json")), members


def write_members(manifest, members, *, rehash=True):
    """Return the file of a manifest and members; with the hashes that an attacker would write."""
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
    """Change a file in place: `change` gets manifest and members, and gives or edits them."""
    manifest, members = read_members(path.read_bytes())
    changed = change(manifest, members) or (manifest, members)
    path.write_bytes(write_members(*changed))
    return path
