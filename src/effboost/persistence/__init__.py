"""Models as files: written whole, read without running anything in them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effboost.persistence._load import load
    from effboost.persistence._save import save
    from effboost.persistence._summary import describe_model

__all__ = ["describe_model", "load", "save"]

# Loaded when first asked for: parts of this package must do without torch.
_HOME = {"describe_model": "_summary", "load": "_load", "save": "_save"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
