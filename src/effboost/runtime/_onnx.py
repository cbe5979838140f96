"""The onnxruntime runtime: one image per call, one thread per image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from effboost._utils.onnx_session import start_session
from effboost._utils.threads import count_threads

__all__ = ["OnnxRuntime"]


class OnnxRuntime:
    """Runtime that runs an exported network by onnxruntime on the CPU.

    Each call computes in the calling thread and starts no other threads. So no thread spins between
    calls, and the number of cores does not change the result.

    Parameters
    ----------
    graph : bytes
        The exported network: see `export_graph`.
    """

    name = "onnxruntime"

    def __init__(self, graph: bytes):
        self._session = start_session(graph)
        self.batch_size = int(self._session.get_inputs()[0].shape[0])
        self.n_workers = count_threads()

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the features of one batch; see `Runtime`."""
        return self.run_all(pixels)[0]

    def run_all(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Compute all outputs of the graph: the features, and further outputs if there are any."""
        outputs: list[npt.NDArray[np.float32]] = self._session.run(None, {"pixels": pixels})
        return outputs
