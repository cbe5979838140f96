"""Permissions as an ordinary user meets them, also where tests run as root."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def open_folder():
    """Make a temporary folder that every user can reach; that of TMPDIR may be private."""
    places = [Path(place).resolve() for place in (tempfile.gettempdir(), "/tmp", "/var/tmp")]
    place = next(
        place
        for place in places
        if place.is_dir() and all(p.stat().st_mode & 0o1 for p in (place, *place.parents))
    )
    with tempfile.TemporaryDirectory(dir=place) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def without_privileges():
    """Obey the permissions of files in a block."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
