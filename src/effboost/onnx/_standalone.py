"""A folder that classifies images without effboost and torch."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import requires, version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy.typing as npt

from effboost._utils.atomic_write import new_folder
from effboost._utils.escape import escape_markdown

__all__ = ["write_folder"]

_NEEDED: Final = ("numpy", "onnxruntime", "pillow")
# What predict.py imports, so that it lists, reads and checks files as effboost does. None of them
# imports more than the packages above.
_MODULES: Final = (
    "_familiarity.py",
    "_images/budget.py",
    "_images/decoding.py",
    "_images/depth.py",
    "_images/errors.py",
    "_images/limits.py",
    "_images/measures.py",
    "_utils/class_names.py",
    "_utils/csv_rows.py",
    "_utils/escape.py",
    "_utils/locks.py",
    "_utils/onnx_session.py",
    "_utils/pillow_compat.py",
    "_utils/probabilities.py",
    "_utils/refusal.py",
    "_utils/stores.py",
    "datasets/_files.py",
    "exceptions.py",
    "onnx/_file.py",
    "onnx/_model.py",
    "onnx/_watch.py",
    "onnx/_wire.py",
)
_PARTS: Final = "effboost_parts"
_IMPORT: Final = re.compile(r"^( *from )effboost(?=\.)", re.MULTILINE)


def write_folder(
    path: str | os.PathLike[str], graph: bytes, classes: npt.NDArray[Any], backbone: str
) -> Path:
    """Write ``model.onnx`` with a script that runs it, completely or not at all.

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

    Raises
    ------
    FileExistsError
        If the folder is not empty.
    """
    with new_folder(path) as part:
        (part / "model.onnx").write_bytes(graph)
        templates = files("effboost.onnx") / "templates"
        _write_modules(part, (templates / "predict.py").read_text(encoding="utf-8"))
        readme = Template((templates / "README.md").read_text(encoding="utf-8"))
        filled = readme.substitute(
            version=version("effboost"),
            backbone=escape_markdown(backbone),
            classes=", ".join(escape_markdown(label) for label in classes),
        )
        (part / "README.md").write_text(filled, encoding="utf-8")
        recipe = Template((templates / "Dockerfile").read_text(encoding="utf-8"))
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        (part / "Dockerfile").write_text(recipe.substitute(python=python), encoding="utf-8")
        requirements = "".join(f"{_requirement(name)}\n" for name in _NEEDED)
        (part / "requirements.txt").write_text(requirements, encoding="utf-8")
    return Path(path)


def _write_modules(folder: Path, script: str) -> None:
    """Write the script and the modules of effboost that it needs, importable without effboost."""
    texts = {"predict.py": script}
    for name in _MODULES:
        texts[f"{_PARTS}/{name}"] = files("effboost").joinpath(name).read_text(encoding="utf-8")
    for name, text in texts.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_IMPORT.sub(rf"\1{_PARTS}", text), encoding="utf-8")


def _requirement(name: str) -> str:
    """Write the requirement of a package: effboost's lower bound, below the next major version."""
    bounds = [re.fullmatch(rf"{name}>=([\w.]+)", line) for line in requires("effboost") or []]
    (oldest,) = (bound[1] for bound in bounds if bound)
    return f"{name}>={oldest},<{int(version(name).partition('.')[0]) + 1}"
