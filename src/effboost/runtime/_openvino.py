"""The OpenVINO runtime: one image per call, one thread per image."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.locks import ForkableLock
from effboost._utils.threads import count_threads

__all__ = ["OpenVinoRuntime"]

# Models of a parent process: deleting one would wait for threads that a child does not have.
_LEFT_BEHIND: Final[list[Any]] = []


class OpenVinoRuntime:
    """Runtime that runs an exported network by OpenVINO on the CPU, in float32.

    Parameters
    ----------
    graph : bytes
        The exported network: see `export_graph`.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import OpenVinoRuntime, export_graph
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> runtime = OpenVinoRuntime(export_graph(network, transform))
    >>> runtime.run(np.zeros((runtime.batch_size, 32, 32, 3), dtype=np.uint8)).shape
    (1, 8)
    """

    name = "openvino"

    def __init__(self, graph: bytes):
        self._graph = graph
        self._starting = ForkableLock()
        self.n_workers = count_threads()
        self._start()
        self.batch_size = int(self._model.input(0).shape[0])

    def _start(self) -> None:
        import openvino

        settings = {
            # One stream, which is one thread, for each worker.
            "NUM_STREAMS": self.n_workers,
            "INFERENCE_NUM_THREADS": self.n_workers,
            # It would compute in bfloat16 where the processor can.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        self._model = core.compile_model(core.read_model(self._graph), "CPU", settings)
        self._requests = threading.local()
        # The first inference of a process sets up what its Python bindings share. Two threads
        # that do so at once can wait for each other for ever.
        self._model.create_infer_request().infer([np.zeros(self._model.input(0).shape, np.uint8)])
        self._process = os.getpid()

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the features of one batch; see `Runtime`.

        Parameters
        ----------
        pixels : ndarray of shape (batch_size, image_size, image_size, 3), uint8
            Prepared RGB images.

        Returns
        -------
        ndarray of shape (batch_size, n_features), float32
            The features.
        """
        if self._process != os.getpid():
            with self._starting:
                if self._process != os.getpid():
                    # Its threads did not come along into a forked child.
                    _LEFT_BEHIND.append((self._model, self._requests))
                    self._start()
        if not hasattr(self._requests, "own"):
            self._requests.own = self._model.create_infer_request()
        # A copy: the next call of this thread writes to the same memory.
        features: npt.NDArray[np.float32] = self._requests.own.infer([pixels])[0].copy()
        return features
