"""Conversion of the classifier on the features to an ONNX graph."""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

import onnx
from effboost._utils.compat import load_extra
from effboost._utils.onnx_session import start_session
from effboost.exceptions import UnsupportedInputError
from effboost.onnx._converters import load_converters
from effboost.onnx._graph import OPSETS, as_model
from onnx import helper, numpy_helper, parser, utils

__all__ = ["convert_head", "linear_head"]

# Rounding is far below, errors of converters are far above.
_TOLERANCE: Final = 1e-3
_N_PROBES: Final = 256

_LINEAR: Final = """
head (float[1, {width}] features) => (float[1, {k}] scores)
{{
    start = Constant <value_ints: ints = [0]> ()
    end = Constant <value_ints: ints = [{own}]> ()
    axes = Constant <value_ints: ints = [1]> ()
    own = Slice (features, start, end, axes)
    logits = Gemm <transB: int = 1> (own, weight, bias)
    scores = Softmax <axis: int = 1> (logits)
}}
"""
_FIRST: Final = """
head (float[1, {width}] features) => (float[1, {k}] scores)
{{
    start = Constant <value_ints: ints = [0]> ()
    end = Constant <value_ints: ints = [{k}]> ()
    axes = Constant <value_ints: ints = [1]> ()
    logits = Slice (features, start, end, axes)
    scores = Softmax <axis: int = 1> (logits)
}}
"""


def linear_head(head: Any, width: int, k: int) -> onnx.ModelProto:
    """Build the graph of a network's own classification layer, from "features" to "scores".

    Parameters
    ----------
    head : torch.nn.Linear or None
        The classification layer; None if the first features are already its outputs.
    width, k : int
        Number of features and of classes.
    """
    if head is None:
        return as_model(parser.parse_graph(_FIRST.format(width=width, k=k)))
    # Features of earlier stages come after the network's own.
    graph = parser.parse_graph(_LINEAR.format(width=width, k=k, own=head.in_features))
    for name in ("weight", "bias"):
        values = getattr(head, name).detach().numpy()
        graph.initializer.append(numpy_helper.from_array(values, name))
    return as_model(graph)


def convert_head(classifier: Any, means: npt.NDArray[np.float64]) -> onnx.ModelProto:
    """Convert a fitted classifier, and check that the graph returns the same probabilities.

    Parameters
    ----------
    classifier : classifier
        A classifier of XGBoost or scikit-learn, fitted on labels 0 to k - 1.
    means : ndarray of shape (n_features,)
        Means of the features that it was fitted on. The check uses features around them.

    Returns
    -------
    ModelProto
        From "features" (n, n_features) to "scores" (n, k), both float32.

    Raises
    ------
    UnsupportedInputError
        If it has no probabilities, cannot be converted, or its graph returns other probabilities.
    MissingDependencyError
        If the converters are not installed.
    """
    if not hasattr(classifier, "predict_proba"):
        raise UnsupportedInputError(
            f"{type(classifier).__name__} has no predict_proba, which the graph needs; wrap it in "
            "sklearn.calibration.CalibratedClassifierCV before it is fitted"
        )
    if isinstance(_last_step(classifier), SVC | NuSVC):
        # Its probabilities come from another model than its decision.
        raise _refuse(
            classifier,
            "a support vector machine does not predict by its probabilities",
        )
    load_converters()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _convert(classifier, len(means))
            got = _run(model, _make_probes(means))
    except Exception as error:  # converters raise many kinds, none of them documented
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise _refuse(classifier, f"it cannot be converted ({reason})") from error
    _compare(classifier, got, _make_probes(means))
    return model


def _last_step(classifier: Any) -> Any:
    while isinstance(classifier, Pipeline):
        classifier = classifier[-1]
    return classifier


def _compare(
    classifier: Any, got: npt.NDArray[np.float32], probes: npt.NDArray[np.float32]
) -> None:
    expected = classifier.predict_proba(probes)
    difference = np.abs(got - expected).max() if got.shape == expected.shape else np.inf
    # Not `>`: a difference of NaN counts, too.
    if not difference <= _TOLERANCE:
        raise _refuse(
            classifier, f"its graph returns other probabilities (difference {difference:.2g})"
        )
    chosen = expected[np.arange(len(expected)), classifier.predict(probes)]
    if (chosen < expected.max(axis=1) - _TOLERANCE).any():
        raise _refuse(classifier, "it does not predict the class with the highest probability")


def _refuse(classifier: Any, reason: str) -> UnsupportedInputError:
    return UnsupportedInputError(
        f"{type(classifier).__name__} cannot be exported: {reason}. XGBClassifier with "
        "booster='gbtree', linear models, forests, and pipelines, soft votes and calibrated "
        "classifiers that consist of these can be exported"
    )


def _convert(classifier: Any, width: int) -> onnx.ModelProto:
    skl2onnx = load_extra("skl2onnx", "export")
    types = load_extra("skl2onnx.common.data_types", "export")
    model = skl2onnx.convert_sklearn(
        classifier,
        initial_types=[("features", types.FloatTensorType([None, width]))],
        options={id(classifier): {"zipmap": False}},
        custom_conversion_functions=load_converters(),
        target_opset=dict(OPSETS),
    )
    # Without its labels: the whole graph has its own, from the probabilities.
    probabilities = model.graph.output[1].name
    graph = utils.Extractor(model).extract_model(["features"], [probabilities]).graph
    graph.name = "head"
    graph.node.append(helper.make_node("Identity", [probabilities], ["scores"]))
    del graph.output[:]
    shape = [None, len(classifier.classes_)]
    graph.output.append(helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, shape))
    return as_model(graph)


def _run(model: onnx.ModelProto, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    scores: npt.NDArray[np.float32]
    (scores,) = start_session(model.SerializeToString()).run(None, {"features": rows})
    return scores


def _make_probes(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Draw rows around the means, whose spread is the distance of the means from zero."""
    noise = np.random.default_rng(0).normal(size=(_N_PROBES, len(means)))
    return (means + noise * np.abs(means)).astype(np.float32)
