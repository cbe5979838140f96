"""The metadata of an exported file: classes, transform, format."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import stat
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from effboost._familiarity import TrainingRange
from effboost._utils.class_names import are_classes
from effboost._utils.refusal import RefusedError
from effboost.onnx._wire import check_outline

if TYPE_CHECKING:
    from effboost._transforms import ImageTransform

__all__ = ["Description", "describe", "read_description", "read_file"]

_FORMAT: Final = 1
# Of Protocol Buffers.
_MAX_BYTES: Final = 2**31 - 1
_MAX_SIDE: Final = 2**16
_LABEL_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "bool": (bool,),
    "float64": (float, int),
    "int64": (int,),
    "object": (bool, float, int, str),
    "str": (str,),
}


@dataclasses.dataclass(frozen=True)
class Description:
    """Metadata of an exported model.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    image_shape : tuple or None
        Height, width and channels if images are numeric rows.
    feature_names : ndarray of shape (n_features,), object, or None
        The names of the columns of these rows, if the model was fitted on a table with names.
    usual : TrainingRange or None
        What is usual among the training images, if the model has learnt it.
    """

    classes: npt.NDArray[Any]
    image_shape: tuple[int, ...] | None
    feature_names: npt.NDArray[np.object_] | None
    usual: TrainingRange | None = None


def describe(
    classes: npt.NDArray[Any],
    transform: ImageTransform,
    image_shape: tuple[int, ...] | None,
    feature_names: npt.NDArray[np.object_] | None = None,
    usual: TrainingRange | None = None,
) -> dict[str, str]:
    """Describe an exported model as metadata, whose values are strings.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    transform : ImageTransform
        The preparation of images.
    image_shape : tuple or None
        Height, width and channels if images are numeric rows.
    feature_names : ndarray of shape (n_features,), default=None
        The names of the columns of these rows.
    usual : TrainingRange, default=None
        What is usual among the training images.
    """
    names = {} if feature_names is None else {"feature_names": json.dumps(feature_names.tolist())}
    kind = {"b": "bool", "f": "float64", "i": "int64", "u": "int64", "O": "object"}
    return {
        "effboost_format": str(_FORMAT),
        "effboost_version": version("effboost"),
        "classes": json.dumps(classes.tolist()),
        "classes_dtype": kind.get(classes.dtype.kind, "str"),
        "transform": json.dumps(transform.describe()),
        "image_shape": json.dumps(image_shape),
        **names,
        **({} if usual is None else {"familiarity": json.dumps(usual.to_plain())}),
    }


def read_description(metadata: Mapping[str, str]) -> Description:
    """Read metadata that `describe` made.

    Raises
    ------
    RefusedError
        If they are missing, damaged, or of an unknown format.
    """
    written = metadata.get("effboost_format")
    if written is None:
        raise RefusedError("was not exported by effboost; export a model with effboost.export_onnx")
    if written != str(_FORMAT):
        raise RefusedError(
            f"has format {written[:80]!r}; this effboost reads format {_FORMAT}. Install the "
            f"version that wrote it, effboost {str(metadata.get('effboost_version'))[:80]}, or a "
            "newer one"
        )
    try:
        shape = _read_shape(metadata)
        usual = metadata.get("familiarity")
        return Description(
            _read_classes(metadata),
            shape,
            _read_names(metadata, shape),
            None if usual is None else TrainingRange.from_plain(json.loads(usual)),
        )
    except (KeyError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise RefusedError(f"has damaged metadata ({error})") from error


def _read_classes(metadata: Mapping[str, str]) -> npt.NDArray[Any]:
    kind, values = metadata["classes_dtype"], json.loads(metadata["classes"])
    if kind not in _LABEL_TYPES:
        raise ValueError(f"labels of type {kind!r:.60}")
    if (
        not are_classes(values)
        or not all(type(value) in _LABEL_TYPES[kind] for value in values)
        or not all(math.isfinite(value) for value in values if isinstance(value, float))
    ):
        raise ValueError(f"classes {values!r:.60}")
    return np.array(values, dtype=kind)


def _read_shape(metadata: Mapping[str, str]) -> tuple[int, ...] | None:
    shape = json.loads(metadata["image_shape"])
    if shape is None:
        return None
    if len(shape) not in (2, 3) or not all(type(n) is int and 0 < n <= _MAX_SIDE for n in shape):
        raise ValueError(f"image_shape {shape!r:.60}")
    return tuple(shape)


def _read_names(
    metadata: Mapping[str, str], shape: tuple[int, ...] | None
) -> npt.NDArray[np.object_] | None:
    if "feature_names" not in metadata:
        return None
    names = json.loads(metadata["feature_names"])
    if (
        shape is None
        or not isinstance(names, list)
        or len(names) != math.prod(shape)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(f"feature_names {names!r:.60}")
    return np.array(names, dtype=object)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of an ONNX file, without checking its content.

    Raises
    ------
    RefusedError
        If it is not a regular file, or larger than ONNX files can be.
    FileNotFoundError
        If it does not exist.
    """
    # Before it is opened: opening a pipe waits for a writer.
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("is not a regular file")
    if status.st_size > _MAX_BYTES:
        raise RefusedError(f"has {status.st_size:,} bytes; ONNX files have {_MAX_BYTES:,} at most")
    with Path(path).open("rb") as stream:
        # Of files of zeros, for one, nothing else is read.
        check_outline(stream, status.st_size)
        stream.seek(0)
        return stream.read()
