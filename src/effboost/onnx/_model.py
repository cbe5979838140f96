"""An exported model, read from its file and ready to run. Needs neither torch nor onnx."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from effboost._utils.onnx_session import start_session
from effboost._utils.refusal import RefusedError
from effboost.exceptions import ModelFileError
from effboost.onnx._file import check_plain, read_description

__all__ = ["OnnxModel"]


class OnnxModel:
    """An exported model, one image a call. Threads may call it at the same time.

    Parameters
    ----------
    name : str
        What errors call the file.
    content : bytes
        What it holds.
    """

    def __init__(self, name: str, content: bytes):
        self.name, self._content = name, content
        try:
            check_plain(content)
            self._session = _start(content)
            self.classes, self.image_shape = _read(self._session)
        except RefusedError as error:
            raise ModelFileError(name, str(error)) from error.__cause__

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> OnnxModel:
        """Read the file."""
        return cls(os.fspath(path), Path(path).read_bytes())

    def run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Give the probabilities (n_classes,) of one picture (h, w, 3).

        Raises
        ------
        ModelFileError
            If the graph cannot be computed.
        """
        try:
            (scores,) = self._session.run(["probabilities"], {"image": image})
        except Exception as error:  # of onnxruntime, which documents none
            raise ModelFileError(self.name, f"cannot be run ({_reason(error)})") from error
        probabilities: npt.NDArray[np.float32] = scores[0]
        return probabilities

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self._content)


def _start(content: bytes) -> Any:
    try:
        return start_session(content)
    except ImportError:
        raise
    except Exception as error:  # of onnxruntime, which documents none
        raise RefusedError(f"is refused by onnxruntime ({_reason(error)})") from error


def _read(session: Any) -> tuple[npt.NDArray[Any], tuple[int, ...] | None]:
    """Give what the file says about itself, and check that its graph is of that form."""
    try:
        metadata = session.get_modelmeta().custom_metadata_map
        inputs = {i.name: (i.type, i.shape[-1:]) for i in session.get_inputs()}
        outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    except UnicodeDecodeError as error:
        raise RefusedError(f"holds damaged text ({error})") from error
    classes, image_shape = read_description(metadata)
    expected = ("tensor(float)", [1, len(classes)])
    if inputs != {"image": ("tensor(uint8)", [3])} or outputs.get("probabilities") != expected:
        raise RefusedError(
            f"takes {sorted(inputs)} and gives {sorted(outputs)}; an export takes an image and "
            f"gives the probabilities of its {len(classes)} classes"
        )
    return classes, image_shape


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
