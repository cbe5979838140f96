"""How to fine-tune beyond the paper's way, described by plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

from effboost._utils.compat import Interval, StrOptions, validate_parameter_constraints

__all__ = ["FineTuning", "rate_factor"]


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """What fine-tuning may do beyond the paper's recipe; by default nothing.

    Parameters
    ----------
    schedule : "cosine" or None, default=None
        How each learning rate goes on after its warm-up: down to 0 at the end of `max_epochs`,
        along half a cosine; or as it is. It moves after every step, all rates alike.
    warmup_fraction : float, default=0.0
        Share of all steps in which the learning rates rise linearly to what they are.
    weight_decay : float or None, default=None
        Weight decay as the optimizer understands it: decoupled from the gradient for "adamw",
        an L2 penalty for the others. None is the optimizer's own default, which is 0.01 for
        "adamw" and 0 for the others.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over all classes.
    focal_gamma : float, default=0.0
        Exponent of the focal loss, which weighs each image's cross-entropy by ``(1 - p) **
        focal_gamma``, `p` being the probability of its class: what is learned already counts
        less. 0 is cross-entropy, 2 what the literature has.
    mixup_alpha, cutmix_alpha : float, default=0.0
        Mix the images of a batch in pairs: as weighted means (mixup), or with a rectangle of one
        in the other (CutMix). The share of the lesser one comes from a beta distribution, both
        of whose parameters are this; 0 mixes nothing. Where both are set, each batch draws one.
    sampling : {"class", "subject", "class_subject"} or None, default=None
        Draw an epoch's images with replacement: classes equally often; subjects equally often;
        or classes, and within each its subjects. Images without subjects are each their own.
        None shows each image once.
    weight_average : {"ema", "swa"} or None, default=None
        What the network becomes: an exponential moving average of the weights after each step;
        their plain mean since `swa_start`; or the last ones.
    ema_decay : float, default=0.99
        How much of the average stays at each step. It begins lower, at ``(1 + t) / (10 + t)``
        after step `t`: so few steps as a small data set has would not get away from the start.
    swa_start : float, default=0.5
        Share of all steps after which "swa" begins. Until then the weights are the last ones.
    gradual_unfreezing : int, default=0
        Train the classifying layer alone for so many epochs, then one stage more after each so
        many, from the top. What `max_epochs` does not get to stays as it was loaded. 0 trains
        all from the beginning.

    See Also
    --------
    ImageFeaturizer : Takes this as its parameter `recipe`.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR
    2017. C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
    2016 (label smoothing). T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. S. Yun et al.,
    "CutMix", ICCV 2019. P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
    Generalization", UAI 2018. J. Howard and S. Ruder, "Universal Language Model Fine-tuning for
    Text Classification", ACL 2018 (gradual unfreezing).

    Examples
    --------
    >>> from effboost import FineTuning, ImageFeaturizer
    >>> recipe = FineTuning(schedule="cosine", warmup_fraction=0.1, label_smoothing=0.1)
    >>> featurizer = ImageFeaturizer(recipe=recipe)
    >>> FineTuning.from_dict(recipe.to_dict()) == recipe
    True
    """

    schedule: str | None = None
    warmup_fraction: float = 0.0
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    sampling: str | None = None
    weight_average: str | None = None
    ema_decay: float = 0.99
    swa_start: float = 0.5
    gradual_unfreezing: int = 0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "schedule": [StrOptions({"cosine"}), None],
        "warmup_fraction": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left"), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "focal_gamma": [Interval(Real, 0, None, closed="left")],
        "mixup_alpha": [Interval(Real, 0, None, closed="left")],
        "cutmix_alpha": [Interval(Real, 0, None, closed="left")],
        "sampling": [StrOptions({"class", "subject", "class_subject"}), None],
        "weight_average": [StrOptions({"ema", "swa"}), None],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "swa_start": [Interval(Real, 0, 1, closed="left")],
        "gradual_unfreezing": [Interval(Integral, 0, None, closed="left")],
    }

    def __post_init__(self) -> None:
        validate_parameter_constraints(
            self._parameter_constraints, dataclasses.asdict(self), type(self).__name__
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as a dictionary of strings, numbers and None."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build the recipe that `to_dict` described."""
        return cls(**data)


def rate_factor(recipe: FineTuning, step: int, n_steps: int) -> float:
    """Give what learning rates are multiplied by in a step, of which the first is 0."""
    n_warm = round(recipe.warmup_fraction * n_steps)
    if step < n_warm:
        # The first step is not spent on a rate of 0.
        return (step + 1) / (n_warm + 1)
    if recipe.schedule is None:
        return 1.0
    return (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm))) / 2
