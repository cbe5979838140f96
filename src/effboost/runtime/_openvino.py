"""The OpenVINO engine: one image a call, one thread an image."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from effboost._utils.threads import count_threads

__all__ = ["OpenVinoRuntime"]


class OpenVinoRuntime:
    """Run an exported network by OpenVINO on the CPU, in float32.

    Parameters
    ----------
    graph : bytes
        What `export_graph` gives.
    """

    name = "openvino"

    def __init__(self, graph: bytes):
        import openvino

        self.n_workers = count_threads()
        settings = {
            # One stream, which is one thread, for each worker.
            "NUM_STREAMS": self.n_workers,
            "INFERENCE_NUM_THREADS": self.n_workers,
            # It would compute in bfloat16 where the processor can.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        self._model = core.compile_model(core.read_model(graph), "CPU", settings)
        self.batch_size = int(self._model.input(0).shape[0])
        self._own = threading.local()

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Carry one batch through the network; see `Runtime`."""
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()
        # A copy: the next call of this thread writes to the same memory.
        features: npt.NDArray[np.float32] = self._own.request.infer([pixels])[0].copy()
        return features
