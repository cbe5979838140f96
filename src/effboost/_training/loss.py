"""The loss of fine-tuning."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ClassLoss"]


class ClassLoss(nn.CrossEntropyLoss):
    """Cross-entropy of each image; in training, with label smoothing and focal weights.

    In evaluation mode, it is the plain cross-entropy, which early stopping uses, and which can be
    compared between settings.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each target that is spread over all classes.
    focal_gamma : float, default=0.0
        Exponent of ``1 - p``, the probability of all classes except the correct one.
    """

    def __init__(self, label_smoothing: float = 0.0, focal_gamma: float = 0.0):
        super().__init__(reduction="none", label_smoothing=label_smoothing)
        self._gamma = focal_gamma

    def forward(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of each image, of shape (b,)."""
        if self.training and not self._gamma:
            return super().forward(scores, target)
        plain = nn.functional.cross_entropy(scores, target, reduction="none")
        if not self.training:
            return plain
        # Kept off 0, where roots have no slope.
        missing = (-torch.expm1(-plain)).clamp_min(torch.finfo(plain.dtype).tiny)
        return super().forward(scores, target) * missing**self._gamma
