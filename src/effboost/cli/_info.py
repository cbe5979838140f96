"""``effboost info``: describe this installation or a model file."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from effboost.cli._options import add_command, add_format_option
from effboost.cli._output import print_facts

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost info                     versions, devices and extras, for bug reports
  effboost info model.effboost      the content of a model file, without building the model
  effboost info model.onnx --format json
"""
_PACKAGES: Final = (
    "numpy", "scipy", "scikit-learn", "torch", "torchvision", "skorch", "xgboost", "joblib",
    "pillow", "safetensors", "onnx", "onnxscript", "onnxruntime", "tqdm",
)  # fmt: skip
# Named as their modules; effboost.runtime is not asked, since it imports torch.
_RUNTIMES: Final = ("torch", "onnxruntime", "openvino")
_COLLECTIONS: Final = ("all", "dev")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "info",
        help="show versions and devices, or the content of a model file",
        description="Show versions, devices, runtimes and extras of this installation, or the "
        "classes, network, parameters and versions of a model file, without building the model.",
        examples=_EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", type=Path, nargs="?", help="a model file")
    add_format_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        print_facts(_describe_installation(), arguments)
        return
    from effboost import describe_model

    facts = {"file": str(arguments.model)} | describe_model(arguments.model)
    if arguments.format != "json":
        facts |= facts.pop("parameters", {})
    print_facts(list(facts.items()), arguments)


def _describe_installation() -> list[tuple[str, Any]]:
    from effboost._utils.threads import count_threads

    return [
        ("effboost", version("effboost")),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("platform", platform.platform()),
        ("processor", platform.machine()),
        ("cores", os.cpu_count()),
        ("threads for effboost", count_threads()),
        *_describe_devices(),
        *((name, _find_version(name)) for name in _PACKAGES),
        *((f"extra {extra}", found) for extra, found in _list_extras()),
    ]


def _describe_devices() -> list[tuple[str, Any]]:
    """Describe runtimes and devices; the import of torch may fail."""
    facts: list[tuple[str, Any]] = [("runtimes", [name for name in _RUNTIMES if find_spec(name)])]
    try:
        import torch
    except Exception as error:  # the import of a broken build may raise any error
        return [*facts, ("GPU", f"torch cannot be imported: {error}")]
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [*facts, ("GPU", names or None), ("CUDA of torch", torch.version.cuda)]


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _list_extras() -> list[tuple[str, Any]]:
    """Return for each extra whether its packages are installed, or which are missing."""
    found = metadata("effboost")
    needs: dict[str, list[str]] = {
        extra: [] for extra in found.get_all("Provides-Extra") or [] if extra not in _COLLECTIONS
    }
    for need in found.get_all("Requires-Dist") or []:
        extra = _EXTRA.search(need)
        package = re.match(r"[\w.-]+", need)
        if extra and package and extra[1] in needs and _find_version(package[0]) is None:
            needs[extra[1]].append(package[0])
    return [
        (extra, f"missing: {', '.join(missing)}" if missing else True)
        for extra, missing in needs.items()
    ]
