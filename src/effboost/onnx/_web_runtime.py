"""The files of onnxruntime-web, from a folder, an npm package, or npm itself."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from effboost._utils.escape import escape_invisible
from effboost._utils.stores import redact
from effboost.exceptions import RuntimeUnavailableError

__all__ = ["BINARY", "CDN", "HASHES", "SCRIPT", "VERSION", "read_runtime"]

VERSION: Final = "1.30.0"
# The build for the CPU alone. The script includes its loader of the binary.
SCRIPT: Final = "ort.wasm.bundle.min.mjs"
BINARY: Final = "ort-wasm-simd-threaded.wasm"
# In the form of subresource integrity, which browsers check.
HASHES: Final = {
    SCRIPT: "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    BINARY: "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
# A public network that delivers the files of npm packages unchanged.
CDN: Final = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"

_PACKAGE: Final = f"onnxruntime-web@{VERSION}"
_TARBALL: Final = f"onnxruntime-web-{VERSION}.tgz"
_TARBALL_HASH: Final = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZ"
    "ClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
_MAX_BYTES: Final = 2**26
_REMEDY: Final = (
    f"run `npm pack {_PACKAGE}` where npm and a network are, and name its file {_TARBALL} or the "
    "folder of its files as web_runtime (--runtime-dir)"
)


def read_runtime(source: str | os.PathLike[str]) -> dict[str, bytes]:
    """Read the files of onnxruntime-web, and check their hashes.

    Parameters
    ----------
    source : path or "npm"
        The folder with the files, or with the package, or the package's tarball. "npm" downloads
        the package by the command ``npm``, with the user's settings.

    Returns
    -------
    dict
        From the name of each file to its content.

    Raises
    ------
    RuntimeUnavailableError
        If npm is not installed, or cannot download the package; or if files are missing, or are
        not those of the version that effboost was tested with.
    """
    if source == "npm":
        return _download()
    path = Path(source)
    if path.is_file():
        return _read_tarball(path)
    contents = {}
    for name in HASHES:
        places = (path / name, path / "dist" / name)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise RuntimeUnavailableError(
                f"{str(path)!r} does not contain {name} of onnxruntime-web {VERSION}; {_REMEDY}"
            )
        contents[name] = _read(file)
        _check(contents[name], HASHES[name], str(file))
    return contents


def _download() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeUnavailableError(
            f"npm, which downloads onnxruntime-web {VERSION}, is not installed; {_REMEDY}"
        )
    with tempfile.TemporaryDirectory() as folder:
        # In a folder of its own, so that no settings of a project apply.
        command = [npm, "pack", _PACKAGE, "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")
        tarball = Path(folder, _TARBALL)
        if done.returncode or not tarball.is_file():
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            reason = escape_invisible(redact(lines[0]))[:300]
            raise RuntimeUnavailableError(
                f"npm could not download {_PACKAGE} ({reason}); {_REMEDY}"
            )
        return _read_tarball(tarball)


def _read_tarball(path: Path) -> dict[str, bytes]:
    # Before anything in it is read.
    _check(_read(path), _TARBALL_HASH, str(path))
    contents = {}
    with tarfile.open(path, "r:gz") as tarball:
        for name, expected in HASHES.items():
            file = tarball.extractfile(f"package/dist/{name}")
            assert file is not None  # since the hash is that of the package
            contents[name] = file.read()
            _check(contents[name], expected, name)
    return contents


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_MAX_BYTES)


def _check(content: bytes, expected: str, name: str) -> None:
    algorithm = expected.partition("-")[0]
    digest = base64.b64encode(hashlib.new(algorithm, content).digest()).decode()
    if f"{algorithm}-{digest}" != expected:
        raise RuntimeUnavailableError(
            f"{name!r} is not a file of onnxruntime-web {VERSION}: its hash is "
            f"{algorithm}-{digest}, not {expected}. It is of another version, or was changed; "
            f"{_REMEDY}"
        )
