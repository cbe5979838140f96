"""Models as files that are read without running code from them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effboost.persistence._load import load
    from effboost.persistence._save import save
    from effboost.persistence._summary import describe_model

__all__ = ["describe_model", "load", "save"]

# Imported at first use: describing a model needs no torch.
_HOME = {
    # Model files name it by this module, like public types.
    "BoosterSlot": "_heads",
    "describe_model": "_summary",
    "load": "_load",
    "save": "_save",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'effboost.persistence' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"effboost.persistence.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
