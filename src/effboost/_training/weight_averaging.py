"""Averages of the weights of a network over its training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from effboost._training.config import Regularization

__all__ = ["WeightAverage"]

_Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


class WeightAverage:
    """An average of weights that can be swapped with the current weights.

    Parameters
    ----------
    weights : sequence of torch.nn.Parameter
        The weights that are trained.
    regularization : Regularization
        With `weight_average` set.
    n_steps : int
        Number of steps in the whole training.
    """

    def __init__(
        self, weights: Sequence[nn.Parameter], regularization: Regularization, n_steps: int
    ):
        self._weights = nn.ParameterList(weights)
        self._start, update = 0, None
        if regularization.weight_average == "swa":
            self._start = math.floor(regularization.swa_start * n_steps)
        else:
            update = _Ema(regularization.ema_decay)
        self._average = AveragedModel(self._weights, multi_avg_fn=update)
        self._n_seen = 0
        self._shown = False

    def add(self) -> None:
        """Add the weights after a step to the average."""
        if self._n_seen <= self._start:
            self._average.n_averaged.zero_()  # begins with these
        self._average.update_parameters(self._weights)
        self._n_seen += 1

    def show(self, average: bool = True) -> None:
        """Set the weights of the network to the average, or back to its own."""
        if average is self._shown:
            return
        for own, mean in zip(self._weights, self._average.module.parameters(), strict=True):
            own.data, mean.data = mean.data, own.data
        self._shown = average


class _Ema:
    """The moving average of torch, with a low initial decay."""

    def __init__(self, decay: float):
        self._decay = decay

    def __call__(self, averages: _Tensors, weights: _Tensors, n_seen: torch.Tensor | int) -> None:
        n = int(n_seen)
        get_ema_multi_avg_fn(min(self._decay, (1 + n) / (10 + n)))(averages, weights, n)
