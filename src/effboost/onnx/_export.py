"""Export of a fitted classifier to one ONNX file."""

from __future__ import annotations

import os
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

import onnx
from effboost._cnn_classifier import CNNClassifier
from effboost._extraction.prepared_images import PreparedImages
from effboost._featurizer import ImageFeaturizer
from effboost._hybrid_classifier import HybridClassifier
from effboost._images import ImageSequence
from effboost._transforms import Views
from effboost._utils.atomic_write import write_atomic
from effboost.exceptions import PrecisionWarning, UnsupportedInputError
from effboost.onnx._agreement import Agreement, choose_evenly, compare, split_images
from effboost.onnx._familiarity import add_colours, add_familiarity
from effboost.onnx._file import describe
from effboost.onnx._graph import as_model, average_views, decide, join
from effboost.onnx._head import convert_head, linear_head
from effboost.onnx._measures import add_outside
from effboost.onnx._model import FAMILIARITY, REASONS_OUTPUT
from effboost.onnx._precision import to_float16, to_int8
from effboost.onnx._preprocess import preprocess
from effboost.onnx._standalone import write_folder
from effboost.onnx._web import check_web, write_page
from effboost.runtime._export import remove_notes
from onnx import checker, helper

__all__ = ["export_onnx"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PRECISIONS: Final = ("float32", "float16", "int8")
# More images change the ranges of activations little, and take longer.
_N_CALIBRATION: Final = 64
# Below `min_agreement` by so much, the export is of no use.
_TOO_FAR: Final = 0.1


def export_onnx(
    model: HybridClassifier | CNNClassifier,
    path: str | os.PathLike[str],
    *,
    standalone: bool = False,
    web: bool = False,
    web_runtime: str | os.PathLike[str] | None = None,
    precision: str = "float32",
    calibration: Any = None,
    validation: Any = None,
    min_agreement: float = 0.99,
) -> Path:
    """Write a fitted classifier as one ONNX graph, from the image to the class.

    The graph contains crop, resize, normalisation, the network, the classifier on its features and
    the labels. `OnnxClassifier` or any other ONNX runtime can run it without torch. Its input is
    one "image" (h, w, 3) of any size, uint8 RGB; its outputs are "probabilities" (1, n_classes),
    "label" (1,) and, for a hybrid that has `check_familiarity`, "familiarity" (1,), its p-value,
    and "reasons" (1, 4), bool: whether features, size, exposure and blur are a reason to flag the
    image, at the default `alpha`.

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
    precision : {"float32", "float16", "int8"}, default="float32"
        How the network is stored and computed. "float16" stores its weights in half the size; it
        still computes in float32. "int8" stores them in a quarter of the size, and computes in
        integers of 8 bits, except for layers with large maps. Preprocessing and head are always
        those of "float32".
    calibration : images, default=None
        For "int8", which requires it, and "float16": some training images; 64 of them determine the
        ranges of activations. Without `validation`, a fifth of their subjects (the groups of an
        `ImageSequence`, otherwise single images) is left out for the comparison.
    validation : images, default=None
        Images on which the classes are compared, of other subjects than those in `calibration`.
    min_agreement : float, default=0.99
        The share of images for which the export must predict the class that the model predicts.

    Returns
    -------
    Path
        The file or folder. It is written completely or not at all.

    Raises
    ------
    UnsupportedInputError
        If the model is of another class, its head cannot be exported, or its transform has
        ``foreground=True`` or stain normalisation; if `calibration` is missing or too small; or if
        the classes agree for less than ``min_agreement - 0.1`` of the validation images.
    LeakageError
        If a subject of `calibration` is also in `validation`.
    RuntimeUnavailableError
        If its network cannot be exported, or the files of ONNX Runtime Web are missing or changed.
    MissingDependencyError
        If the extra "export" is not installed and the model is a hybrid.
    FileExistsError
        If the folder exists and is not empty.

    Warns
    -----
    PrecisionWarning
        If the classes agree for less than `min_agreement` of the images.

    See Also
    --------
    OnnxClassifier : Runs the file.

    Notes
    -----
    The graphs of the network and of the head are compared with the originals before anything is
    written. The graph crops and resizes as Pillow 13 does, to the bit.

    A file of EfficientNet-B0 with 100 boosted trees takes about 17 MB. The agreement is in the
    metadata of the file: see `describe_model`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost import OnnxClassifier, export_onnx, presets
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> clf = clf.fit(cells.images, cells.target)
    >>> with TemporaryDirectory() as folder:
    ...     path = export_onnx(clf, Path(folder, "model.onnx"))
    ...     labels = OnnxClassifier(path).predict(cells.images)
    >>> bool((labels == clf.predict(cells.images)).all())
    True
    """
    _check_form(standalone, web, web_runtime)
    _check_precision(precision, calibration, validation)
    check_is_fitted(_check_model(model))
    classes = model.classes_
    if classes.dtype.kind == "u" and classes.max() > np.iinfo(np.int64).max:
        raise UnsupportedInputError(
            f"the label {classes.max()} is too large for a graph, whose integers have 64 bits and "
            "a sign: use smaller labels, or strings"
        )
    for label in classes.tolist():
        if isinstance(label, str) and _SURROGATE.search(label):
            raise UnsupportedInputError(f"the label {label!r} is no text that a graph can hold")
    # Before the export, which takes longer.
    runtime = check_web(path, model, web_runtime or "npm") if web else {}
    if precision == "float32":
        graph = _build(model, _network(model)).SerializeToString()
    else:
        graph = _build_smaller(model, precision, calibration, validation, min_agreement)
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


def _check_model(model: Any) -> Any:
    if not isinstance(model, HybridClassifier | CNNClassifier):
        raise UnsupportedInputError(
            f"got {type(model).__name__}; export_onnx takes a fitted HybridClassifier or "
            "CNNClassifier"
        )
    return model


def _check_precision(precision: str, calibration: Any, validation: Any) -> None:
    if precision not in _PRECISIONS:
        raise UnsupportedInputError(f"precision={precision!r}; expected one of {_PRECISIONS}")
    if precision == "float32" and (calibration is not None or validation is not None):
        raise UnsupportedInputError(
            'calibration and validation have no effect with precision="float32"; leave them out, '
            'or set precision="int8"'
        )
    if calibration is None and (precision == "int8" or validation is not None):
        raise UnsupportedInputError(
            f"precision={precision!r} without calibration; pass some training images"
        )


def _network(model: Any) -> onnx.ModelProto:
    return onnx.load_from_string(model.featurizer_._extractor.graph())


def _build_smaller(
    model: Any, precision: str, calibration: Any, validation: Any, min_agreement: float
) -> bytes:
    """Build the graph with fewer bits, and compare it with the model."""
    featurizer: ImageFeaturizer = model.featurizer_
    notes = {"precision": precision}
    if calibration is None:
        return _build(model, to_float16(_network(model)), notes).SerializeToString()
    known, others = split_images(
        featurizer._check_images(calibration, reset=False),
        None if validation is None else featurizer._check_images(validation, reset=False),
    )
    known = choose_evenly(known, _N_CALIBRATION)
    if precision == "int8":
        network = to_int8(_network(model), _prepare(featurizer, known))
    else:
        network = to_float16(_network(model))
    whole = _build(model, network, notes)
    agreement = compare(model, whole.SerializeToString(), known, others)
    _judge(agreement, precision, min_agreement)
    helper.set_model_props(whole, _metadata(model) | notes | {"agreement": agreement.describe()})
    return whole.SerializeToString()


def _prepare(featurizer: ImageFeaturizer, images: ImageSequence) -> list[npt.NDArray[np.uint8]]:
    """Prepare images as the graph does; if it uses several views, each in one of them."""
    prepared, views = PreparedImages(images, featurizer.transform_), Views(featurizer.views)
    pixels = (prepared.pixels([i])[0] for i in range(len(prepared)))
    return [
        np.ascontiguousarray(views.show(one)[i % views.count])[None] for i, one in enumerate(pixels)
    ]


def _judge(agreement: Agreement, precision: str, min_agreement: float) -> None:
    if min(agreement.calibration, agreement.held_out) >= min_agreement:
        return
    found = (
        f"with precision={precision!r}, the export and the model predict the same class for "
        f"{agreement.calibration:.1%} of {agreement.n_calibration} calibration images and "
        f"{agreement.held_out:.1%} of {agreement.n_held_out} others; min_agreement is "
        f"{min_agreement:.1%}"
    )
    advice = "use another precision, or a network without squeeze-and-excitation, such as "
    advice += '"efficientnet_lite0"'
    if agreement.held_out < min_agreement - _TOO_FAR:
        raise UnsupportedInputError(f"{found}, and nothing was written: {advice}")
    warnings.warn(f"{found}: check its results, or {advice}", PrecisionWarning, stacklevel=4)


def _metadata(model: Any) -> dict[str, str]:
    featurizer: ImageFeaturizer = model.featurizer_
    return describe(
        model.classes_,
        featurizer.transform_,
        featurizer.image_shape,
        getattr(featurizer, "feature_names_in_", None),
        model.familiarity_.usual if hasattr(model, "familiarity_") else None,
    )


def _build(
    model: Any, network: onnx.ModelProto, notes: dict[str, str] | None = None
) -> onnx.ModelProto:
    featurizer: ImageFeaturizer = model.featurizer_
    n_views = Views(featurizer.views).count
    if n_views > 1 and getattr(model, "view_averaging", "features") == "probabilities":
        raise UnsupportedInputError(
            'view_averaging="probabilities" cannot be exported: the graph averages the features '
            'of the views; fit with view_averaging="features"'
        )
    network = _part(network.graph, "network")
    views = average_views(network, n_views)
    prepared = preprocess(featurizer.transform_)
    if isinstance(model, HybridClassifier):
        head = convert_head(model.classifier_, model.feature_means_)
        if hasattr(model, "familiarity_"):
            head = add_familiarity(head, model.familiarity_)
            views = add_colours(views, featurizer.transform_.side)
            prepared = add_outside(prepared, model.familiarity_.usual)
    else:
        head = linear_head(featurizer.head_, featurizer._n_features_out, len(model.classes_))
    whole = join(prepared, views, head, decide(model.classes_))
    _put_last(whole.graph, (FAMILIARITY, REASONS_OUTPUT))
    whole.graph.name = "effboost"
    whole.producer_name, whole.producer_version = "effboost", version("effboost")
    helper.set_model_props(whole, _metadata(model) | (notes or {}))
    checker.check_model(whole, full_check=True)
    return whole


def _put_last(graph: onnx.GraphProto, names: tuple[str, ...]) -> None:
    """Put the outputs of these names, if there are any, behind the others, in this order."""
    places = {name: place for place, name in enumerate(names)}
    outputs = sorted(graph.output, key=lambda output: places.get(output.name, -1))
    del graph.output[:]
    graph.output.extend(outputs)


def _part(graph: onnx.GraphProto, name: str) -> onnx.ModelProto:
    """Return a part of the graph under a name, without notes of its exporter."""
    graph.name = name
    del graph.value_info[:]
    remove_notes(graph)
    return as_model(graph)
