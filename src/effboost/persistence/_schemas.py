"""The attributes of each type that may be in a model file.

A type that is not listed here cannot be loaded, and neither can an attribute. Lengths of axes are
"d" (features), "k" (classes), "r" (rows of a linear model: 1 for two classes, else k), "pairs"
(of classes) and "others" (k - 1); other names stand for a length that several attributes share.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np

from effboost.persistence._rules import (
    Rule,
    array,
    each,
    either,
    estimator,
    flag,
    integer,
    nothing,
    number,
    record,
    table,
    word,
)
from effboost.persistence._trees import tree

__all__ = ["SCHEMAS", "Schema", "attribute_names", "find_schema"]


@dataclass(frozen=True)
class Schema:
    """The attributes of an estimator besides its parameters.

    Attributes
    ----------
    fitted : mapping of str to Rule
        Attributes that it always has after `fit`.
    optional : mapping of str to Rule
        Attributes that it may have.
    """

    fitted: Mapping[str, Rule] = field(default_factory=dict)
    optional: Mapping[str, Rule] = field(default_factory=dict)


def _records(*names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, record)


_NOT_IN_FILES: Final = "f_"
_LABELS: Final = array("biufU", "k")
_COUNTS: Final[dict[str, Rule]] = {"n_features_in_": integer(1)}
_CLASSES: Final[dict[str, Rule]] = {"classes_": _LABELS, "n_features_in_": integer(1)}
# What pandas output and data frames leave behind in any estimator.
_COMMON: Final[dict[str, Rule]] = {
    "feature_names_in_": array("OU", "d"),
    "n_features_in_": integer(1),
    "_sklearn_output_config": table(word("default", "pandas", "polars")),
}
_LINEAR: Final[dict[str, Rule]] = {
    **_CLASSES,
    "coef_": array("f", "r d"),
    "intercept_": either(array("f", "r"), number()),
}
_RIDGE: Final[dict[str, Rule]] = {
    **_CLASSES,
    "_label_binarizer": estimator("LabelBinarizer"),
    "coef_": array("f", "r d", "d"),
    "intercept_": either(array("f", "r"), number()),
}
_DOUBLE: Final[dict[str, Any]] = {"dtype": np.float64}
_SVM: Final = Schema(
    {
        **_CLASSES,
        "_dual_coef_": array("f", "others n", **_DOUBLE),
        "_effective_probability": flag,
        "_gamma": number(0),
        "_intercept_": array("f", "pairs", **_DOUBLE),
        "_n_support": array("i", "k", low=0, dtype=np.int32),
        "_probA": array("f", "pairs", "0", **_DOUBLE),
        "_probB": array("f", "pairs", "0", **_DOUBLE),
        "_sparse": flag,
        "class_weight_": array("f", "k", **_DOUBLE),
        "dual_coef_": array("f", "others n"),
        "fit_status_": integer(0, 1),
        "intercept_": array("f", "pairs"),
        "shape_fit_": each(integer(1), "2"),
        "support_": array("i", "n", low=0, dtype=np.int32),
        "support_vectors_": array("f", "n d", **_DOUBLE),
    },
    _records("_num_iter", "n_iter_", "C", "nu", "epsilon"),
)
_TREE: Final = Schema(
    {
        **_CLASSES,
        "max_features_": integer(1),
        "n_classes_": integer(1),
        "n_outputs_": integer(1, 1),
        "tree_": tree,
    }
)
_FOREST: Final = Schema(
    {
        **_CLASSES,
        "estimators_": each(estimator("DecisionTreeClassifier", "ExtraTreeClassifier"), "trees"),
        "n_classes_": integer(1),
        "n_outputs_": integer(1, 1),
    },
    {
        "estimator": estimator("DecisionTreeClassifier", "ExtraTreeClassifier"),
        "estimator_": estimator("DecisionTreeClassifier", "ExtraTreeClassifier"),
        **_records(
            "estimator_params",
            "_n_samples",
            "_n_samples_bootstrap",
            "_sample_weight",
            "oob_decision_function_",
            "oob_score_",
        ),
    },
)
_NAMED: Final = table(either(word("drop"), estimator()))
_SHARES: Final = array("f", "k", low=0, high=1)
_SCORES: Final = array("f", "d", finite=False)
_SELECTION: Final = Schema({**_COUNTS, "scores_": _SCORES}, {"pvalues_": either(nothing, _SCORES)})
_PER_FEATURE: Final = array("f", "d")
_SCALE: Final = array("f", "d", above=0)
_SPLITTER: Final = Schema({}, _records("n_splits", "shuffle", "random_state"))
_SHUFFLER: Final = Schema(
    {}, _records("n_splits", "random_state", "test_size", "train_size", "_default_test_size")
)

SCHEMAS: Final[dict[str, Schema]] = {
    "effboost.LinearBoostedClassifier": Schema(
        {
            **_CLASSES,
            "linear_": either(nothing, estimator()),
            "scaler_": either(nothing, estimator("StandardScaler")),
            "trees_": either(nothing, estimator()),
        }
    ),
    "effboost.SiteAdaptedClassifier": Schema(
        {**_CLASSES, "estimator_": estimator(), "prior_": _SHARES}
        | dict.fromkeys(("mean_", "scale_"), _PER_FEATURE)
    ),
    "effboost.persistence.BoosterSlot": Schema({}, {"number": integer()}),
    "sklearn.calibration.CalibratedClassifierCV": Schema(
        {
            **_CLASSES,
            "calibrated_classifiers_": each(estimator("_CalibratedClassifier"), "parts"),
        }
    ),
    "sklearn.calibration._CalibratedClassifier": Schema(
        {
            "calibrators": each(
                estimator("IsotonicRegression", "_SigmoidCalibration", "_TemperatureScaling")
            ),
            "classes": _LABELS,
            "estimator": estimator(),
            "method": word("isotonic", "sigmoid", "temperature"),
        }
    ),
    "sklearn.calibration._SigmoidCalibration": Schema({"a_": number(), "b_": number()}),
    "sklearn.calibration._TemperatureScaling": Schema({"beta_": number(above=0)}),
    "sklearn.decomposition.PCA": Schema(
        {
            **_COUNTS,
            "components_": array("f", "components d"),
            "explained_variance_": array("f", "components"),
            "mean_": _PER_FEATURE,
            "n_components_": integer(0),
        },
        _records(
            "_fit_svd_solver",
            "explained_variance_ratio_",
            "n_samples_",
            "noise_variance_",
            "singular_values_",
        ),
    ),
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": Schema(
        {**_LINEAR, "means_": array("f", "k d"), "priors_": _SHARES},
        {
            "_max_components": integer(0),
            "_n_features_out": integer(0),
            "covariance_": array("f", "d d"),
            "explained_variance_ratio_": record,
            "scalings_": array("f", "d *"),
            "xbar_": _PER_FEATURE,
        },
    ),
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis": Schema(
        {
            **_CLASSES,
            "means_": array("f", "k d"),
            "priors_": _SHARES,
            "rotations_": each(array("f", "d *"), "k"),
            "scalings_": each(array("f", "*", above=0), "k"),
        },
        {"covariance_": record},
    ),
    "sklearn.dummy.DummyClassifier": Schema(
        {
            **_CLASSES,
            "class_prior_": _SHARES,
            "n_classes_": integer(1),
            "n_outputs_": integer(1, 1),
            "sparse_output_": flag,
        },
        {"_strategy": word("most_frequent", "prior", "stratified", "uniform", "constant")},
    ),
    "sklearn.ensemble.AdaBoostClassifier": Schema(
        {
            **_CLASSES,
            "estimator_weights_": array("f", "*", low=0),
            "estimators_": each(estimator()),
            "n_classes_": integer(1),
        },
        {"estimator_": estimator(), **_records("estimator_errors_", "estimator_params")},
    ),
    "sklearn.ensemble.BaggingClassifier": Schema(
        {
            **_CLASSES,
            "estimators_": each(estimator(), "members"),
            "estimators_features_": each(array("iu", "*", low=0), "members"),
            "n_classes_": integer(1),
        },
        {
            "estimator_": estimator(),
            **_records(
                "_max_features",
                "_max_samples",
                "_n_samples",
                "_sample_weight",
                "_seeds",
                "estimator_params",
                "oob_decision_function_",
                "oob_score_",
            ),
        },
    ),
    "sklearn.ensemble.ExtraTreesClassifier": _FOREST,
    "sklearn.ensemble.RandomForestClassifier": _FOREST,
    "sklearn.ensemble.StackingClassifier": Schema(
        {
            "_label_encoder": estimator("LabelEncoder"),
            "classes_": _LABELS,
            "estimators_": each(estimator(), "members"),
            "final_estimator_": estimator(),
            "stack_method_": each(word("predict_proba", "decision_function", "predict"), "members"),
        },
        {"_n_feature_outs": record, "named_estimators_": _NAMED},
    ),
    "sklearn.ensemble.VotingClassifier": Schema(
        {"classes_": _LABELS, "estimators_": each(estimator()), "le_": estimator("LabelEncoder")},
        {"named_estimators_": _NAMED},
    ),
    "sklearn.feature_selection.SelectKBest": _SELECTION,
    "sklearn.feature_selection.SelectPercentile": _SELECTION,
    "sklearn.feature_selection.VarianceThreshold": Schema({**_COUNTS, "variances_": _PER_FEATURE}),
    "sklearn.frozen.FrozenEstimator": Schema(),
    "sklearn.isotonic.IsotonicRegression": Schema(
        {
            "X_max_": number(),
            "X_min_": number(),
            "X_thresholds_": array("f", "n"),
            "increasing_": flag,
            # Calibrators give shares; single precision rounds them.
            "y_thresholds_": array("f", "n", low=0, high=1 + 1e-6),
        },
        # Made of the thresholds when it is loaded, and not in any file.
        {_NOT_IN_FILES: lambda value, dims, what: None},
    ),
    "sklearn.linear_model.LogisticRegression": Schema(_LINEAR, _records("n_iter_")),
    "sklearn.linear_model.LogisticRegressionCV": Schema(
        _LINEAR,
        _records("C_", "Cs_", "coefs_paths_", "l1_ratio_", "l1_ratios_", "n_iter_", "scores_"),
    ),
    "sklearn.linear_model.RidgeClassifier": Schema(_RIDGE, _records("n_iter_", "solver_")),
    "sklearn.linear_model.RidgeClassifierCV": Schema(
        _RIDGE, _records("alpha_", "alpha_per_target", "best_score_", "cv_results_", "gcv_mode")
    ),
    "sklearn.model_selection.KFold": _SPLITTER,
    "sklearn.model_selection.ShuffleSplit": _SHUFFLER,
    "sklearn.model_selection.StratifiedKFold": _SPLITTER,
    "sklearn.model_selection.StratifiedShuffleSplit": _SHUFFLER,
    "sklearn.multiclass.OneVsOneClassifier": Schema(
        {"classes_": _LABELS, "estimators_": each(estimator(), "pairs")},
        {"pairwise_indices_": nothing},
    ),
    "sklearn.multiclass.OneVsRestClassifier": Schema(
        {
            "classes_": _LABELS,
            "estimators_": each(estimator(), "r"),
            "label_binarizer_": estimator("LabelBinarizer"),
        }
    ),
    "sklearn.naive_bayes.BernoulliNB": Schema(
        {
            **_CLASSES,
            "class_log_prior_": array("f", "k"),
            # A probability of 1 would make that of the opposite 0, and its logarithm infinite.
            "feature_log_prob_": array("f", "k d", high=-1e-15),
        },
        _records("class_count_", "feature_count_"),
    ),
    "sklearn.naive_bayes.GaussianNB": Schema(
        {
            **_CLASSES,
            "class_prior_": _SHARES,
            "theta_": array("f", "k d"),
            "var_": array("f", "k d", above=0),
        },
        _records("class_count_", "epsilon_"),
    ),
    "sklearn.neural_network.MLPClassifier": Schema(
        {
            **_CLASSES,
            "_label_binarizer": estimator("LabelBinarizer"),
            "coefs_": each(array("f", "* *"), "layers"),
            "intercepts_": each(array("f", "*"), "layers"),
            "n_layers_": integer(2),
            "n_outputs_": integer(1),
            "out_activation_": word("logistic", "softmax"),
        },
        {
            "_optimizer": estimator("AdamOptimizer", "SGDOptimizer"),
            **_records(
                "_best_coefs",
                "_best_intercepts",
                "_coef_indptr",
                "_intercept_indptr",
                "_no_improvement_count",
                "_random_state",
                "best_loss_",
                "best_validation_score_",
                "loss",
                "loss_",
                "loss_curve_",
                "n_iter_",
                "t_",
                "validation_scores_",
            ),
        },
    ),
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer": Schema(
        {},
        _records(
            "beta_1", "beta_2", "epsilon", "learning_rate", "learning_rate_init", "ms", "t", "vs"
        ),
    ),
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer": Schema(
        {},
        _records(
            "learning_rate",
            "learning_rate_init",
            "lr_schedule",
            "momentum",
            "nesterov",
            "power_t",
            "velocities",
        ),
    ),
    "sklearn.pipeline.Pipeline": Schema(),
    "sklearn.preprocessing.LabelBinarizer": Schema(
        {
            "classes_": _LABELS,
            "sparse_input_": flag,
            "y_type_": word("binary", "multiclass"),
        }
    ),
    "sklearn.preprocessing.LabelEncoder": Schema({"classes_": _LABELS}),
    "sklearn.preprocessing.MaxAbsScaler": Schema(
        {**_COUNTS, "scale_": _SCALE}, _records("max_abs_", "n_samples_seen_")
    ),
    "sklearn.preprocessing.MinMaxScaler": Schema(
        {**_COUNTS, "min_": _PER_FEATURE, "scale_": _SCALE},
        _records("data_max_", "data_min_", "data_range_", "n_samples_seen_"),
    ),
    "sklearn.preprocessing.Normalizer": Schema(_COUNTS),
    "sklearn.preprocessing.PowerTransformer": Schema(
        {**_COUNTS, "lambdas_": _PER_FEATURE}, {"_scaler": estimator("StandardScaler")}
    ),
    "sklearn.preprocessing.QuantileTransformer": Schema(
        {
            **_COUNTS,
            "n_quantiles_": integer(1),
            "quantiles_": array("f", "q d"),
            "references_": array("f", "q", low=0, high=1),
        }
    ),
    "sklearn.preprocessing.RobustScaler": Schema(
        {
            **_COUNTS,
            "center_": either(nothing, _PER_FEATURE),
            "scale_": either(nothing, _SCALE),
        }
    ),
    "sklearn.preprocessing.StandardScaler": Schema(
        {
            **_COUNTS,
            "mean_": either(nothing, _PER_FEATURE),
            "scale_": either(nothing, _SCALE),
            "var_": either(nothing, _PER_FEATURE),
        },
        _records("n_samples_seen_"),
    ),
    "sklearn.svm.LinearSVC": Schema(_LINEAR, _records("n_iter_")),
    "sklearn.svm.NuSVC": _SVM,
    "sklearn.svm.SVC": _SVM,
    "sklearn.tree.DecisionTreeClassifier": _TREE,
    "sklearn.tree.ExtraTreeClassifier": _TREE,
}


@cache
def _find_types() -> dict[type, str]:
    found = {}
    for name in SCHEMAS:
        module, _, kind = name.rpartition(".")
        found[getattr(importlib.import_module(module), kind)] = name
    return found


def find_schema(kind: type) -> Schema | None:
    """Find the schema of a type; None if it has none."""
    name = _find_types().get(kind)
    if name is None:
        return None
    schema = SCHEMAS[name]
    return Schema(schema.fitted, {**_COMMON, **schema.optional})


@cache
def attribute_names(name: str) -> frozenset[str]:
    """List the attributes, parameters included, that an object of a type may have in a file."""
    (kind,) = (kind for kind, known in _find_types().items() if known == name)
    params: list[str] = kind._get_param_names() if hasattr(kind, "_get_param_names") else []
    schema = SCHEMAS[name]
    if hasattr(kind, "_get_param_names"):
        params = [*params, *_COMMON, "_sklearn_version"]
    return frozenset({*params, *schema.fitted, *schema.optional} - {_NOT_IN_FILES})
