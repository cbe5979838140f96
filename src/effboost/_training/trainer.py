"""From a network and labelled images to a tuned network. The only contact with skorch."""

from __future__ import annotations

import copy
import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochTimer,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)
from skorch.helper import predefined_split
from torch import nn
from tqdm.auto import tqdm

from effboost._training.config import FineTuning, rate_factor
from effboost._training.dataset import BatchIterator, BatchSource, TrainingDataset
from effboost._training.loss import ClassLoss
from effboost._training.module import TrainingModule
from effboost._training.weight_averaging import WeightAverage
from effboost._transforms import Augmentation
from effboost._utils.device import seeded
from effboost._utils.fit_callbacks import CallbackSteps
from effboost.exceptions import TrainingError

__all__ = ["OPTIMIZERS", "EpochObserver", "TrainableNetwork", "TrainingConfig", "fine_tune"]

OPTIMIZERS: Final = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes
    ----------
    max_epochs, batch_size : int
        Epochs, and images a step.
    optimizer : type
        A `torch.optim.Optimizer`.
    lr : float or tuple of 3 floats
        Learning rate; or those of the stem, of what lies between, and of the top.
    freeze_batch_norm : bool
        Keep the statistics of every batch norm as they were loaded.
    augmentation : Augmentation or None
        The random views of training images.
    minority_augmentation : Augmentation or None
        The same for images of all classes but the largest; None takes `augmentation`.
    patience : int or None
        Stop after so many epochs without a lower validation loss, and take the best weights.
    mixed_precision : bool
        Compute in bfloat16 where torch thinks it safe.
    device : torch.device
        Where to compute.
    seed : int
        Seed of order, views, dropout.
    verbose : int
        1 shows a progress bar, 2 also a table of the epochs, on stderr.
    n_views : int
        Different random views of each image where the first stages are frozen: what those make
        of a view is computed once.
    callbacks : sequence
        skorch callbacks, beside effboost's own.
    recipe : FineTuning
        What is done beyond the paper's recipe.
    watch : EpochObserver or None
        Is told of each epoch, and may end the training.
    """

    max_epochs: int
    batch_size: int
    optimizer: type[torch.optim.Optimizer]
    lr: float | tuple[float, float, float]
    freeze_batch_norm: bool
    augmentation: Augmentation | None
    minority_augmentation: Augmentation | None
    patience: int | None
    mixed_precision: bool
    device: torch.device
    seed: int
    verbose: int
    n_views: int
    callbacks: Sequence[Any]
    recipe: FineTuning
    watch: EpochObserver | None = None


@dataclasses.dataclass(frozen=True)
class EpochObserver:
    """Follows the epochs for scikit-learn's callbacks.

    Attributes
    ----------
    steps : CallbackSteps
        The epochs as tasks.
    describe : callable
        Turns a copy of the trainee and the history so far into the attributes of the estimator
        that would be fitted by now.
    """

    steps: CallbackSteps
    describe: Callable[[TrainableNetwork, list[dict[str, float]]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class TrainableNetwork:
    """What is trained.

    Attributes
    ----------
    body : torch.nn.Module
        Gives features.
    head : torch.nn.Module or None
        Gives class scores from them. None takes the first `n_classes` outputs of `body`.
    n_classes : int
        Number of classes.
    frozen : sequence of torch.nn.Module
        Modules of `body` whose own parameters and statistics stay as they are.
    stem, top : sequence of torch.nn.Module
        Modules at both ends that may have a learning rate of their own; the head is of the top.
    stages : sequence of sequences of torch.nn.Module
        What is unfrozen one after the other, from the last to the first, where that is gradual.
    """

    body: nn.Module
    head: nn.Module | None
    n_classes: int
    frozen: Sequence[nn.Module]
    stem: Sequence[nn.Module] = ()
    top: Sequence[nn.Module] = ()
    stages: Sequence[Sequence[nn.Module]] = ()


def fine_tune(
    trainee: TrainableNetwork,
    train: TrainingDataset,
    validation: TrainingDataset | None,
    training: TrainingConfig,
) -> list[dict[str, float]]:
    """Train a network on images, in place, and leave it in evaluation mode on the CPU.

    Running statistics of batch norms lag behind the weights that they were gathered with: after
    the few steps of a small data set, a network that trained well predicts at chance in
    evaluation mode. They are therefore gathered anew at the end, from the training images as the
    evaluation transform shows them; and afresh in each epoch, for its validation.

    Parameters
    ----------
    trainee : TrainableNetwork
        The network.
    train : TrainingDataset
        The training images, without views.
    validation : TrainingDataset or None
        Images to validate each epoch on.
    training : TrainingConfig
        How to train.

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
        If frozen first stages leave no map to cut a rectangle from for CutMix.
    """
    network = TrainingModule(
        trainee.body, trainee.head, trainee.n_classes, train.transform, training.mixed_precision
    )
    network.freeze(trainee.frozen, batch_norms=training.freeze_batch_norm)
    adapting = network.adapting_batch_norms()
    momenta = [norm.momentum for norm in adapting]
    drawn = dataclasses.replace(
        train.with_row_cache(), views=_views(train.target, trainee.n_classes, training)
    )
    plain = dataclasses.replace(drawn, views=(), sampling_weight=None)
    with ExitStack() as stack:
        stack.enter_context(seeded(training.seed))
        if training.device.type == "cuda":
            flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
            stack.enter_context(flags)
        network.to(training.device).to(memory_format=torch.channels_last)
        through_prefix = network.split(
            training.n_views, training.seed, cutmix_alpha=training.recipe.cutmix_alpha
        )
        stack.callback(network.join)
        watched = None if validation is None else through_prefix(validation.with_row_cache())
        shown = through_prefix(drawn)
        use_average = partial(_estimate_batch_norms, network, through_prefix(plain), training)
        followers = _recipe_callbacks(network, trainee, shown, training, use_average)
        net = _make_net(network, followers, watched, training, trainee)
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
    return _curves(net.history)


@contextmanager
def _noticing_interrupt() -> Iterator[Callable[[], bool]]:
    """Notice Ctrl-C even where skorch takes it for a callback that wants to stop early."""
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

    def run_single_epoch(self, *args: Any, **kwargs: Any) -> None:
        # skorch takes Ctrl-C for the wish to go on with what was trained so far, and stops early
        # by the same exception. Within an epoch it is the user's, who wants to leave.
        try:
            super().run_single_epoch(*args, **kwargs)
        except KeyboardInterrupt:
            raise _TrainingInterrupted from None


class _BatchAccuracy(Callback):
    """Records the share of right predictions, from the scores that the loss was computed on."""

    def on_batch_end(
        self, net: Any, batch: Any, training: bool, y_pred: torch.Tensor, **_: Any
    ) -> None:
        right = y_pred.detach().argmax(dim=1).cpu() == batch[1]
        name = "train_acc" if training else "valid_acc"
        net.history.record_batch(name, right.float().mean().item())


class _Watched(Callback):
    """Passes the epochs on."""

    def __init__(self, watch: EpochObserver, network: TrainingModule, trainee: TrainableNetwork):
        self.watch, self.network, self.trainee = watch, network, trainee

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.watch.steps.begin()

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        def fitted() -> dict[str, Any]:
            averaging = dict(net.callbacks_).get("weight_average")
            if averaging is not None:
                averaging.use_average()
            twin = copy.deepcopy(self.network).to_inference()
            trainee = dataclasses.replace(self.trainee, body=twin.body, head=twin.head)
            return self.watch.describe(trainee, _curves(net.history))

        if self.watch.steps.end(fitted):
            raise KeyboardInterrupt  # what skorch's own callbacks stop early by


class _ResetBatchNorms(Callback):
    """Averages batch statistics over each epoch alone, instead of over all steps so far."""

    def __init__(self, network: TrainingModule):
        self.network = network

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.network.reset_statistics()


class _GradualUnfreezing(Callback):
    """Trains one stage more after each so many epochs."""

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


class _WeightAveraging(Callback):
    """Lets a network have the average of its weights whenever it is not training."""

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
        """Show the average, with statistics of its own in the batch norms, for others to use."""
        self.average.show()
        if not self.settled:
            self.estimate()
            self.settled = True


def _recipe_callbacks(
    network: TrainingModule,
    trainee: TrainableNetwork,
    train: BatchSource,
    training: TrainingConfig,
    use_average: Callable[[], None],
) -> list[tuple[str, Callback]]:
    """Give the callbacks that do what the recipe says."""
    recipe = training.recipe
    n_steps = training.max_epochs * len(BatchIterator(train, training.batch_size))
    callbacks: list[tuple[str, Callback]] = []
    if recipe.weight_average is not None:
        weights = [p for p in network.parameters() if p.requires_grad]
        average = WeightAverage(weights, recipe, n_steps)
        callbacks.append(("weight_average", _WeightAveraging(average, use_average)))
    if recipe.gradual_unfreezing:
        unfreezing = _GradualUnfreezing(network, trainee.stages, recipe.gradual_unfreezing)
        callbacks.append(("unfreezing", unfreezing))
    if recipe.schedule is not None or recipe.warmup_fraction:
        schedule = LRScheduler(
            torch.optim.lr_scheduler.LambdaLR,
            event_name=None,
            step_every="batch",
            lr_lambda=lambda step: rate_factor(recipe, step, n_steps),
        )
        callbacks.append(("schedule", schedule))
    return callbacks


def _make_net(
    network: TrainingModule,
    followers: Sequence[tuple[str, Callback]],
    validation: BatchSource | None,
    training: TrainingConfig,
    trainee: TrainableNetwork,
) -> _Net:
    callbacks: list[Any] = [
        *followers,
        ("batch_accuracy", _BatchAccuracy()),
        ("batch_norms", _ResetBatchNorms(network)),
        ("dur", EpochTimer()),
        ("train_loss", PassthroughScoring("train_loss", on_train=True)),
        ("train_acc", PassthroughScoring("train_acc", lower_is_better=False, on_train=True)),
    ]
    if validation is not None:
        callbacks += [
            ("valid_loss", PassthroughScoring("valid_loss")),
            ("valid_acc", PassthroughScoring("valid_acc", lower_is_better=False)),
        ]
    if training.watch is not None:
        # Before those that may stop early, so that the last epoch ends for it, too.
        callbacks.append(("watch", _Watched(training.watch, network, trainee)))
    callbacks += training.callbacks
    if training.patience is not None:
        early = EarlyStopping("valid_loss", patience=training.patience, load_best=True)
        callbacks.append(("early_stopping", early))
    if training.verbose > 0:
        callbacks.append(("progress", ProgressBar(detect_notebook=False)))
    if training.verbose > 1:
        callbacks.append(("table", PrintLog(sink=_print_beside_bars)))
    return _Net(
        network,
        criterion=ClassLoss,
        criterion__label_smoothing=training.recipe.label_smoothing,
        criterion__focal_gamma=training.recipe.focal_gamma,
        optimizer=training.optimizer,
        **_rates(network, trainee, training.lr),
        **_weight_decay(training.recipe),
        max_epochs=training.max_epochs,
        batch_size=training.batch_size,
        iterator_train=BatchIterator,
        iterator_train__seed=training.seed,
        iterator_train__recipe=training.recipe,
        iterator_valid=BatchIterator,
        train_split=None if validation is None else predefined_split(validation),
        classes=np.arange(trainee.n_classes),
        callbacks=callbacks,
        device=str(training.device),
        verbose=0,
    )


def _rates(
    network: TrainingModule, trainee: TrainableNetwork, lr: float | tuple[float, float, float]
) -> dict[str, Any]:
    """Give the learning rates as skorch takes them: one of all, and those of some parameters."""
    if not isinstance(lr, tuple):
        return {"lr": lr}
    stem, middle, top = lr
    of_parameter = {
        parameter: rate
        for parts, rate in ((trainee.stem, stem), (trainee.top, top))
        for part in parts
        for parameter in part.parameters(recurse=False)
    }
    groups = [
        (name, {"lr": of_parameter[parameter]})
        for name, parameter in network.named_parameters()
        if parameter in of_parameter
    ]
    return {"lr": middle, "optimizer__param_groups": groups}


def _weight_decay(recipe: FineTuning) -> dict[str, float]:
    decay = recipe.weight_decay
    return {} if decay is None else {"optimizer__weight_decay": decay}


def _print_beside_bars(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def _views(
    target: npt.NDArray[np.int64], n_classes: int, training: TrainingConfig
) -> tuple[Augmentation | None, ...]:
    counts = np.bincount(target, minlength=n_classes)
    minority = training.minority_augmentation
    return tuple(
        training.augmentation if minority is None or count == counts.max() else minority
        for count in counts
    )


def _estimate_batch_norms(
    network: TrainingModule, train: BatchSource, training: TrainingConfig
) -> None:
    norms = network.adapting_batch_norms()
    if not norms:
        return
    network.reset_statistics()
    network.eval()
    for norm in norms:
        norm.train()
    # Shuffled: a batch of one class would have too little variance.
    batches = BatchIterator(train, training.batch_size, training.seed)
    with torch.inference_mode():
        for inputs, _ in batches:
            network(inputs["x"].to(training.device))


def _curves(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [
        {name: _plain(value) for name, value in epoch.items() if _is_curve(name)}
        for epoch in history
    ]


def _is_curve(name: str) -> bool:
    return name != "batches" and not name.endswith(("_best", "_batch_count"))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
