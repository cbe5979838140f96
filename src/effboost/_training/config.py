"""Parameters of fine-tuning: the public ones, and the resolved ones for the trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Final

import torch

from effboost._transforms import Augmentation
from effboost._utils.compat import Interval, StrOptions
from effboost._utils.parameter_set import ParameterSet

__all__ = [
    "OPTIMIZERS",
    "FineTuning",
    "Regularization",
    "Schedule",
    "TrainingConfig",
]

OPTIMIZERS: Final = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
_PATIENCE: Final = 5


class Schedule(ParameterSet):
    """How learning rates and trained stages change during training.

    Parameters
    ----------
    decay : "cosine" or None, default=None
        How all learning rates change after the warm-up: "cosine" lowers them after every step along
        half a cosine [1]_, to 0 at the end of `max_epochs`; None keeps them constant.
    warmup_fraction : float, default=0.0
        Share of all steps in which the learning rates first rise linearly to their values.
    unfreezing_epochs : int, default=0
        Train only the classification layer for this number of epochs, and then unfreeze one more
        stage each time that this number of epochs has passed, from the last stage to the first
        [2]_. Stages that are not reached within `max_epochs` keep their weights. 0 trains all
        stages from the beginning.
    initial_image_size : int or None, default=None
        Side in pixels of the training images in the first epoch, 32 or more. It grows to the image
        size of the featurizer in the last epoch (progressive resizing [3]_), in multiples of 32.
        The time of an epoch falls about with the number of pixels. Validation and features use the
        full size. Needs ``trainable="all"``, more than one epoch, and a network that takes images
        of any size. None trains at the full size.

    See Also
    --------
    FineTuning : Takes this as its parameter `schedule`.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
       ICLR 2017.
    .. [2] J. Howard and S. Ruder, "Universal Language Model Fine-tuning for Text Classification",
       ACL 2018.
    .. [3] M. Tan and Q. V. Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021.

    Examples
    --------
    >>> from effboost import FineTuning, Schedule
    >>> FineTuning(schedule=Schedule("cosine", warmup_fraction=0.1))
    FineTuning(schedule=Schedule(decay='cosine', warmup_fraction=0.1))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "decay": [StrOptions({"cosine"}), None],
        "warmup_fraction": [Interval(Real, 0, 1, closed="left")],
        "unfreezing_epochs": [Interval(Integral, 0, None, closed="left")],
        "initial_image_size": [Interval(Integral, 32, None, closed="left"), None],
    }

    def __init__(
        self,
        decay: str | None = None,
        *,
        warmup_fraction: float = 0.0,
        unfreezing_epochs: int = 0,
        initial_image_size: int | None = None,
    ):
        self.decay = decay
        self.warmup_fraction = warmup_fraction
        self.unfreezing_epochs = unfreezing_epochs
        self.initial_image_size = initial_image_size


class Regularization(ParameterSet):
    """Options that reduce overfitting of the network.

    Parameters
    ----------
    focal_gamma : float, default=0.0
        Exponent of the focal loss [1]_, which weights each image's cross-entropy by ``(1 - p) **
        focal_gamma``, where `p` is the probability of its class. 0 is cross-entropy; 2 is common.
    mixup_alpha, cutmix_alpha : float, default=0.0
        Mix the images of a batch in pairs: as weighted means (mixup [2]_), or by inserting a
        rectangle of one image into the other (CutMix [3]_). The shares are drawn from a beta
        distribution whose two parameters are this number; the smaller share is that of the second
        image. 0 mixes nothing. If both are set, one of them is drawn for each batch.
    sampling : {"class", "subject", "class_subject"} or None, default=None
        Draw the images of an epoch with replacement: "class" draws classes equally often, "subject"
        subjects, and "class_subject" classes and, within each class, its subjects. Without groups,
        each image is its own subject. None uses each image once.
    weight_average : {"ema", "swa"} or None, default=None
        The final weights of the network: "ema" is an exponential moving average over the steps,
        "swa" the mean since `swa_start` [4]_; None is the weights of the last step.
    ema_decay : float, default=0.99
        Share of the average that is kept at each step, but at most ``(1 + t) / (10 + t)`` after
        step `t`: otherwise, in the few steps of a small data set, the average would stay close to
        the initial weights.
    swa_start : float, default=0.5
        Share of all steps after which "swa" begins. Until then, the current weights are used.

    See Also
    --------
    FineTuning : Takes this as its parameter `regularization`.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    .. [2] H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    .. [3] S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
       Localizable Features", ICCV 2019.
    .. [4] P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
       Generalization", UAI 2018.

    Examples
    --------
    >>> from effboost import FineTuning, Regularization
    >>> FineTuning(regularization=Regularization(mixup_alpha=0.2))
    FineTuning(regularization=Regularization(mixup_alpha=0.2))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "focal_gamma": [Interval(Real, 0, None, closed="left")],
        "mixup_alpha": [Interval(Real, 0, None, closed="left")],
        "cutmix_alpha": [Interval(Real, 0, None, closed="left")],
        "sampling": [StrOptions({"class", "subject", "class_subject"}), None],
        "weight_average": [StrOptions({"ema", "swa"}), None],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "swa_start": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        focal_gamma: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        sampling: str | None = None,
        weight_average: str | None = None,
        ema_decay: float = 0.99,
        swa_start: float = 0.5,
    ):
        self.focal_gamma = focal_gamma
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.sampling = sampling
        self.weight_average = weight_average
        self.ema_decay = ema_decay
        self.swa_start = swa_start

    def _check_combination(self) -> None:
        for name, average in (("ema_decay", "ema"), ("swa_start", "swa")):
            if self.weight_average != average:
                self._check_unused((name,), f'without weight_average="{average}"')


class FineTuning(ParameterSet):
    """How a network is fine-tuned; by default as in the paper.

    Parameters
    ----------
    max_epochs : int, default=5
        Passes over the training images.
    batch_size : int, default=40
        Images in a training step, 2 or more.
    optimizer : {"adamax", "adam", "adamw", "rmsprop", "sgd"} or class, default="adamax"
        A name, or any `torch.optim.Optimizer` class.
    lr : float or tuple of 3 floats, default=1e-3
        Learning rate; or three rates: of the first stage (`effboost.backbones.list_stages`), of the
        other stages, and of the classification layer.
    schedule : "cosine", Schedule or None, default=None
        How learning rates change over the steps: "cosine" means ``Schedule("cosine")``; None keeps
        them constant.
    weight_decay : float or None, default=None
        Weight decay of the optimizer: decoupled from the gradient for "adamw", an L2 penalty for
        the others. It is not applied to norms and biases. None is the optimizer's own default,
        which is 0.01 for "adamw" and 0 for the others.
    trainable : "all", "head" or int, default="all"
        What is trained: the whole network; only the classification layer ("head"); or the
        classification layer and this number of last stages (`effboost.backbones.list_stages`;
        EfficientNet-B0 has 9). The rest keeps its weights and batch norm statistics.
    freeze_batch_norm : bool, default=False
        Keep the statistics of all batch norms as they were loaded. Needed for weights whose
        batch norms were folded into the convolutions.
    class_weight : "balanced", dict or None, default=None
        Weights of the classes in the loss, as in scikit-learn.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over all classes [1]_.
    augmentation : "paper", Augmentation or None, default="paper"
        Random views of training images; "paper" means ``Augmentation()``, None no augmentation.
        Features are never computed from random views.
    minority_augmentation : Augmentation or None, default=None
        The augmentation of all classes except the most frequent one, with more views
        (``n_views=2``) or stronger changes. None uses `augmentation` for all classes.
    early_stopping : bool or int, default=False
        Stop once the validation loss has not improved for this number of epochs (True: 5), and
        restore the weights of the best epoch. The validation images are `X_val` or, without it,
        those of subjects that are set aside.
    validation_fraction : float, default=0.1
        Share of the images to set aside, by subject, if `early_stopping` is set and no `X_val` is
        given; more if a class has few subjects, as in `subject_split`. Has no effect otherwise.
    precision : {"float32", "mixed"}, default="float32"
        Arithmetic in training; "mixed" computes in bfloat16 where torch considers it safe, which
        is faster on recent GPUs. Features are always computed in float32.
    regularization : Regularization or None, default=None
        Focal loss, mixup, CutMix, balanced sampling, weight averaging. None uses none of them, as
        in the paper.

    See Also
    --------
    ImageFeaturizer : Takes this as its parameter `training`.
    Schedule, Regularization, Augmentation : Groups of parameters inside this one.

    References
    ----------
    .. [1] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
       2016.

    Examples
    --------
    >>> from effboost import EfficientNetFeaturizer, FineTuning
    >>> featurizer = EfficientNetFeaturizer(training=FineTuning(max_epochs=10, schedule="cosine"))
    >>> featurizer.set_params(training__schedule__warmup_fraction=0.1).training
    FineTuning(max_epochs=10,
               schedule=Schedule(decay='cosine', warmup_fraction=0.1))
    """

    _defaults: ClassVar[dict[str, dict[Hashable, Callable[[], Any]]]] = {
        "augmentation": {"paper": Augmentation},
        "schedule": {None: Schedule, "cosine": lambda: Schedule("cosine")},
        "regularization": {None: Regularization},
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "schedule": [StrOptions({"cosine"}), Schedule, None],
        "weight_decay": [Interval(Real, 0, None, closed="left"), None],
        "trainable": [StrOptions({"all", "head"}), Interval(Integral, 1, None, closed="left")],
        "freeze_batch_norm": ["boolean"],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "augmentation": [StrOptions({"paper"}), Augmentation, None],
        "minority_augmentation": [Augmentation, None],
        "early_stopping": ["boolean", Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "precision": [StrOptions({"float32", "mixed"})],
        "regularization": [Regularization, None],
    }

    def __init__(
        self,
        *,
        max_epochs: int = 5,
        batch_size: int = 40,
        optimizer: str | type[torch.optim.Optimizer] = "adamax",
        lr: float | tuple[float, float, float] = 1e-3,
        schedule: str | Schedule | None = None,
        weight_decay: float | None = None,
        trainable: str | int = "all",
        freeze_batch_norm: bool = False,
        class_weight: str | dict[Any, float] | None = None,
        label_smoothing: float = 0.0,
        augmentation: str | Augmentation | None = "paper",
        minority_augmentation: Augmentation | None = None,
        early_stopping: bool | int = False,
        validation_fraction: float = 0.1,
        precision: str = "float32",
        regularization: Regularization | None = None,
    ):
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.trainable = trainable
        self.freeze_batch_norm = freeze_batch_norm
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.augmentation = augmentation
        self.minority_augmentation = minority_augmentation
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.precision = precision
        self.regularization = regularization

    def _check_combination(self) -> None:
        _check_rates(self.lr)
        if self.minority_augmentation is not None:
            self.minority_augmentation.check()
        grows = ("initial_image_size",)
        if self.max_epochs == 1:
            self._child("schedule")._check_unused(grows, "with max_epochs=1")
        if self.trainable != "all":
            # The output of the frozen stages is computed once, from images of one size.
            self._child("schedule")._check_unused(grows, f"with trainable={self.trainable!r}")
        else:
            for name in ("augmentation", "minority_augmentation"):
                views = self._child(name) if name in self._defaults else getattr(self, name)
                if isinstance(views, Augmentation):
                    views._check_unused(("frozen_views",), 'with trainable="all"')

    @property
    def patience(self) -> int | None:
        """Epochs without improvement after which training stops; None if it does not."""
        # True is 1 to Python, but not here.
        if isinstance(self.early_stopping, bool) or type(self.early_stopping).__name__ == "bool":
            return _PATIENCE if self.early_stopping else None
        return int(self.early_stopping)

    @property
    def unfreezes(self) -> bool:
        """Whether stages are unfrozen one after the other."""
        return bool(self._child("schedule").unfreezing_epochs)

    def resolve(self, device: torch.device, seed: int, **others: Any) -> TrainingConfig:
        """Return the parameters for the trainer, with all short forms replaced.

        Parameters
        ----------
        device : torch.device
            Where to compute.
        seed : int
            Seed of order, views and dropout.
        **others
            Further parameters of the trainer.

        Returns
        -------
        TrainingConfig
            The parameters.
        """
        optimizer = self.optimizer
        return TrainingConfig(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            optimizer=OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer,
            lr=_check_rates(self.lr),
            schedule=self._child("schedule"),
            weight_decay=self.weight_decay,
            freeze_batch_norm=bool(self.freeze_batch_norm),
            label_smoothing=self.label_smoothing,
            augmentation=self._child("augmentation"),
            minority_augmentation=self.minority_augmentation,
            patience=self.patience,
            mixed_precision=self.precision == "mixed",
            regularization=self._child("regularization"),
            device=device,
            seed=seed,
            **others,
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Resolved parameters of training, without short forms.

    Attributes
    ----------
    max_epochs, batch_size : int
        Epochs, and images a step.
    optimizer : type
        A `torch.optim.Optimizer`.
    lr : float or tuple of 3 floats
        Learning rate; or those of the first stage, the other stages, and the head.
    schedule : Schedule
        How rates and frozen stages change.
    weight_decay, freeze_batch_norm, label_smoothing, augmentation, minority_augmentation
        See `FineTuning`.
    patience : int or None
        Stop after this number of epochs without a lower validation loss, and restore the best
        weights.
    mixed_precision : bool
        Compute in bfloat16 where torch considers it safe.
    regularization : Regularization
        Loss, mixing, sampling, weight averaging.
    device : torch.device
        Where to compute.
    seed : int
        Seed of order, views and dropout.
    verbose : int, default=0
        1 shows a progress bar, 2 also a table of the epochs, on stderr.
    callbacks : sequence, default=()
        skorch callbacks, beside effboost's own.
    """

    max_epochs: int
    batch_size: int
    optimizer: type[torch.optim.Optimizer]
    lr: float | tuple[float, float, float]
    schedule: Schedule
    weight_decay: float | None
    freeze_batch_norm: bool
    label_smoothing: float
    augmentation: Augmentation | None
    minority_augmentation: Augmentation | None
    patience: int | None
    mixed_precision: bool
    regularization: Regularization
    device: torch.device
    seed: int
    verbose: int = 0
    callbacks: Sequence[Any] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters that the result depends on, as plain data."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("verbose", "callbacks"):
            del fields[name]
        fields["optimizer"] = self.optimizer.__qualname__
        fields["device"] = self.device.type
        return {
            name: value.to_dict() if isinstance(value, ParameterSet) else value
            for name, value in fields.items()
        }


def _check_rates(lr: Any) -> Any:
    if isinstance(lr, Real):
        return lr
    rates = tuple(lr)
    if len(rates) != 3 or not all(isinstance(r, Real) and float(r) > 0 for r in rates):
        raise ValueError(
            f"lr={lr!r}; expected one number above 0, or three: of the first stage, of the other "
            "stages, and of the classification layer"
        )
    return rates
