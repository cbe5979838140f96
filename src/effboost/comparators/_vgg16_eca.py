"""VGG16 with channel attention, of Ullah et al. 2021."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._utils.compat import load_torchvision
from effboost.backbones import BackboneSpec

__all__ = ["ECA", "add_eca", "eca_kernel_size", "vgg16_eca"]

# The pooling layers of VGG16: attention follows each block.
_POOLS = (4, 9, 16, 23, 30)


class ECA(nn.Module):
    """Efficient channel attention: scale each channel by the means of its neighbours.

    The factor of each channel is computed from the means of the channels, by a convolution over
    the channels without bias and a sigmoid.

    Parameters
    ----------
    n_channels : int
        Number of channels. It determines the width of the convolution (`eca_kernel_size`).

    References
    ----------
    Q. Wang et al., "ECA-Net: Efficient channel attention for deep convolutional neural
    networks", CVPR 2020.

    Examples
    --------
    >>> import torch
    >>> from effboost.comparators import ECA
    >>> ECA(64)(torch.zeros(2, 64, 8, 8)).shape
    torch.Size([2, 64, 8, 8])
    """

    def __init__(self, n_channels: int):
        super().__init__()
        width = eca_kernel_size(n_channels)
        self.conv = nn.Conv1d(1, 1, width, padding=width // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of maps.

        Parameters
        ----------
        x : torch.Tensor of shape (b, n_channels, h, w)
            The maps.

        Returns
        -------
        torch.Tensor of shape (b, n_channels, h, w)
            The scaled maps.
        """
        means = x.mean(dim=(2, 3)).unsqueeze(1)
        factors = torch.sigmoid(self.conv(means)).squeeze(1)
        return x * factors[:, :, None, None]


def eca_kernel_size(n_channels: int) -> int:
    """Compute the width of the convolution for a number of channels.

    It is ``(log2(n_channels) + 1) / 2`` rounded down, plus 1 if that is even, and at least 3.

    Parameters
    ----------
    n_channels : int
        Number of channels.

    Returns
    -------
    int
        The width, an odd number of channels.

    Examples
    --------
    >>> from effboost.comparators import eca_kernel_size
    >>> [eca_kernel_size(n) for n in (64, 128, 256, 512)]
    [3, 5, 5, 5]
    """
    width = int(abs(math.log2(n_channels) + 1) / 2)
    return max(3, width + 1 - width % 2)


def add_eca(network: nn.Module) -> nn.Module:
    """Add attention after each pooling layer of a network's ``features``, in place.

    The other layers keep their names, so that published weights fit.

    Parameters
    ----------
    network : torch.nn.Module
        A network with a child ``features`` that contains convolutions and `torch.nn.MaxPool2d`.

    Returns
    -------
    torch.nn.Module
        The network.

    Examples
    --------
    >>> from torchvision.models import alexnet
    >>> from effboost.comparators import add_eca
    >>> add_eca(alexnet(weights=None)).features[2]
    Sequential(
      (0): MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)
      (1): ECA(
        (conv): Conv1d(1, 1, kernel_size=(3,), stride=(1,), padding=(1,), bias=False)
      )
    )
    """
    n_channels = 0
    layers = network.get_submodule("features")
    for name, layer in list(layers.named_children()):
        n_channels = getattr(layer, "out_channels", n_channels)
        if isinstance(layer, nn.MaxPool2d):
            layers.set_submodule(name, nn.Sequential(layer, ECA(n_channels)))
    return network


def build_vgg16_eca() -> nn.Module:
    """Build VGG16 with attention after each of its five blocks, with random weights."""
    return add_eca(load_torchvision().models.vgg16(weights=None))


_SPEC = BackboneSpec(
    "vgg16_eca",
    4096,
    "vgg",
    weights="https://download.pytorch.org/models/vgg16-397923af.pth",
    factory=build_vgg16_eca,
    fresh=tuple(f"features.{i}.1" for i in _POOLS),
)


def vgg16_eca(
    *, weights: Any = "imagenet", random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> CNNClassifier:
    """Build fine-tuned VGG16 with ECA modules, the system of Ullah et al.

    Known from the source: VGG16 and the ECA module with its kernel size. Assumed: a module after
    each of the five blocks, ImageNet weights, and all settings of training, which are those of
    `presets.paper`.

    The network has 138,357,567 parameters with its 1000-class head: the 138,357,544 of VGG16,
    which the paper rounds to 128 million, and 23 in the five modules.

    Parameters
    ----------
    weights : "imagenet", path or None, default="imagenet"
        Initial weights of VGG16. Those of the modules are random.
    random_state : int, RandomState instance or None, default=None
        Seed of the `CNNClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    CNNClassifier
        The unfitted classifier.

    References
    ----------
    M. Z. Ullah et al., "An attention-based convolutional neural network for acute lymphoblastic
    leukemia classification", Applied Sciences 11(22), 2021.

    Examples
    --------
    >>> from effboost.comparators import vgg16_eca
    >>> vgg16_eca(max_epochs=2).get_params()["featurizer__training__max_epochs"]
    2
    """
    settings = {"backbone": _SPEC, "weights": weights, "normalize": "backbone"}
    return CNNClassifier(
        build_featurizer(kind=ImageFeaturizer, **(settings | featurizer)),
        random_state=random_state,
        verbose=verbose,
    )
