"""The torch runtime: batch norms folded into convolutions, channels last."""

from __future__ import annotations

import copy
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from effboost._transforms import ImageTransform
from effboost._utils.device import computing, tracing
from effboost._utils.locks import ForkableLock, ignore_warnings

__all__ = ["TorchRuntime", "fused", "to_channels_last"]

# Whose networks are the same with folded batch norms.
_LIBRARIES: Final = ("torch", "torchvision", "timm", "effboost")
# More than the rounding of float32 in a deep network.
_RTOL: Final = 1e-3


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

    Examples
    --------
    >>> import torch
    >>> import numpy as np
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import TorchRuntime
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> runtime = TorchRuntime(network, transform, torch.device("cpu"), batch_size=2)
    >>> runtime.run(np.zeros((2, 32, 32, 3), dtype=np.uint8)).shape
    (2, 8)
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
        side, rng = transform.side, torch.Generator().manual_seed(0)
        sample = torch.rand(1, 3, side, side, generator=rng)
        self.module = to_channels_last(fused(module, sample).to(device))
        self.scale, self.shift = (
            torch.from_numpy(values).view(1, 3, 1, 1).to(device)
            for values in transform.scale_and_shift()
        )

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
        with self._turn, computing(), torch.inference_mode():
            # The memory layout of pictures is channels last already: no value is moved.
            batch = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
            batch = batch.float().mul_(self.scale).add_(self.shift)
            features: npt.NDArray[np.float32] = self.module(batch).float().cpu().numpy()
        return features


def fused(module: nn.Module, sample: torch.Tensor | None = None) -> nn.Module:
    """Copy a network, in evaluation mode, with batch norms folded into convolutions.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    sample : torch.Tensor of shape (b, 3, h, w), default=None
        Images to compare the features of the copy on, if parts of the network are of the user: it
        may run one layer twice, or branch in a way that a trace does not follow.

    Returns
    -------
    torch.nn.Module
        The copy. Without folded batch norms if torch.fx cannot trace the network, or features of
        the sample would differ.

    Examples
    --------
    >>> from torch import nn
    >>> from effboost.runtime import fused
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> any(isinstance(part, nn.BatchNorm2d) for part in fused(network).modules())
    False
    """
    try:
        with tracing(), ignore_warnings():
            # A copy of what torchvision takes apart is in training mode: `eval` comes last.
            found: nn.Module = fuse(copy.deepcopy(module).eval(), inplace=True)
        if sample is None or not _is_own(module) or _are_alike(found, module, sample):
            return found
    except Exception:
        # A network whose forward branches on its data cannot be traced. It runs as it is, only
        # slower: no warning is needed.
        pass
    return copy.deepcopy(module).eval()


def _is_own(module: nn.Module) -> bool:
    """Return whether a part of a network is neither of these libraries nor as they made it."""
    names = dict(module.named_modules(remove_duplicate=False))
    return len(names) > len(list(module.modules())) or any(
        type(part).__module__.partition(".")[0] not in _LIBRARIES
        or part._forward_hooks
        or part._forward_pre_hooks
        for part in module.modules()
    )


def _are_alike(found: nn.Module, module: nn.Module, sample: torch.Tensor) -> bool:
    """Return whether a copy computes the features of a network, up to rounding."""
    sample = sample.to(next((p.device for p in module.parameters()), sample.device))
    with computing(), torch.inference_mode():
        expected = copy.deepcopy(module).eval()(sample)
        got = found(sample)
    return bool(torch.allclose(got, expected, rtol=_RTOL, atol=_RTOL * float(expected.abs().max())))


def to_channels_last(module: nn.Module) -> nn.Module:
    """Lay out the weights of convolutions with the channels last, in place.

    Unlike `torch.nn.Module.to`, this leaves tensors of other than four axes as they are: those of
    five, which Swin transformers have, have no such layout.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    torch.nn.Module
        The network.

    Examples
    --------
    >>> import torch
    >>> from effboost.runtime import to_channels_last
    >>> layer = to_channels_last(torch.nn.Conv2d(3, 8, 3))
    >>> layer.weight.is_contiguous(memory_format=torch.channels_last)
    True
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module
