"""The only use of private or fragile parts of other libraries.

Each entry says when it can be removed.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import metadata
from types import ModuleType
from typing import Any

# Private in scikit-learn 1.9, but used by its own estimators and by imbalanced-learn to declare
# parameter constraints. Can be removed when scikit-learn makes them public.
import sklearn.model_selection
from sklearn.base import _fit_context as fit_context
from sklearn.inspection import permutation_importance
from sklearn.metrics import check_scoring

# Private, but the only way to scorers that share predictions within a search, and to register
# scorers by name. Can be removed when scikit-learn has a public registry of scorers.
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
    "check_report_packages",
    "fit_context",
    "load_extra",
    "load_matplotlib",
    "load_torchvision",
    "load_umap",
    "load_xgboost",
    "register_scorer",
    "replace_matrices",
    "validate_parameter_constraints",
]


class DocumentedMixin:
    """Link from the HTML representation of an estimator to its documentation.

    scikit-learn's hooks are private, but intended for other libraries. The address is taken from
    the metadata of the installed package; without one, there is no link. Can be removed when
    scikit-learn has a public hook.
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
    """Register a scorer with scikit-learn under a name that is not yet used.

    Functions and classes with a parameter ``scoring`` list the accepted names when they are
    imported. The name is added to these lists as well.
    """
    _SCORERS.setdefault(name, scorer)
    for taker in (*vars(sklearn.model_selection).values(), permutation_importance, check_scoring):
        constraints = getattr(taker, "_skl_parameter_constraints", None) or getattr(
            taker, "_parameter_constraints", {}
        )
        for constraint in constraints.get("scoring", ()):
            if isinstance(constraint, StrOptions):
                constraint.options.add(name)


@contextmanager
def replace_matrices(booster: Any, create: Callable[..., Any]) -> Iterator[None]:
    """Let a booster of XGBoost build its matrices by a function while it is fitted.

    The function gets the matrix to take the bins from, and the keywords of `DMatrix`. Can be
    removed when XGBoost's scikit-learn interface takes a `DataIter`.
    """
    if not hasattr(type(booster), "_create_dmatrix"):
        raise MissingDependencyError(
            "this version of xgboost builds its matrices in another way: install another one, or "
            'leave out feature_storage="disk"'
        )
    booster._create_dmatrix = create
    try:
        yield
    finally:
        del booster._create_dmatrix


def load_extra(name: str, extra: str) -> ModuleType:
    """Import a module of one of effboost's extras, or raise an error that names the extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs {name.partition('.')[0]}: pip install 'effboost[{extra}]'"
        ) from error


def load_matplotlib() -> ModuleType:
    """Import matplotlib.pyplot, or raise an error that names the extra."""
    return load_extra("matplotlib.pyplot", "report")


def check_report_packages() -> None:
    """Raise an error that names the extra if a report could not be written."""
    load_matplotlib()
    load_extra("jinja2", "report")


def load_torchvision() -> ModuleType:
    """Import torchvision, or raise an error with a remedy if it does not match torch.

    Can be removed when pip does not install a CPU build of one with a CUDA build of the other.
    """
    import torch

    try:
        import torchvision
    except (RuntimeError, ImportError) as error:
        raise MissingDependencyError(
            f"torchvision does not match the installed torch {torch.__version__} ({error}): "
            "install both from the same index, for example by "
            "`pip install --force-reinstall torch torchvision`"
        ) from error
    module: ModuleType = torchvision
    return module


def load_umap() -> ModuleType:
    """Import umap, or raise an error that names the extra. The import takes seconds.

    umap warns if TensorFlow is missing, which is not needed here. Can be removed when it does not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)
            import umap
    except ImportError as error:
        raise MissingDependencyError(
            "method='umap' needs umap-learn: pip install 'effboost[umap]', or use method='pca'"
        ) from error
    module: ModuleType = umap
    return module


def load_xgboost() -> ModuleType:
    """Import XGBoost after torch.

    Both include an OpenMP runtime, and on macOS a process can crash if torch is imported second.
    Can be removed when both link to one shared runtime there.
    """
    import torch  # noqa: F401
    import xgboost

    module: ModuleType = xgboost
    return module
