"""Featurizers from keywords without nesting; each is passed to the object that has it."""

from __future__ import annotations

import difflib
from typing import Any, Final

from sklearn.base import clone

from effboost._efficientnet_featurizer import EfficientNetFeaturizer
from effboost._featurizer import ImageFeaturizer
from effboost._training.config import FineTuning, Regularization, Schedule
from effboost._transforms import ImageTransform
from effboost.backbones import get_backbone_spec

__all__ = ["build_featurizer"]

_OWN: Final = frozenset(ImageFeaturizer._get_param_names())
_TRANSFORM: Final = frozenset(ImageTransform._get_param_names())
# Parameters of the training by their own names, and by the ones that reach them from there.
_TRAINING: Final = (
    {name: name for name in FineTuning._get_param_names()}
    | {
        name: f"{group}__{name}"
        for group, kind in (("schedule", Schedule), ("regularization", Regularization))
        for name in kind._get_param_names()
    }
    | {"frozen_views": "augmentation__frozen_views"}
)
_KNOWN: Final = _OWN | _TRANSFORM | _TRAINING.keys()


def build_featurizer(
    backbone: Any = "efficientnet_b0",
    *,
    kind: type[ImageFeaturizer] | None = None,
    fine_tune: bool = True,
    **keywords: Any,
) -> ImageFeaturizer:
    """Build a featurizer from parameters of the featurizer, its training and its transform.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable
        The network.
    kind : type, default=None
        The class to build; None means `EfficientNetFeaturizer` for that family, `ImageFeaturizer`
        for others.
    fine_tune : bool, default=True
        False means ``training=None``.
    **keywords
        Parameters of `ImageFeaturizer`, `ImageTransform`, `FineTuning` and of the latter's
        `Schedule` and `Regularization` by their own names.

    Returns
    -------
    ImageFeaturizer
        Not yet fitted.

    Raises
    ------
    TypeError
        If there is no parameter of that name.
    ValueError
        If a parameter of training is given, but `fine_tune` is False.
    """
    for name in keywords.keys() - _KNOWN:
        near = difflib.get_close_matches(name, _KNOWN, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(
            f"{name!r} is not a parameter of ImageFeaturizer, FineTuning or ImageTransform{hint}"
        )
    own = {name: value for name, value in keywords.items() if name in _OWN}
    training = {name: value for name, value in keywords.items() if name in _TRAINING}
    transform = {name: value for name, value in keywords.items() if name in _TRANSFORM}
    if not fine_tune or own.get("training", "") is None:
        if training:
            raise ValueError(
                f"{next(iter(training))}={next(iter(training.values()))!r} has no effect: with "
                "fine_tune=False nothing is trained; leave it out, or set fine_tune=True"
            )
        own["training"] = None
    elif training:
        params = {_TRAINING[name]: value for name, value in training.items()}
        own["training"] = _with(own.get("training", "paper"), FineTuning, params)
    if transform:
        own["transform"] = _with(own.get("transform", "paper"), ImageTransform, transform)
    if kind is None:
        is_efficientnet = get_backbone_spec(backbone).family == "efficientnet"
        kind = EfficientNetFeaturizer if is_efficientnet else ImageFeaturizer
    return kind(backbone, **own)


def _with(group: Any, kind: type[Any], params: dict[str, Any]) -> Any:
    """Return a copy of a group of parameters, or of the default, with some of them changed."""
    return (kind() if isinstance(group, str) else clone(group)).set_params(**params)
