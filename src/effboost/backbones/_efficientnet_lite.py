"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, for low-powered machines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.fx
from torch import nn

from effboost._utils.compat import load_torchvision

__all__ = ["LITE_BUILDERS", "EfficientNetLite", "pad_same"]

# Kernel size, stride, factor of the expansion, channels and number of blocks of each stage.
_STAGES: Final = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_N_STEM: Final = 32
_N_FEATURES: Final = 1280

# The names of layers in published files: those of the pip packages, and those of timm.
_PUBLISHED: Final = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.1",
    "_bn1": "depthwise.2",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
_PUBLISHED_ENDS: Final = {
    "_conv_stem": "features.0.1",
    "_bn0": "features.0.2",
    "_conv_head": "features.8.0",
    "_bn1": "features.8.1",
    "_fc": "classifier.1",
}
_TIMM: Final = {
    "conv_pw": "expand.0",
    "bn1": "expand.1",
    "conv_dw": "depthwise.1",
    "bn2": "depthwise.2",
    "conv_pwl": "project.0",
    "bn3": "project.1",
}
# Its first block does not expand.
_TIMM_FIRST: Final = {
    "conv_dw": "depthwise.1",
    "bn1": "depthwise.2",
    "conv_pw": "project.0",
    "bn2": "project.1",
}
_TIMM_ENDS: Final = {
    "conv_stem": "features.0.1",
    "bn1": "features.0.2",
    "conv_head": "features.8.0",
    "bn2": "features.8.1",
    "classifier": "classifier.1",
}
_BLOCK: Final = re.compile(r"_?blocks\.(\d+)\.(?:(\d+)\.)?(\w+)\.(\w+)")
_END: Final = re.compile(r"(\w+)\.(\w+)")


def pad_same(x: torch.Tensor, kernel_size: int, stride: int) -> torch.Tensor:
    """Pad maps as TensorFlow's "SAME" does before a convolution with a stride.

    Parameters
    ----------
    x : torch.Tensor of shape (n, c, h, w)
        The maps.
    kernel_size, stride : int
        Kernel size and stride of the convolution.

    Returns
    -------
    torch.Tensor
        The maps with zeros added, so that the output of the convolution has
        ceil(h / stride) x ceil(w / stride) positions. If the number of added rows or columns is
        odd, one more is added at the bottom or right.
    """
    height, width = (
        max((math.ceil(side / stride) - 1) * stride + kernel_size - side, 0) for side in x.shape[2:]
    )
    sides = (width // 2, width - width // 2, height // 2, height - height // 2)
    return nn.functional.pad(x, sides)


# The number depends on the size of the image: torch.fx, which does not know it, must not look in.
torch.fx.wrap("pad_same")


class _PadSame(nn.Module):
    """`pad_same` as a layer."""

    def __init__(self, kernel_size: int, stride: int):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pad_same(x, self.kernel_size, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


def _convolve(
    n_in: int, n_out: int, kernel_size: int = 1, stride: int = 1, *, groups: int = 1
) -> list[nn.Module]:
    """Build a convolution with padding, batch norm and activation."""
    padding = 0 if stride > 1 else kernel_size // 2
    return [
        _PadSame(kernel_size, stride) if stride > 1 else nn.Identity(),
        nn.Conv2d(n_in, n_out, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(n_out, eps=1e-3),
        nn.ReLU6(inplace=True),
    ]


class _Block(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, projection."""

    def __init__(self, n_in: int, n_out: int, kernel: tuple[int, int], factor: int, drop: float):
        super().__init__()
        n_hidden, (_, stride) = n_in * factor, kernel
        self.expand = nn.Sequential(*_convolve(n_in, n_hidden)[1:]) if factor > 1 else nn.Identity()
        self.depthwise = nn.Sequential(*_convolve(n_hidden, n_hidden, *kernel, groups=n_hidden))
        self.project = nn.Sequential(*_convolve(n_hidden, n_out)[1:3])
        self.has_shortcut = stride == 1 and n_in == n_out
        self.drop = load_torchvision().ops.StochasticDepth(drop, "row")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return self.drop(y) + x if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite, with its classification layer.

    Parameters
    ----------
    width, depth : float
        Factors for the number of channels and of blocks in each stage. They do not change the
        first convolution and the number of features; `depth` does not change the first and the
        last stage.
    dropout : float
        Share of features that are set to 0 in training, before the classification layer.
    stochastic_depth_prob : float, default=0.2
        Probability that the last block is skipped for an image in training. The probability
        increases from 0 for the first block to this value.
    num_classes : int, default=1000
        Number of classes.

    References
    ----------
    R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020.
    """

    def __init__(
        self,
        width: float,
        depth: float,
        dropout: float,
        *,
        stochastic_depth_prob: float = 0.2,
        num_classes: int = 1000,
    ):
        super().__init__()
        last = len(_STAGES) - 1
        n_blocks = [
            n if i in (0, last) else math.ceil(n * depth) for i, (*_, n) in enumerate(_STAGES)
        ]
        stages = [nn.Sequential(*_convolve(3, _N_STEM, 3, 2))]
        n_in, number = _N_STEM, 0
        for (kernel_size, first_stride, factor, channels, _), n in zip(
            _STAGES, n_blocks, strict=True
        ):
            n_out, blocks = _round_channels(channels * width), []
            for i in range(n):
                kernel = (kernel_size, first_stride if i == 0 else 1)
                drop = stochastic_depth_prob * number / sum(n_blocks)
                blocks.append(_Block(n_in, n_out, kernel, factor, drop))
                n_in, number = n_out, number + 1
            stages.append(nn.Sequential(*blocks))
        stages.append(nn.Sequential(*_convolve(n_in, _N_FEATURES)[1:]))
        self.features = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout, inplace=True), nn.Linear(_N_FEATURES, num_classes)
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return scores

    def rename_weights(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rename the weights of published files, and of timm, to those of this network."""
        blocks = [stage for stage in self.features[1:-1] if isinstance(stage, nn.Sequential)]
        places = [f"{i}.{j}" for i, stage in enumerate(blocks, 1) for j in range(len(stage))]
        return {_rename(key, places): value for key, value in state.items()}


def _rename(key: str, places: list[str]) -> str:
    """Translate the name of a weight in a published file; return other names as they are."""
    if block := _BLOCK.fullmatch(key):
        first, second, layer, weight = block.groups()
        if second is None and int(first) < len(places):
            return f"features.{places[int(first)]}.{_PUBLISHED.get(layer, layer)}.{weight}"
        names = _TIMM_FIRST if first == "0" else _TIMM
        return f"features.{int(first) + 1}.{second}.{names.get(layer, layer)}.{weight}"
    if end := _END.fullmatch(key):
        layer, weight = end.groups()
        if layer in _PUBLISHED_ENDS or layer in _TIMM_ENDS:
            return f"{_PUBLISHED_ENDS.get(layer) or _TIMM_ENDS[layer]}.{weight}"
    return key


def _round_channels(wanted: float) -> int:
    """Round to a multiple of 8, at most a tenth below."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def _builder(width: float, depth: float, dropout: float) -> Callable[..., EfficientNetLite]:
    def build(**options: Any) -> EfficientNetLite:
        return EfficientNetLite(**{"width": width, "depth": depth, "dropout": dropout} | options)

    return build


LITE_BUILDERS: Final[Mapping[str, Callable[..., nn.Module]]] = {
    "efficientnet_lite0": _builder(1.0, 1.0, 0.2),
    "efficientnet_lite1": _builder(1.0, 1.1, 0.2),
    "efficientnet_lite2": _builder(1.1, 1.2, 0.3),
}
