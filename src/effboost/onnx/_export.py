"""Export of a fitted classifier to one ONNX file."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

import onnx
from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._hybrid_classifier import HybridClassifier
from effboost._transforms import Views
from effboost._utils.atomic_write import write_atomic
from effboost.exceptions import UnsupportedInputError
from effboost.onnx._familiarity import add_colours, add_familiarity
from effboost.onnx._file import describe
from effboost.onnx._graph import as_model, average_views, decide, join
from effboost.onnx._head import convert_head, linear_head
from effboost.onnx._model import FAMILIARITY
from effboost.onnx._preprocess import preprocess
from effboost.onnx._standalone import write_folder
from onnx import checker, helper

__all__ = ["export_onnx"]


def export_onnx(
    model: HybridClassifier | CNNClassifier,
    path: str | os.PathLike[str],
    *,
    standalone: bool = False,
) -> Path:
    """Write a fitted classifier as one ONNX graph, from the image to the class.

    The graph contains crop, resize, normalisation, the network, the classifier on its features and
    the labels. `OnnxClassifier` or any other ONNX runtime can run it without torch. Its input is
    one "image" (h, w, 3) of any size, uint8 RGB; its outputs are "probabilities" (1, n_classes),
    "label" (1,) and, for a hybrid that has learnt it, "familiarity" (1,): the p-value of
    `HybridClassifier.check_familiarity`.

    Parameters
    ----------
    model : HybridClassifier or CNNClassifier
        The fitted classifier. The head of a hybrid must have `predict_proba` and a converter:
        XGBoost's trees, most classifiers of scikit-learn, and pipelines, soft votes and calibrated
        classifiers that consist of these.
    path : path
        The ``.onnx`` file to write, or the folder.
    standalone : bool, default=False
        Write a folder instead: ``model.onnx``, a script ``predict.py`` that classifies files and
        folders with only numpy, Pillow and onnxruntime, the modules of effboost that it needs in
        ``effboost_parts``, its ``requirements.txt``, and a ``README.md``.

    Returns
    -------
    Path
        The file or folder. It is written completely or not at all.

    Raises
    ------
    UnsupportedInputError
        If the model is of another class, its head cannot be exported, or its transform has
        ``foreground=True`` or stain normalisation.
    RuntimeUnavailableError
        If its network cannot be exported.
    MissingDependencyError
        If the extra "export" is not installed and the model is a hybrid.
    FileExistsError
        If the folder exists and is not empty.

    See Also
    --------
    OnnxClassifier : Runs the file.

    Notes
    -----
    The graphs of the network and of the head are compared with the originals before anything is
    written. The graph crops and resizes as Pillow 13 does, to the bit.

    A file of EfficientNet-B0 with 100 boosted trees takes about 17 MB.
    """
    graph = _build(model).SerializeToString()
    if standalone:
        return write_folder(path, graph, model.classes_, model.featurizer_.spec_.name)
    return write_atomic(path, graph)


def _build(model: Any) -> onnx.ModelProto:
    if not isinstance(model, HybridClassifier | CNNClassifier):
        raise UnsupportedInputError(
            f"got {type(model).__name__}; export_onnx takes a fitted HybridClassifier or "
            "CNNClassifier"
        )
    check_is_fitted(model)
    featurizer: ImageFeaturizer = model.featurizer_
    n_views = Views(featurizer.views).count
    if n_views > 1 and getattr(model, "view_averaging", "features") == "probabilities":
        raise UnsupportedInputError(
            'view_averaging="probabilities" cannot be exported: the graph averages the features '
            'of the views; fit with view_averaging="features"'
        )
    network = _part(onnx.load_from_string(featurizer._extractor.graph()).graph, "network")
    views = average_views(network, n_views)
    if isinstance(model, HybridClassifier):
        head = convert_head(model.classifier_, model.feature_means_)
        if hasattr(model, "familiarity_"):
            head = add_familiarity(head, model.familiarity_)
            views = add_colours(views, featurizer.transform_.side)
    else:
        head = linear_head(featurizer.head_, featurizer._n_features_out, len(model.classes_))
    whole = join(
        preprocess(featurizer.transform_),
        views,
        head,
        decide(model.classes_),
    )
    _put_last(whole.graph, FAMILIARITY)
    whole.graph.name = "effboost"
    whole.producer_name, whole.producer_version = "effboost", version("effboost")
    metadata = describe(
        model.classes_,
        featurizer.transform_,
        featurizer.image_shape,
        getattr(featurizer, "feature_names_in_", None),
        model.familiarity_.usual if hasattr(model, "familiarity_") else None,
    )
    helper.set_model_props(whole, metadata)
    checker.check_model(whole, full_check=True)
    return whole


def _put_last(graph: onnx.GraphProto, name: str) -> None:
    """Put an output, if there is one of this name, behind the others."""
    outputs = sorted(graph.output, key=lambda output: output.name == name)
    del graph.output[:]
    graph.output.extend(outputs)


def _part(graph: onnx.GraphProto, name: str) -> onnx.ModelProto:
    """Return a part of the graph without the exporter's metadata, such as paths of this machine."""
    graph.name = name
    del graph.value_info[:], graph.metadata_props[:]
    for noted in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del noted.metadata_props[:]
        noted.doc_string = ""
    return as_model(graph)
