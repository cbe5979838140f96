"""Zip files in one strict form: uncompressed members, one after the other, nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO, Final

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError

__all__ = ["Archive", "digest", "write_archive"]

_END: Final = struct.Struct("<4s4H2LH")
_LOCAL_HEADER: Final = 30
_DIRECTORY_ENTRY: Final = 46
_MAX_NAME: Final = 64
_UNIX: Final = 3
_MEMBER: Final = re.compile(r"[a-z0-9][a-z0-9_-]*\.[a-z]+")
_STAMP: Final = (1980, 1, 1, 0, 0, 0)
_FIXED: Final = (
    "create_system",
    "create_version",
    "date_time",
    "external_attr",
    "extract_version",
    "internal_attr",
    "volume",
)


class Archive:
    """The members of a zip file, each read whole and within a limit.

    Members are stored uncompressed, one directly after the other. So no member is larger than the
    file, members do not overlap, and every byte belongs to a member. A valid zip file is refused if
    it differs in any byte from what `write_archive` writes for the same members.

    Parameters
    ----------
    stream : binary file
        Opened for reading, and seekable.
    max_members : int
        How many members it may have.

    Raises
    ------
    RefusedError
        If it is another kind of zip file, or damaged.
    """

    def __init__(self, stream: BinaryIO, *, max_members: int):
        end = _find_directory(stream, max_members)
        try:
            self._zip = zipfile.ZipFile(stream)
        # zipfile raises many kinds of exceptions for damaged directories.
        except Exception as error:
            raise RefusedError(f"its directory is damaged ({error})") from error
        self._members = _check_layout(self._zip.infolist(), end)
        self._check_headers(stream, end)

    def _check_headers(self, stream: BinaryIO, end: int) -> None:
        """Check the parts of both headers of each member that zipfile does not check."""
        stream.seek(end)
        for name, info in self._members.items():
            expected = _describe(name)
            entry = stream.read(_DIRECTORY_ENTRY + len(name))
            same = all(getattr(info, field) == getattr(expected, field) for field in _FIXED)
            same = same and not any(entry[30:34])  # lengths of parts that members do not have
            place = stream.tell()
            stream.seek(info.header_offset)
            # Both headers have the same numbers and the name, in the same order.
            header = stream.read(_LOCAL_HEADER + len(name))
            if not same or header[4:] != entry[6:32] + entry[_DIRECTORY_ENTRY:]:
                raise RefusedError(f"the header of its member {quote_name(name)} is damaged")
            stream.seek(place)

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each member in bytes."""
        return {name: info.file_size for name, info in self._members.items()}

    def read(self, name: str, limit: int) -> bytes:
        """Read a member of at most `limit` bytes."""
        info = self._members.get(name)
        if info is None:
            raise RefusedError(f"it has no member {quote_name(name)}")
        if info.file_size > limit:
            raise RefusedError(
                f"its member {quote_name(name)} has {info.file_size:,} bytes; the limit is "
                f"{limit:,}"
            )
        try:
            return self._zip.read(info)
        except Exception as error:
            raise RefusedError(f"its member {quote_name(name)} is damaged ({error})") from error


def write_archive(stream: BinaryIO, members: Mapping[str, bytes]) -> None:
    """Write members in the form that `Archive` reads; the same members give the same bytes."""
    try:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            for name, content in members.items():
                archive.writestr(_describe(name), content)
    except (zipfile.LargeZipFile, struct.error) as error:
        raise RefusedError("the model is larger than 4 GB, the limit of the format") from error


def _describe(name: str) -> zipfile.ZipInfo:
    """Build the directory entry of a member, without a date or anything of this machine."""
    info = zipfile.ZipInfo(name, _STAMP)
    info.create_system, info.external_attr = _UNIX, 0o600 << 16
    return info


def digest(content: bytes) -> str:
    """Compute the SHA-256 of some bytes, as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _find_directory(stream: BinaryIO, max_members: int) -> int:
    """Find where the directory starts, and check its size before zipfile reads it."""
    size = stream.seek(0, os.SEEK_END)
    if size < _END.size:
        raise RefusedError(f"it is truncated: a zip file has more than {size} bytes")
    stream.seek(max(0, size - _END.size - 20))
    tail = stream.read()
    signature, *disks, n_members, length, start, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\5\6" or comment or disks != [0, 0, n_members]:
        raise RefusedError("it is truncated, or something was appended to it")
    if n_members > max_members:
        raise RefusedError(f"it has {n_members:,} members; the limit is {max_members:,}")
    # zipfile reads the whole directory, however many entries it is said to have.
    if length > n_members * (_DIRECTORY_ENTRY + _MAX_NAME):
        raise RefusedError(f"its directory of {length:,} bytes has more than {n_members:,} entries")
    if start + length + _END.size != size or tail[-_END.size - 20 :].startswith(b"PK\6\7"):
        raise RefusedError("its directory is not where its last record says")
    return int(start)


def _check_layout(infos: list[zipfile.ZipInfo], end: int) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    place = 0
    for info in infos:
        name, shown = info.orig_filename, quote_name(info.orig_filename)
        if not _MEMBER.fullmatch(name):
            raise RefusedError(f"its member {shown} has an invalid name")
        if name in members:
            raise RefusedError(f"its member {shown} appears twice")
        if info.flag_bits & 1:
            raise RefusedError(f"its member {shown} is encrypted")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise RefusedError(
                f"its member {shown} is compressed; model files store members uncompressed"
            )
        if info.header_offset != place or info.flag_bits or info.extra or info.comment:
            raise RefusedError(f"its member {shown} does not directly follow the previous one")
        place += _LOCAL_HEADER + len(name) + info.file_size
        members[name] = info
    if place != end:
        raise RefusedError("there are bytes between its members and its directory")
    return members
