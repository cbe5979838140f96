"""skorch callbacks of fine-tuning."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from effboost._training.config import Schedule, TrainingConfig
from effboost._training.dataset import BatchIterator, BatchSource
from effboost._training.module import TrainableNetwork, TrainingModule
from effboost._training.weight_averaging import WeightAverage
from effboost._utils.fit_callbacks import CallbackSteps

__all__ = [
    "BatchAccuracy",
    "EpochObserver",
    "ObserveEpochs",
    "ResetBatchNorms",
    "configured_callbacks",
    "learning_curves",
]


@dataclasses.dataclass(frozen=True)
class EpochObserver:
    """The epochs as tasks of scikit-learn's callbacks.

    Attributes
    ----------
    steps : CallbackSteps
        The epochs as tasks.
    describe : callable
        Returns the fitted attributes that the estimator would have if training ended now, from a
        copy of the network and the history so far.
    """

    steps: CallbackSteps
    describe: Callable[[TrainableNetwork, list[dict[str, float]]], dict[str, Any]]


class BatchAccuracy(Callback):
    """Record the accuracy, from the scores that the loss was computed from."""

    def on_batch_end(
        self, net: Any, batch: Any, training: bool, y_pred: torch.Tensor, **_: Any
    ) -> None:
        right = y_pred.detach().argmax(dim=1).cpu() == batch[1]
        name = "train_acc" if training else "valid_acc"
        net.history.record_batch(name, right.float().mean().item())


class ObserveEpochs(Callback):
    """Call scikit-learn's callbacks for each epoch."""

    def __init__(self, observer: EpochObserver, network: TrainingModule, trainee: TrainableNetwork):
        self.observer, self.network, self.trainee = observer, network, trainee

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.observer.steps.begin()

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        def fitted() -> dict[str, Any]:
            averaging = dict(net.callbacks_).get("weight_average")
            if averaging is not None:
                averaging.use_average()
            twin = copy.deepcopy(self.network).to_inference()
            trainee = dataclasses.replace(self.trainee, body=twin.body, head=twin.head)
            return self.observer.describe(trainee, learning_curves(net.history))

        if self.observer.steps.end(fitted):
            raise KeyboardInterrupt  # what skorch's own callbacks stop early by


class ResetBatchNorms(Callback):
    """Reset batch norm statistics before each epoch, and average them over its batches."""

    def __init__(self, network: TrainingModule):
        self.network = network

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.network.reset_statistics()


class _GradualUnfreezing(Callback):
    """Unfreeze one more stage after every `n_epochs` epochs."""

    def __init__(
        self, network: TrainingModule, stages: Sequence[Sequence[nn.Module]], n_epochs: int
    ):
        self.network, self.stages, self.n_epochs = network, stages, n_epochs

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self._go_to(len(net.history))

    def on_train_end(self, net: Any, **_: Any) -> None:
        # The weights are those of the best epoch: stages that were frozen in it keep their
        # statistics.
        early = dict(net.callbacks_).get("early_stopping")
        if early is not None and early.best_epoch_:
            self._go_to(early.best_epoch_)

    def _go_to(self, epoch: int) -> None:
        n_held = len(self.stages) - (epoch - 1) // self.n_epochs
        self.network.set_frozen_stages(self.stages[: max(0, n_held)])


class _ProgressiveResizing(Callback):
    """Set the size of the training images of each epoch."""

    def __init__(self, network: TrainingModule, first: int, n_epochs: int):
        self.network, self.first, self.n_epochs = network, first, n_epochs

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.network.training_side = _side_in_epoch(
            len(net.history), self.n_epochs, self.first, self.network.side
        )


class _WeightAveraging(Callback):
    """Use the averaged weights whenever the network is not training."""

    def __init__(self, average: WeightAverage, estimate: Callable[[], None]):
        self.average, self.estimate = average, estimate
        self.settled = False

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.average.show(False)
        self.settled = False

    def on_batch_begin(self, net: Any, training: bool, **_: Any) -> None:
        if not training:
            self.use_average()

    def on_batch_end(self, net: Any, training: bool, **_: Any) -> None:
        if training:
            self.average.add()

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.average.show()

    def on_train_end(self, net: Any, **_: Any) -> None:
        self.average.show()

    def use_average(self) -> None:
        """Use the averaged weights, with batch norm statistics estimated for them."""
        self.average.show()
        if not self.settled:
            self.estimate()
            self.settled = True


def configured_callbacks(
    network: TrainingModule,
    trainee: TrainableNetwork,
    train: BatchSource,
    config: TrainingConfig,
    use_average: Callable[[], None],
) -> list[tuple[str, Callback]]:
    """Return the callbacks of weight averaging and of the schedule."""
    schedule, regularization = config.schedule, config.regularization
    n_steps = config.max_epochs * len(BatchIterator(train, config.batch_size))
    callbacks: list[tuple[str, Callback]] = []
    if regularization.weight_average is not None:
        weights = [p for p in network.parameters() if p.requires_grad]
        average = WeightAverage(weights, regularization, n_steps)
        callbacks.append(("weight_average", _WeightAveraging(average, use_average)))
    if schedule.unfreezing_epochs:
        unfreezing = _GradualUnfreezing(network, trainee.stages, schedule.unfreezing_epochs)
        callbacks.append(("unfreezing", unfreezing))
    first = schedule.initial_image_size
    if first is not None:
        network.check_size(first)
        resizing = _ProgressiveResizing(network, first, config.max_epochs)
        callbacks.append(("resizing", resizing))
    if schedule.decay is not None or schedule.warmup_fraction:
        rates = LRScheduler(
            torch.optim.lr_scheduler.LambdaLR,
            event_name=None,
            step_every="batch",
            lr_lambda=lambda step: _rate_factor(schedule, step, n_steps),
        )
        callbacks.append(("schedule", rates))
    return callbacks


def learning_curves(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [
        {name: _plain(value) for name, value in epoch.items() if _is_curve(name)}
        for epoch in history
    ]


def _is_curve(name: str) -> bool:
    return name != "batches" and not name.endswith(("_best", "_batch_count"))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _rate_factor(schedule: Schedule, step: int, n_steps: int) -> float:
    """Return the factor of the learning rates in a step; the first step is 0."""
    n_warm = round(schedule.warmup_fraction * n_steps)
    if step < n_warm:
        # The first step is not spent on a rate of 0.
        return (step + 1) / (n_warm + 1)
    if schedule.decay is None:
        return 1.0
    return (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm))) / 2


def _side_in_epoch(epoch: int, n_epochs: int, first: int, full: int) -> int:
    """Return the side of the training images in an epoch; the first epoch is 1."""
    if epoch >= n_epochs:
        return full
    side = first + (full - first) * (epoch - 1) / (n_epochs - 1)
    return min(full, max(first, 32 * round(side / 32)))
