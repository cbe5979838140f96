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
from effboost.onnx._file import describe
from effboost.onnx._graph import as_model, average_views, decide, join
from effboost.onnx._head import convert_head, linear_head
from effboost.onnx._preprocess import preprocess
from effboost.onnx._standalone import write_folder
from effboost.onnx._web import check_web, write_page
from onnx import checker, helper

__all__ = ["export_onnx"]


def export_onnx(
    model: HybridClassifier | CNNClassifier,
    path: str | os.PathLike[str],
    *,
    standalone: bool = False,
    web: bool = False,
    web_runtime: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a fitted classifier as one ONNX graph, from the image to the class.

    The graph contains crop, resize, normalisation, the network, the classifier on its features and
    the labels. `OnnxClassifier` or any other ONNX runtime can run it without torch. Its input is
    one "image" (h, w, 3) of any size, uint8 RGB; its outputs are "probabilities" (1, n_classes) and
    "label" (1,).

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
    web : bool, default=False
        Write a folder instead that is a web page: it classifies images in the browser, which sends
        them nowhere. Any web server that serves files can serve it.
    web_runtime : path, "npm" or "cdn", default=None
        Where the page's ONNX Runtime Web comes from. None and "npm" download a fixed version by
        the command ``npm``; a path is a folder with its files, or the package as a ``.tgz`` file.
        Hashes are checked. With "cdn", the browser downloads it from cdn.jsdelivr.net and checks
        its hashes, each time that it loads the page.

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
        If its network cannot be exported, or the files of ONNX Runtime Web are missing or changed.
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
    _check_form(standalone, web, web_runtime)
    # Before the export, which takes longer.
    runtime = check_web(path, model, web_runtime or "npm") if web else {}
    graph = _build(model).SerializeToString()
    if standalone:
        return write_folder(path, graph, model.classes_, model.featurizer_.spec_.name)
    if web:
        return write_page(path, graph, model.classes_, model.featurizer_.spec_.name, runtime)
    return write_atomic(path, graph)


def _check_form(standalone: bool, web: bool, web_runtime: Any) -> None:
    if standalone and web:
        raise UnsupportedInputError(
            "standalone=True and web=True are two different folders; export the model once for each"
        )
    if not isinstance(web_runtime, str | os.PathLike | None):
        raise UnsupportedInputError(
            f'web_runtime={web_runtime!r} must be a path, "npm", "cdn" or None'
        )
    if web_runtime is not None and not web:
        raise UnsupportedInputError(
            f"web_runtime={web_runtime!r} has no effect without web=True; set that, or leave it out"
        )


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
    if isinstance(model, HybridClassifier):
        head = convert_head(model.classifier_, model.feature_means_)
    else:
        head = linear_head(featurizer.head_, featurizer._n_features_out, len(model.classes_))
    whole = join(
        preprocess(featurizer.transform_),
        average_views(network, n_views),
        head,
        decide(model.classes_),
    )
    whole.graph.name = "effboost"
    whole.producer_name, whole.producer_version = "effboost", version("effboost")
    metadata = describe(
        model.classes_,
        featurizer.transform_,
        featurizer.image_shape,
        getattr(featurizer, "feature_names_in_", None),
    )
    helper.set_model_props(whole, metadata)
    checker.check_model(whole, full_check=True)
    return whole


def _part(graph: onnx.GraphProto, name: str) -> onnx.ModelProto:
    """Return a part of the graph without the exporter's metadata, such as paths of this machine."""
    graph.name = name
    del graph.value_info[:], graph.metadata_props[:]
    for noted in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del noted.metadata_props[:]
        noted.doc_string = ""
    return as_model(graph)
