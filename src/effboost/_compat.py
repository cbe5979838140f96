"""The only contact with private or fragile parts of other libraries.

Each entry says when it can go.
"""

from __future__ import annotations

from types import ModuleType

# Private in scikit-learn 1.9, but what its own estimators and imbalanced-learn use to declare
# constraints as data. Can go when scikit-learn makes them public.
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from effboost.exceptions import MissingDependencyError

__all__ = [
    "Interval",
    "StrOptions",
    "fit_context",
    "load_matplotlib",
    "load_torchvision",
    "load_xgboost",
]


def load_matplotlib() -> ModuleType:
    """Import matplotlib, and name the extra where it is missing."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "pictures need matplotlib: pip install 'effboost[report]'"
        ) from error
    module: ModuleType = plt
    return module


def load_torchvision() -> ModuleType:
    """Import torchvision, and say what to install where it does not fit torch.

    Can go when pip refuses to install a CPU build of one beside a CUDA build of the other.
    """
    import torch

    try:
        import torchvision
    except (RuntimeError, ImportError) as error:
        raise MissingDependencyError(
            f"torchvision does not fit the installed torch {torch.__version__} ({error}): "
            "install both from the same place, for example by "
            "`pip install --force-reinstall torch torchvision`"
        ) from error
    module: ModuleType = torchvision
    return module


def load_xgboost() -> ModuleType:
    """Import XGBoost, always after torch.

    Both bring an OpenMP runtime, and on macOS a process can crash when torch comes second.
    Can go when both link against one shared runtime there.
    """
    import torch  # noqa: F401
    import xgboost

    module: ModuleType = xgboost
    return module
