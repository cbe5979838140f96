"""The only contact with private or fragile parts of other libraries.

Each entry says when it can go.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from importlib.metadata import metadata
from types import ModuleType
from typing import Any

# Private in scikit-learn 1.9, but what its own estimators and imbalanced-learn use to declare
# constraints as data. Can go when scikit-learn makes them public.
import sklearn.model_selection
from sklearn.base import _fit_context as fit_context
from sklearn.inspection import permutation_importance
from sklearn.metrics import check_scoring

# Private, but the only way to a scorer that shares predictions with others in one search, and to
# scorers by name. Can go when scikit-learn has a public registry of scorers.
from sklearn.metrics._scorer import _SCORERS
from sklearn.metrics._scorer import _BaseScorer as BaseScorer

# Private, but what all searches are. Can go when scikit-learn makes it public.
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from effboost.exceptions import MissingDependencyError

__all__ = [
    "BaseScorer",
    "BaseSearchCV",
    "DocumentedMixin",
    "Interval",
    "StrOptions",
    "fit_context",
    "load_extra",
    "load_matplotlib",
    "load_torchvision",
    "load_umap",
    "load_xgboost",
    "register_scorer",
    "validate_parameter_constraints",
]


class DocumentedMixin:
    """Links the HTML representation of an estimator to its page in effboost's documentation.

    scikit-learn's hooks for that are private, but meant for other libraries. The address of the
    documentation is the one that the installed package names; where it names none, nothing is
    linked. Can go when scikit-learn has a public hook.
    """

    _doc_link_module = "effboost"

    @property
    def _doc_link_template(self) -> str:
        site, kind = _find_documentation(), type(self)
        home = ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))
        return f"{site}/api/{home}.{kind.__name__}.html" if site else ""


@functools.cache
def _find_documentation() -> str:
    """Return the address of the documentation, or an empty string."""
    for line in metadata("effboost").get_all("Project-URL") or []:
        label, _, address = line.partition(", ")
        if label.lower() == "documentation":
            return str(address).rstrip("/")
    return ""


def register_scorer(name: str, scorer: Any) -> None:
    """Make a scorer known to scikit-learn by name, unless the name is taken.

    What takes ``scoring`` lists the names that it accepts when it is imported: those lists are
    lengthened, too.
    """
    _SCORERS.setdefault(name, scorer)
    for taker in (*vars(sklearn.model_selection).values(), permutation_importance, check_scoring):
        constraints = getattr(taker, "_skl_parameter_constraints", None) or getattr(
            taker, "_parameter_constraints", {}
        )
        for constraint in constraints.get("scoring", ()):
            if isinstance(constraint, StrOptions):
                constraint.options.add(name)


def load_extra(name: str, extra: str) -> ModuleType:
    """Import a module that comes with one of effboost's extras, and name it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs {name.partition('.')[0]}: pip install 'effboost[{extra}]'"
        ) from error


def load_matplotlib() -> ModuleType:
    """Import matplotlib's pyplot, and name the extra where it is missing."""
    return load_extra("matplotlib.pyplot", "report")


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


def load_umap() -> ModuleType:
    """Import umap, and name the extra where it is missing; its compiler takes seconds to start.

    umap warns where TensorFlow, which nothing here needs, is missing. Can go when it does not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)
            import umap
    except ImportError as error:
        raise MissingDependencyError(
            "method='umap' needs umap-learn: pip install 'effboost[umap]', or take method='pca'"
        ) from error
    module: ModuleType = umap
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
