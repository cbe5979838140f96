"""The types that may be in a skops file of heads, by the names that they have there.

The list is effboost's own and shorter than that of skops: the types that have a schema. Types that
contain functions, are not used in heads, or have no schema (nearest neighbours, scikit-learn's
gradient boosting) are not in it.

Files name types by the public module that users import them from, because private modules move. A
few types have no public module, and are named by the module that defines them.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from effboost.persistence._schemas import SCHEMAS

__all__ = ["FORMER_MODULES", "FUNCTIONS", "LOADERS", "TREES", "TYPES", "public_module"]

_CONTAINERS: Final = {
    "DictNode": {"builtins.dict", "sklearn.utils.Bunch"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
}
_SCALARS: Final = {
    f"numpy.{name}"
    for name in (
        "bool",
        "float32",
        "float64",
        "int16",
        "int32",
        "int64",
        "int8",
        "str_",
        "uint16",
        "uint32",
        "uint64",
        "uint8",
    )
}

TYPES: Final = frozenset(SCHEMAS)
TREES: Final = frozenset(name for name in TYPES if name.startswith("sklearn.tree."))
FUNCTIONS: Final = frozenset(
    {
        "sklearn.feature_selection.chi2",
        "sklearn.feature_selection.f_classif",
    }
)
# What each of skops' loaders may make: none calls a function or a type that the file names.
LOADERS: Final = {
    **_CONTAINERS,
    "FunctionNode": FUNCTIONS,
    "JsonNode": {"builtins.str"},
    "NdArrayNode": {"numpy.ndarray", *_SCALARS},
    "ObjectNode": TYPES,
    "TreeNode": {"sklearn.tree._tree.Tree"},
    "TypeNode": {"builtins.bool", "builtins.float", "builtins.int", "builtins.str", *_SCALARS},
}

# Private modules in files of format 1, and the public ones of their types.
FORMER_MODULES: Final = {
    "effboost._linear_boosted": "effboost",
    "effboost.persistence._heads": "effboost.persistence",
    "sklearn.decomposition._pca": "sklearn.decomposition",
    "sklearn.ensemble._bagging": "sklearn.ensemble",
    "sklearn.ensemble._forest": "sklearn.ensemble",
    "sklearn.ensemble._stacking": "sklearn.ensemble",
    "sklearn.ensemble._voting": "sklearn.ensemble",
    "sklearn.ensemble._weight_boosting": "sklearn.ensemble",
    "sklearn.feature_selection._univariate_selection": "sklearn.feature_selection",
    "sklearn.feature_selection._variance_threshold": "sklearn.feature_selection",
    "sklearn.frozen._frozen": "sklearn.frozen",
    "sklearn.linear_model._logistic": "sklearn.linear_model",
    "sklearn.linear_model._ridge": "sklearn.linear_model",
    "sklearn.model_selection._split": "sklearn.model_selection",
    "sklearn.neural_network._multilayer_perceptron": "sklearn.neural_network",
    "sklearn.preprocessing._data": "sklearn.preprocessing",
    "sklearn.preprocessing._label": "sklearn.preprocessing",
    "sklearn.svm._classes": "sklearn.svm",
    "sklearn.tree._classes": "sklearn.tree",
    "sklearn.utils._bunch": "sklearn.utils",
}


def public_module(module: str, name: str) -> str:
    """Return the public module that a type is imported from, or `module` if there is none.

    Parameters
    ----------
    module, name : str
        Where the type is defined, and its own name.
    """
    package = module.partition("._")[0]
    if package == module or package.partition(".")[0] not in ("effboost", "sklearn"):
        return module
    public: Any = getattr(importlib.import_module(package), name, None)
    return package if getattr(public, "__module__", None) == module else module
