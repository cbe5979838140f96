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

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import OnnxRuntime, export_graph
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> runtime = OnnxRuntime(export_graph(network, transform))
    >>> runtime.run(np.zeros((runtime.batch_size, 32, 32, 3), dtype=np.uint8)).shape
    (1, 8)
    """

    name = "onnxruntime"

    def __init__(self, graph: bytes):
        self._session = start_session(graph)
        self.batch_size = int(self._session.get_inputs()[0].shape[0])
        self.n_workers = count_threads()

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
        return self.run_all(pixels)[0]

    def run_all(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Compute all outputs of the graph: the features, and further outputs if there are any.

        Parameters
        ----------
        pixels : ndarray of shape (batch_size, image_size, image_size, 3), uint8
            Prepared RGB images.

        Returns
        -------
        list of ndarray
            The outputs, the features first.
        """
        outputs: list[npt.NDArray[np.float32]] = self._session.run(None, {"pixels": pixels})
        return outputs
