"""An exported model, ready to run without torch and onnx."""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._familiarity import REASONS
from effboost._images.measures import measure
from effboost._utils.onnx_session import start_session
from effboost._utils.refusal import RefusedError
from effboost.exceptions import ModelFileError
from effboost.onnx._file import Description, read_description, read_file
from effboost.onnx._wire import read_plain

__all__ = ["FAMILIARITY", "REASONS_OUTPUT", "OnnxModel"]

# The output with the p-value of the features.
FAMILIARITY: Final = "familiarity"
# The output with the reasons to flag an image. Files of older versions do not have it.
REASONS_OUTPUT: Final = "reasons"


class OnnxModel:
    """An exported model, which takes one image per call. Threads may call it at the same time.

    Parameters
    ----------
    name : str
        The name of the file in error messages.
    content : bytes
        The file's content.
    """

    def __init__(self, name: str, content: bytes):
        self.name = name
        try:
            # What runs is what was read.
            self._content = read_plain(content)
            self._session = _start(self._content)
            self.description, self._has_reasons = _read(self._session)
        except RefusedError as error:
            raise ModelFileError(name, str(error)) from error.__cause__

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> OnnxModel:
        """Read the file."""
        name = os.fspath(path)
        try:
            content = read_file(path)
        except RefusedError as error:
            raise ModelFileError(name, str(error)) from error
        return cls(name, content)

    def run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the probabilities (n_classes,) of one image (h, w, 3).

        Raises
        ------
        ModelFileError
            If the graph cannot be run.
        """
        (scores,) = self._run(["probabilities"], image)
        probabilities: npt.NDArray[np.float32] = scores[0]
        return probabilities

    def run_with_familiarity(
        self, image: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], float, npt.NDArray[np.bool_]]:
        """Compute the probabilities of one image, and what its flags depend on.

        Returns
        -------
        probabilities : ndarray of shape (n_classes,)
            As `run`.
        p_value : float
            The p-value of its features.
        outside : ndarray of shape (3,)
            Whether its size, exposure and sharpness are outside the range of the training images.

        Raises
        ------
        ModelFileError
            If the graph cannot be run, or does not compute the p-value.
        """
        outputs = ["probabilities", FAMILIARITY, *([REASONS_OUTPUT] if self._has_reasons else [])]
        scores, familiarity, *reasons = self._run(outputs, image)
        if reasons:
            outside = reasons[0][0, 1:]
        else:
            usual: Any = self.description.usual
            (outside,) = usual.find_outside(measure(Image.fromarray(image))[None])
        return scores[0], float(familiarity[0]), outside

    def _run(self, outputs: list[str], image: npt.NDArray[np.uint8]) -> Any:
        try:
            return self._session.run(outputs, {"image": image})
        except Exception as error:  # of onnxruntime, which documents none
            raise ModelFileError(self.name, f"cannot be run ({_reason(error)})") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self._content)


def _start(content: bytes) -> Any:
    try:
        return start_session(content)
    except ImportError:
        raise
    except Exception as error:  # of onnxruntime, which documents none
        raise RefusedError(f"is refused by onnxruntime ({_reason(error)})") from error


def _read(session: Any) -> tuple[Description, bool]:
    """Read the metadata, and check that the graph has matching inputs and outputs.

    Also return whether it names reasons to flag images.
    """
    try:
        metadata = session.get_modelmeta().custom_metadata_map
        inputs = {i.name: (i.type, i.shape[-1:]) for i in session.get_inputs()}
        outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    except UnicodeDecodeError as error:
        raise RefusedError(f"contains damaged text ({error})") from error
    description = read_description(metadata)
    n_classes = len(description.classes)
    expected = ("tensor(float)", [1, n_classes])
    if inputs != {"image": ("tensor(uint8)", [3])} or outputs.get("probabilities") != expected:
        raise RefusedError(
            f"takes {sorted(inputs)!s:.200} and gives {sorted(outputs)!s:.200}; an export takes an "
            f"image and gives the probabilities of its {n_classes} classes"
        )
    if description.usual is not None and outputs.get(FAMILIARITY) != ("tensor(float)", [1]):
        raise RefusedError("says that it flags unfamiliar images, but does not compute familiarity")
    has_reasons = REASONS_OUTPUT in outputs
    if has_reasons and outputs[REASONS_OUTPUT] != ("tensor(bool)", [1, len(REASONS)]):
        raise RefusedError("has reasons to flag images that are not those of an export")
    return description, has_reasons


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
