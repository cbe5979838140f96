import io
import os
import tarfile

import pytest

from effboost.exceptions import RuntimeUnavailableError
from effboost.onnx._web_runtime import BINARY, SCRIPT, VERSION, read_runtime

FAKE = {SCRIPT: b"script", BINARY: b"binary"}


def test_files_of_another_version_and_missing_files_are_refused(tmp_path):
    with pytest.raises(RuntimeUnavailableError, match=r"does not contain ort.*npm pack"):
        read_runtime(tmp_path)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / SCRIPT).write_bytes(b"/* another version */")
    with pytest.raises(RuntimeUnavailableError, match="is of another version, or was changed"):
        read_runtime(tmp_path)


def pack(path, contents):
    with tarfile.open(path, "w:gz") as tarball:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            tarball.addfile(member, io.BytesIO(content))
    return path


def test_a_package_that_was_changed_is_refused(tmp_path):
    path = pack(tmp_path / "package.tgz", FAKE)
    with pytest.raises(RuntimeUnavailableError, match=r"its hash is sha512-.*, not sha512-q0y"):
        read_runtime(path)


def make_npm(folder, script, monkeypatch):
    """Put a program named npm in front of the real one."""
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a shell script")
def test_a_download_that_was_changed_is_refused(tmp_path, monkeypatch):
    path = pack(tmp_path / "package.tgz", FAKE)
    script = f'test "$2" = onnxruntime-web@{VERSION} && cp {path} onnxruntime-web-{VERSION}.tgz'
    make_npm(tmp_path, script, monkeypatch)
    with pytest.raises(RuntimeUnavailableError, match="its hash is sha512-"):
        read_runtime("npm")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a shell script")
def test_errors_of_npm_are_reported_without_credentials(tmp_path, monkeypatch):
    script = "echo 'npm error no https://user:secret@example.org/x?token=secret' >&2; exit 1"
    make_npm(tmp_path, script, monkeypatch)
    with pytest.raises(RuntimeUnavailableError, match="could not download") as error:
        read_runtime("npm")
    assert "npm error no https://***@example.org" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_missing_npm_is_reported_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeUnavailableError, match=r"is not installed; run `npm pack .*--runtime"
    ):
        read_runtime("npm")
