"""The onnxruntime engine: one image a call, one thread an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from effboost._utils.onnx_session import start_session
from effboost._utils.threads import count_threads

__all__ = ["OnnxRuntime"]


class OnnxRuntime:
    """Run an exported network by onnxruntime on the CPU.

    Each call computes in the thread that makes it, and has none beside it: nothing spins between
    calls, and the number of cores changes no bit.

    Parameters
    ----------
    graph : bytes
        What `export_graph` gives.
    """

    name = "onnxruntime"

    def __init__(self, graph: bytes):
        self._session = start_session(graph)
        self.batch_size = int(self._session.get_inputs()[0].shape[0])
        self.n_workers = count_threads()

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Carry one batch through the network; see `Runtime`."""
        return self.run_all(pixels)[0]

    def run_all(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Return every output of the graph: the features, and what was added to them."""
        outputs: list[npt.NDArray[np.float32]] = self._session.run(None, {"pixels": pixels})
        return outputs
