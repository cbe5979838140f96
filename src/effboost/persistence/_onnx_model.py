"""An exported model, read from its file and ready to run. Needs neither torch nor onnx."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from effboost._sessions import start_session
from effboost.exceptions import ModelFileError
from effboost.persistence._onnx_file import check_plain, read_description

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
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.classes, self.image_shape = read_description(metadata)
            _check_form(self._session, len(self.classes))
        except ModelFileError as error:
            raise ModelFileError(f"{name!r} {error}") from error.__cause__

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> OnnxModel:
        """Read the file."""
        return cls(os.fspath(path), Path(path).read_bytes())

    def run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Give the probabilities (n_classes,) of one picture (h, w, 3)."""
        (scores,) = self._session.run(["probabilities"], {"image": image})
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
        reason = str(error).strip().partition("\n")[0]
        raise ModelFileError(f"is refused by onnxruntime ({reason:.300})") from error


def _check_form(session: Any, k: int) -> None:
    """Check that a graph takes and gives what an export does."""
    inputs = {i.name: (i.type, i.shape[-1:]) for i in session.get_inputs()}
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    if inputs != {"image": ("tensor(uint8)", [3])} or outputs.get("probabilities") != (
        "tensor(float)",
        [1, k],
    ):
        raise ModelFileError(
            f"takes {sorted(inputs)} and gives {sorted(outputs)}; an export takes an image and "
            f"gives the probabilities of its {k} classes"
        )
