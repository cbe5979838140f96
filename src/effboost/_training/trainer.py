"""Training of a network on labelled images. The only contact with skorch."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochTimer,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)
from skorch.helper import predefined_split
from tqdm.auto import tqdm

from effboost._training.callbacks import (
    BatchAccuracy,
    EpochObserver,
    ObserveEpochs,
    ResetBatchNorms,
    configured_callbacks,
    learning_curves,
)
from effboost._training.config import TrainingConfig
from effboost._training.dataset import BatchIterator, BatchSource, TrainingDataset
from effboost._training.loss import ClassLoss
from effboost._training.module import TrainableNetwork, TrainingModule
from effboost._transforms import Augmentation
from effboost._utils.allocation import kept_memory
from effboost._utils.device import computing, seeded
from effboost.exceptions import TrainingError
from effboost.runtime import to_channels_last

__all__ = ["fine_tune"]


def fine_tune(
    trainee: TrainableNetwork,
    train: TrainingDataset,
    validation: TrainingDataset | None,
    config: TrainingConfig,
    observer: EpochObserver | None = None,
) -> list[dict[str, float]]:
    """Train a network on images, in place, and leave it in evaluation mode on the CPU.

    Running statistics of batch norms lag behind the weights: after the few steps of a small data
    set, a network that has learned well predicts at chance in evaluation mode. They are therefore
    estimated again at the end, from the training images without augmentation, and reset before each
    epoch, for its validation.

    Parameters
    ----------
    trainee : TrainableNetwork
        The network.
    train : TrainingDataset
        The training images, without views.
    validation : TrainingDataset or None
        Images to validate each epoch on.
    config : TrainingConfig
        How to train.
    observer : EpochObserver, default=None
        Called for each epoch; it may stop the training.

    Returns
    -------
    list of dict
        For each epoch "epoch", "dur" (seconds), "train_loss" and "train_acc", with validation
        "valid_loss" and "valid_acc", and what callbacks recorded.

    Raises
    ------
    ImageDecodeError
        If an image cannot be read.
    TrainingError
        If the loss is no longer a finite number.
    ValueError
        If CutMix is used and the output of frozen first stages is not a map.
    """
    network = TrainingModule(
        trainee.body, trainee.head, trainee.n_classes, train.transform, config.mixed_precision
    )
    network.freeze(trainee.frozen, batch_norms=config.freeze_batch_norm)
    adapting = network.adapting_batch_norms()
    momenta = [norm.momentum for norm in adapting]
    drawn = dataclasses.replace(
        train, augmentations=_augmentations(train.target, trainee.n_classes, config)
    )
    plain = dataclasses.replace(drawn, augmentations=(), sampling_weight=None)
    with ExitStack() as stack:
        stack.enter_context(seeded(config.seed))
        if config.device.type == "cuda":
            flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
            stack.enter_context(flags)
        else:
            stack.enter_context(kept_memory())
        to_channels_last(network.to(config.device))
        stack.callback(network.restore)
        through_prefix = network.split(config.seed, cutmix_alpha=config.regularization.cutmix_alpha)
        network.make_lean()
        watched = None if validation is None else through_prefix(validation)
        shown = through_prefix(drawn)
        use_average = partial(_estimate_batch_norms, network, through_prefix(plain), config)
        callbacks = configured_callbacks(network, trainee, shown, config, use_average)
        watching = [] if observer is None else [ObserveEpochs(observer, network, trainee)]
        net = _make_net(network, callbacks, watching, watched, config, trainee)
        with _noticing_interrupt() as was_pressed:
            try:
                net.fit(shown, None)
            except _TrainingInterrupted:
                raise KeyboardInterrupt from None
        if was_pressed():
            raise KeyboardInterrupt
        use_average()
        for norm, momentum in zip(adapting, momenta, strict=True):
            norm.momentum = momentum
        network.to_inference()
    return learning_curves(net.history)


@contextmanager
def _noticing_interrupt() -> Iterator[Callable[[], bool]]:
    """Raise an error on Ctrl-C although skorch treats it as a request to stop early."""
    pressed = []
    before = signal.getsignal(signal.SIGINT)
    # Python lets the main thread alone set handlers, and Ctrl-C arrives there alone.
    watch = threading.current_thread() is threading.main_thread() and callable(before)

    def handle(number: int, frame: Any) -> None:
        try:
            if callable(before):
                before(number, frame)
        except KeyboardInterrupt:
            # Not noted where an application's own handler decides to go on.
            pressed.append(number)
            raise

    if watch:
        signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(pressed)
    finally:
        if watch:
            signal.signal(signal.SIGINT, before)


class _TrainingInterrupted(BaseException):
    """Ctrl-C, under a name that skorch does not catch."""


class _Net(NeuralNetClassifier):
    def get_default_callbacks(self) -> list[Any]:
        # _make_net names them all.
        return []

    def get_loss(
        self,
        y_pred: torch.Tensor,
        y_true: torch.Tensor,
        X: Any,
        *_: Any,
        training: bool = False,
        **__: Any,
    ) -> torch.Tensor:
        given = {name: X[name].to(y_pred.device) for name in X if name != "x"}
        weight = given["weight"]
        losses = self.criterion_(y_pred, y_true.to(y_pred.device)) * weight
        if "other" in given:  # the lesser parts of mixed images
            weight = weight + given["other_weight"]
            losses = losses + self.criterion_(y_pred, given["other"]) * given["other_weight"]
        loss: torch.Tensor = losses.sum() / weight.sum()
        if training and not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {len(self.history)}: the learning rate "
                f"({self.lr:g}) is too high, or weights of images or classes are extreme"
            )
        return loss

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        # On the CPU, gradients have one place from the first step on. New ones in each step would
        # lie among the activations that are freed next, and leave holes too small for others.
        if self.device == "cpu":
            set_to_none = False
            for parameter in self.module_.parameters():
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        super()._zero_grad_optimizer(set_to_none)

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        # skorch makes a group for each name, and each group is a step of its own.
        (groups,), kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        merged: dict[Any, dict[str, Any]] = {}
        for group in groups:
            own = {name: value for name, value in group.items() if name != "params"}
            entry = merged.setdefault(tuple(sorted(own.items())), {"params": [], **own})
            entry["params"] += group["params"]
        return [list(merged.values())], kwargs

    # Calling a module at all, not only what is in it, is what tracing in another thread changes.
    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        with computing():
            return super().train_step(batch, **fit_params)

    def validation_step(self, batch: Any, **fit_params: Any) -> Any:
        with computing():
            return super().validation_step(batch, **fit_params)

    def run_single_epoch(self, *args: Any, **kwargs: Any) -> None:
        # skorch takes Ctrl-C for the wish to go on with what was trained so far, and stops early
        # by the same exception. Within an epoch it is the user's, who wants to leave.
        try:
            super().run_single_epoch(*args, **kwargs)
        except KeyboardInterrupt:
            raise _TrainingInterrupted from None


def _make_net(
    network: TrainingModule,
    first_callbacks: Sequence[tuple[str, Callback]],
    watching: Sequence[Callback],
    validation: BatchSource | None,
    config: TrainingConfig,
    trainee: TrainableNetwork,
) -> _Net:
    callbacks: list[Any] = [
        *first_callbacks,
        ("batch_accuracy", BatchAccuracy()),
        ("batch_norms", ResetBatchNorms(network)),
        ("dur", EpochTimer()),
        ("train_loss", PassthroughScoring("train_loss", on_train=True)),
        ("train_acc", PassthroughScoring("train_acc", lower_is_better=False, on_train=True)),
    ]
    if validation is not None:
        callbacks += [
            ("valid_loss", PassthroughScoring("valid_loss")),
            ("valid_acc", PassthroughScoring("valid_acc", lower_is_better=False)),
        ]
    # Before those that may stop early, so that the last epoch ends for it, too.
    callbacks += [*watching, *config.callbacks]
    if config.patience is not None:
        early = EarlyStopping("valid_loss", patience=config.patience, load_best=True)
        callbacks.append(("early_stopping", early))
    if config.verbose > 0:
        callbacks.append(("progress", ProgressBar(detect_notebook=False)))
    if config.verbose > 1:
        callbacks.append(("table", PrintLog(sink=_print_beside_bars)))
    return _Net(
        network,
        criterion=ClassLoss,
        criterion__label_smoothing=config.label_smoothing,
        criterion__focal_gamma=config.regularization.focal_gamma,
        optimizer=config.optimizer,
        **_optimizer_settings(network, trainee, config),
        max_epochs=config.max_epochs,
        batch_size=config.batch_size,
        iterator_train=BatchIterator,
        iterator_train__seed=config.seed,
        iterator_train__regularization=config.regularization,
        iterator_valid=BatchIterator,
        train_split=None if validation is None else predefined_split(validation),
        classes=np.arange(trainee.n_classes),
        callbacks=callbacks,
        device=str(config.device),
        verbose=0,
    )


def _optimizer_settings(
    network: TrainingModule, trainee: TrainableNetwork, config: TrainingConfig
) -> dict[str, Any]:
    """Return learning rates and weight decay for skorch: common ones, and those of some parts."""
    settings: dict[str, dict[str, float]] = {name: {} for name, _ in network.named_parameters()}
    stem, middle, top = config.lr if isinstance(config.lr, tuple) else (config.lr,) * 3
    rates = {
        parameter: rate
        for parts, rate in ((trainee.stem, stem), (trainee.top, top))
        for part in parts
        for parameter in part.parameters(recurse=False)
    }
    for name, parameter in network.named_parameters():
        if isinstance(config.lr, tuple) and parameter in rates:
            settings[name]["lr"] = rates[parameter]
        # Norms and biases are exempt, as is usual: decay would pull them to a useless zero.
        if config.weight_decay and parameter.ndim < 2:
            settings[name]["weight_decay"] = 0.0
    found: dict[str, Any] = {"lr": middle}
    if config.weight_decay is not None:
        found["optimizer__weight_decay"] = config.weight_decay
    groups = [(name, own) for name, own in settings.items() if own]
    if groups:
        found["optimizer__param_groups"] = groups
    return found


def _print_beside_bars(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def _augmentations(
    target: npt.NDArray[np.int64], n_classes: int, config: TrainingConfig
) -> tuple[Augmentation | None, ...]:
    counts = np.bincount(target, minlength=n_classes)
    minority = config.minority_augmentation
    return tuple(
        config.augmentation if minority is None or count == counts.max() else minority
        for count in counts
    )


def _estimate_batch_norms(
    network: TrainingModule, train: BatchSource, config: TrainingConfig
) -> None:
    norms = network.adapting_batch_norms()
    if not norms:
        return
    network.reset_statistics()
    network.eval()
    for norm in norms:
        norm.train()
    # Shuffled: a batch of one class would have too little variance.
    batches = BatchIterator(train, config.batch_size, config.seed)
    with torch.inference_mode():
        for inputs, _ in batches:
            with computing():
                network(inputs["x"].to(config.device))
