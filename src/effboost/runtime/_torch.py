"""The torch runtime: batch norms folded into convolutions, channels last."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from effboost._transforms import ImageTransform
from effboost._utils.device import computing, tracing
from effboost._utils.locks import ForkableLock, ignore_warnings

__all__ = ["TorchRuntime", "fused"]


class TorchRuntime:
    """Runtime that runs a network by torch.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    transform : ImageTransform
        Its normalisation is applied on the device.
    device : torch.device
        Where to compute.
    batch_size : int, default=8
        Images per call. With eight, the activations of EfficientNet-B0 fit into the caches of a
        CPU; larger batches are slower there.
    """

    name = "torch"
    # One thread decodes while the other one computes, on all cores or on the GPU.
    n_workers = 2

    def __init__(
        self,
        module: nn.Module,
        transform: ImageTransform,
        device: torch.device,
        batch_size: int = 8,
    ):
        self.batch_size = batch_size
        self._device = device
        self._turn = ForkableLock()
        self.module = fused(module).to(device).to(memory_format=torch.channels_last)
        self.scale, self.shift = (
            torch.from_numpy(values).view(1, 3, 1, 1).to(device)
            for values in transform.scale_and_shift()
        )

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the features of one batch; see `Runtime`."""
        with self._turn, computing(), torch.inference_mode():
            # The memory layout of pictures is channels last already: no value is moved.
            batch = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
            batch = batch.float().mul_(self.scale).add_(self.shift)
            features: npt.NDArray[np.float32] = self.module(batch).float().cpu().numpy()
        return features


def fused(module: nn.Module) -> nn.Module:
    """Copy a network, in evaluation mode, with batch norms folded into convolutions."""
    try:
        with tracing(), ignore_warnings():
            # A copy of what torchvision takes apart is in training mode: `eval` comes last.
            return fuse(copy.deepcopy(module).eval(), inplace=True)
    except Exception:
        # A network whose forward branches on its data cannot be traced. It runs as it is, only
        # slower: no warning is needed.
        return copy.deepcopy(module).eval()
