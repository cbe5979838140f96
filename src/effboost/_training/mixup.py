"""Mixing of pairs of images in a batch (mixup, CutMix)."""

from __future__ import annotations

import math

import numpy as np
import torch

from effboost._training.config import Regularization

__all__ = ["mix"]

# torchvision's MixUp and CutMix know neither weights of images, which must go along, nor bytes.


def mix(
    inputs: dict[str, torch.Tensor],
    target: torch.Tensor,
    regularization: Regularization,
    rng: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """Mix each image of a batch with another image of the batch.

    Parameters
    ----------
    inputs : dict
        "x", pixels of shape (b, h, w, 3), uint8, or the output of frozen first stages, float32;
        "weight", of shape (b,).
    target : tensor of shape (b,)
        The classes.
    regularization : Regularization
        With `mixup_alpha` or `cutmix_alpha` above 0.
    rng : numpy.random.Generator
        Source of the method, the pairs and their shares.

    Returns
    -------
    dict
        "x", mixed; "weight", the weight of the larger part; "other" and "other_weight", class and
        weight of the smaller part. The weight of a part is that of its image times its share.
    """
    ways = [
        (way, alpha)
        for way, alpha in (
            (_blend, regularization.mixup_alpha),
            (_paste, regularization.cutmix_alpha),
        )
        if alpha > 0
    ]
    way, alpha = ways[int(rng.integers(len(ways)))]
    share = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(len(target)))
    # Which of a pair comes first is chance: that it is the greater part changes nothing but that
    # the accuracy in training can be counted.
    x, share = way(inputs["x"], partner, max(share, 1 - share), rng)
    weight = inputs["weight"]
    return {
        "x": x,
        "weight": share * weight,
        "other": target[partner],
        "other_weight": (1 - share) * weight[partner],
    }


def _blend(
    x: torch.Tensor, partner: torch.Tensor, share: float, rng: np.random.Generator
) -> tuple[torch.Tensor, float]:
    mixed = torch.lerp(x[partner].float(), x.float(), share)
    return (mixed.round().to(x.dtype) if x.dtype == torch.uint8 else mixed), share


def _paste(
    x: torch.Tensor, partner: torch.Tensor, share: float, rng: np.random.Generator
) -> tuple[torch.Tensor, float]:
    rows = 1 if x.dtype == torch.uint8 else 2  # pixels have their channels last
    box, area = [slice(None)] * rows, 1.0
    for length in x.shape[rows : rows + 2]:
        side = int(length * math.sqrt(1 - share))
        start = int(rng.integers(length)) - side // 2
        box.append(slice(max(start, 0), min(start + side, length)))
        area *= (box[-1].stop - box[-1].start) / length
    mixed = x.clone()
    mixed[tuple(box)] = x[partner][tuple(box)]
    return mixed, 1 - area
