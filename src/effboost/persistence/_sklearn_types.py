"""What of scikit-learn may stand in a model file, and by which names.

The list is effboost's own and shorter than that of skops. What it lacks predicts by native code
that trusts the numbers it is given (nearest neighbours, gradient boosting of scikit-learn), holds
functions, or is no head. Of what it has, `_heads` checks the numbers that native code trusts.

Files name types where their users import them from, for private modules move. A few have no such
place, and stand under the module that defines them.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

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

TYPES: Final = frozenset(
    {
        "effboost.LinearBoostedClassifier",
        "effboost.persistence.BoosterSlot",
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.decomposition.PCA",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.dummy.DummyClassifier",
        "sklearn.ensemble.BaggingClassifier",
        "sklearn.ensemble.ExtraTreesClassifier",
        "sklearn.ensemble.RandomForestClassifier",
        "sklearn.ensemble.StackingClassifier",
        "sklearn.ensemble.VotingClassifier",
        "sklearn.ensemble.AdaBoostClassifier",
        "sklearn.feature_selection.SelectKBest",
        "sklearn.feature_selection.SelectPercentile",
        "sklearn.feature_selection.VarianceThreshold",
        "sklearn.frozen.FrozenEstimator",
        "sklearn.isotonic.IsotonicRegression",
        "sklearn.linear_model.LogisticRegression",
        "sklearn.linear_model.LogisticRegressionCV",
        "sklearn.linear_model.RidgeClassifier",
        "sklearn.linear_model.RidgeClassifierCV",
        "sklearn.model_selection.KFold",
        "sklearn.model_selection.ShuffleSplit",
        "sklearn.model_selection.StratifiedKFold",
        "sklearn.model_selection.StratifiedShuffleSplit",
        "sklearn.multiclass.OneVsOneClassifier",
        "sklearn.multiclass.OneVsRestClassifier",
        "sklearn.naive_bayes.BernoulliNB",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.neural_network.MLPClassifier",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing.MaxAbsScaler",
        "sklearn.preprocessing.MinMaxScaler",
        "sklearn.preprocessing.Normalizer",
        "sklearn.preprocessing.PowerTransformer",
        "sklearn.preprocessing.QuantileTransformer",
        "sklearn.preprocessing.RobustScaler",
        "sklearn.preprocessing.StandardScaler",
        "sklearn.preprocessing.LabelBinarizer",
        "sklearn.preprocessing.LabelEncoder",
        "sklearn.svm.LinearSVC",
        "sklearn.svm.NuSVC",
        "sklearn.svm.SVC",
        "sklearn.tree.DecisionTreeClassifier",
        "sklearn.tree.ExtraTreeClassifier",
    }
)
TREES: Final = frozenset(name for name in TYPES if name.startswith("sklearn.tree."))
FUNCTIONS: Final = frozenset(
    {
        "sklearn.feature_selection.chi2",
        "sklearn.feature_selection.f_classif",
    }
)
# Which of skops' loaders may make what: none that calls a function or a type of the file's choice.
LOADERS: Final = {
    **_CONTAINERS,
    "FunctionNode": FUNCTIONS,
    "JsonNode": {"builtins.str"},
    "NdArrayNode": {"numpy.ndarray", *_SCALARS},
    "ObjectNode": TYPES,
    "TreeNode": {"sklearn.tree._tree.Tree"},
    "TypeNode": {"builtins.bool", "builtins.float", "builtins.int", "builtins.str", *_SCALARS},
}

# Private modules that stand in files of format 1, and where their types are to be had.
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
    """Return the public module that a type is imported from, or `module` where there is none.

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
