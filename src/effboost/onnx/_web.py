"""A web page that classifies images in the browser."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy.typing as npt

from effboost._familiarity import REASONS
from effboost._utils.atomic_write import check_empty_folder, new_folder
from effboost._utils.escape import escape_markdown
from effboost.exceptions import UnsupportedInputError
from effboost.onnx._web_runtime import BINARY, CDN, HASHES, SCRIPT, VERSION, read_runtime

__all__ = ["check_web", "write_page"]

_FILES: Final = (
    "LICENSES.txt",
    "csv.js",
    "headers.js",
    "icon.svg",
    "page.css",
    "page.js",
    "subjects.js",
    "worker.js",
)
_RUNTIME: Final = "runtime"
# Some servers do not know the suffix .mjs, and browsers refuse a script of unknown type.
_SCRIPT_NAME: Final = "ort.wasm.bundle.min.js"
_RUNTIME_ROW: Final = f"| `{_RUNTIME}` | ONNX Runtime Web {VERSION} |"


def check_web(
    path: str | os.PathLike[str], model: Any, source: str | os.PathLike[str]
) -> dict[str, bytes]:
    """Check before an export that a page can be written; return the runtime's files.

    Parameters
    ----------
    path : path
        The folder.
    model : classifier
        The model; one that is not fitted is refused later.
    source : path, "npm" or "cdn"
        See `export_onnx`.

    Returns
    -------
    dict
        From the name of each file to its content; empty for "cdn".
    """
    check_empty_folder(path)
    names = [str(label) for label in getattr(model, "classes_", ())]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UnsupportedInputError(
            f"the model has several classes that are written as {twice!r}, which a page cannot "
            "tell apart"
        )
    return {} if source == "cdn" else read_runtime(source)


def write_page(
    path: str | os.PathLike[str],
    graph: bytes,
    classes: npt.NDArray[Any],
    backbone: str,
    runtime: dict[str, bytes],
) -> Path:
    """Write a folder that a web server can serve, completely or not at all.

    Parameters
    ----------
    path : path
        The folder; it must be empty or not exist.
    graph : bytes
        The exported model.
    classes : ndarray of shape (n_classes,)
        The labels.
    backbone : str
        The name of the network.
    runtime : dict
        The result of `check_web`.
    """
    templates = files("effboost.onnx") / "templates" / "web"
    with new_folder(path) as part:
        for name in _FILES:
            (part / name).write_bytes((templates / name).read_bytes())
        (part / "model.onnx").write_bytes(graph)
        described = json.dumps(_describe(graph, classes, backbone, runtime), indent=1)
        (part / "model.json").write_text(described, encoding="utf-8")
        if runtime:
            (part / _RUNTIME).mkdir()
            (part / _RUNTIME / _SCRIPT_NAME).write_bytes(runtime[SCRIPT])
            (part / _RUNTIME / BINARY).write_bytes(runtime[BINARY])
        page = Template((templates / "index.html").read_text(encoding="utf-8"))
        filled = page.substitute(policy=_make_policy(is_remote=not runtime))
        (part / "index.html").write_text(filled, encoding="utf-8")
        readme = Template((templates / "README.md").read_text(encoding="utf-8"))
        filled = readme.substitute(
            version=version("effboost"),
            backbone=escape_markdown(backbone),
            classes=", ".join(escape_markdown(label) for label in classes),
            runtime_row=_RUNTIME_ROW if runtime else f"| {CDN} | ONNX Runtime Web {VERSION} |",
        )
        (part / "README.md").write_text(filled, encoding="utf-8")
    return Path(path)


def _describe(
    graph: bytes, classes: npt.NDArray[Any], backbone: str, runtime: dict[str, bytes]
) -> dict[str, Any]:
    """Describe the model for the page. Browsers refuse files with another hash."""
    digest = base64.b64encode(hashlib.sha384(graph).digest()).decode()
    script = f"{_RUNTIME}/{_SCRIPT_NAME}" if runtime else CDN + SCRIPT
    binary = f"{_RUNTIME}/{BINARY}" if runtime else CDN + BINARY
    return {
        "classes": [str(label) for label in classes],
        "reasons": list(REASONS),
        "backbone": backbone,
        "version": version("effboost"),
        "runtime": VERSION,
        "megabytes": (len(graph) + sum(map(len, runtime.values()))) / 1e6,
        "graph": {"url": "model.onnx", "integrity": f"sha384-{digest}"},
        "script": {"url": script, "integrity": HASHES[SCRIPT], "blob": not runtime},
        "binary": {"url": binary, "integrity": HASHES[BINARY]},
    }


def _make_policy(*, is_remote: bool) -> str:
    """Write the Content-Security-Policy: requests to the page's own origin alone."""
    return "; ".join(
        (
            "default-src 'none'",
            # A script of another origin is read, checked and then run from memory.
            f"script-src 'self' 'wasm-unsafe-eval'{' blob:' if is_remote else ''}",
            f"connect-src 'self'{f' {CDN}' if is_remote else ''}",
            "worker-src 'self' blob:",
            "img-src 'self' blob:",
            "style-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
