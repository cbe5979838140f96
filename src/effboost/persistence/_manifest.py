"""The manifest of a model file: its members, and everything that is not an array."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._archive import Archive, digest
from effboost.persistence._json import check_fields, parse_json
from effboost.persistence._migrations import MIGRATIONS

__all__ = ["MANIFEST", "read_manifest", "read_member", "write_manifest"]

MANIFEST: Final = "manifest.json"
_FORMAT: Final = "effboost-model"
VERSION: Final = 2
_MAX_BYTES: Final = 2**22
_MADE_WITH: Final = ("effboost", "numpy", "scikit-learn", "torch", "torchvision", "xgboost")


def write_manifest(kind: str, model: dict[str, Any], members: Mapping[str, bytes]) -> bytes:
    """Write the manifest of a model and of the other members."""
    manifest = {
        "format": _FORMAT,
        "version": VERSION,
        "made_with": {name: version(name) for name in _MADE_WITH},
        "kind": kind,
        "model": model,
        "members": {
            name: {"size": len(content), "sha256": digest(content)}
            for name, content in members.items()
        },
    }
    content = json.dumps(manifest, indent=1, allow_nan=False).encode()
    if len(content) > _MAX_BYTES:
        raise RefusedError(
            f"its parameters and histories take {len(content):,} bytes; the limit is {_MAX_BYTES:,}"
        )
    return content


def read_manifest(archive: Archive) -> dict[str, Any]:
    """Read a manifest of this version or an older one, and migrate it to this version."""
    manifest = parse_json(archive.read(MANIFEST, _MAX_BYTES), MANIFEST)
    if manifest.get("format") != _FORMAT or type(manifest.get("version")) is not int:
        raise RefusedError(f"its {MANIFEST} is not that of a model")
    number, made_with = manifest["version"], manifest.get("made_with")
    if number > VERSION:
        newer = made_with.get("effboost") if isinstance(made_with, dict) else None
        raise RefusedError(
            f"has format {number}, of effboost {quote_name(str(newer))}; this is effboost "
            f"{version('effboost')}, which reads formats up to {VERSION}: update it"
        )
    if number < 1:
        raise RefusedError(f"has format {number}, which does not exist")
    for former in range(number, VERSION):
        manifest = MIGRATIONS[former](manifest)
    check_fields(
        manifest,
        MANIFEST,
        {
            "format": str,
            "version": int,
            "made_with": dict,
            "kind": str,
            "model": dict,
            "members": dict,
        },
    )
    _check_members(manifest["members"], archive.sizes)
    return manifest


def read_member(archive: Archive, manifest: dict[str, Any], name: str, limit: int) -> bytes:
    """Read a member and compare it with its hash."""
    content = archive.read(name, limit)
    if digest(content) != manifest["members"][name]["sha256"]:
        raise RefusedError(
            f"its member {quote_name(name)} is damaged: its SHA-256 is not the one in {MANIFEST}"
        )
    return content


def _check_members(listed: dict[str, Any], sizes: Mapping[str, int]) -> None:
    for name in sizes:
        if name not in listed and name != MANIFEST:
            raise RefusedError(f"its member {quote_name(name)} is not listed in {MANIFEST}")
    for name, entry in listed.items():
        what = f"{MANIFEST}: member {quote_name(name)}"
        check_fields(entry, what, {"size": int, "sha256": str})
        if name == MANIFEST or sizes.get(name) != entry["size"]:
            raise RefusedError(f"{what} is missing, or not of this size")
