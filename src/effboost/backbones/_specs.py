"""What effboost knows about each network, as data."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from torch import nn

from effboost._compat import load_torchvision
from effboost.exceptions import UnknownBackboneError

__all__ = ["BACKBONES", "BackboneSpec", "get_backbone_spec"]

_Triple = tuple[float, float, float]
_IMAGENET_MEAN: Final[_Triple] = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final[_Triple] = (0.229, 0.224, 0.225)
_HALF: Final[_Triple] = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
    """One network: how to build it, where its features are, how it wants its pixels.

    Parameters
    ----------
    name : str
        Its name: torchvision's builder of that name is called if there is no `factory`.
    head : str or None
        Dotted name of the last linear layer, whose input are the features. None if the network
        has no such layer and its output are the features.
    n_features : int or None, default=None
        Number of features; None takes it from the network.
    family : str, default=""
        Networks of one design share it, such as "efficientnet".
    weights : str or None, default="IMAGENET1K_V1"
        What ``weights="imagenet"`` means: a member of torchvision's weights enumeration of this
        network, or the URL of a ``.pth`` file whose name ends in ``-<SHA-256 prefix>.pth``.
    mean, std : tuple of 3 floats
        The normalisation that the weights were trained with, on pixels in [0, 1].
    options : tuple of (str, value) pairs, default=()
        Keywords for the builder.
    factory : callable or None, default=None
        Builds the network, a `torch.nn.Module`; called with `options` as keywords.
    """

    name: str
    head: str | None
    n_features: int | None = None
    family: str = ""
    weights: str | None = "IMAGENET1K_V1"
    mean: _Triple = _IMAGENET_MEAN
    std: _Triple = _IMAGENET_STD
    options: tuple[tuple[str, Any], ...] = ()
    factory: Callable[..., nn.Module] | None = None

    def build(self) -> nn.Module:
        """Build the network with random weights."""
        options = dict(self.options)
        if self.factory is not None:
            module = self.factory(**options)
        else:
            module = load_torchvision().models.get_model(self.name, weights=None, **options)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"the factory of backbone {self.name!r} gave a {type(module).__name__}; it must "
                "give a torch.nn.Module"
            )
        return module


def _efficientnet(name: str, n_features: int, mean: _Triple, std: _Triple) -> BackboneSpec:
    return BackboneSpec(name, "classifier.1", n_features, "efficientnet", mean=mean, std=std)


# Inception and GoogLeNet were trained on inputs in [-1, 1] and convert ImageNet-normalised ones
# themselves; init_weights keeps torchvision from warning about its own default.
_INCEPTION_OPTIONS = (("aux_logits", True), ("init_weights", True), ("transform_input", True))

BACKBONES: Final = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _efficientnet("efficientnet_b0", 1280, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_b1", 1280, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_b2", 1408, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_b3", 1536, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_b4", 1792, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_b5", 2048, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_b6", 2304, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_b7", 2560, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_v2_s", 1280, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_v2_m", 1280, _IMAGENET_MEAN, _IMAGENET_STD),
            _efficientnet("efficientnet_v2_l", 1280, _HALF, _HALF),
            BackboneSpec("mobilenet_v2", "classifier.1", 1280, "mobilenet"),
            BackboneSpec("vgg16", "classifier.6", 4096, "vgg"),
            BackboneSpec("alexnet", "classifier.6", 4096, "alexnet"),
            BackboneSpec("resnet18", "fc", 512, "resnet"),
            BackboneSpec("resnet50", "fc", 2048, "resnet"),
            BackboneSpec("inception_v3", "fc", 2048, "inception", options=_INCEPTION_OPTIONS),
            BackboneSpec("googlenet", "fc", 1024, "inception", options=_INCEPTION_OPTIONS),
        )
    }
)


def get_backbone_spec(backbone: str | BackboneSpec | Callable[..., nn.Module]) -> BackboneSpec:
    """Find what is known about a network.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable
        A name of `BACKBONES` or of any torchvision classification model; a spec, which comes
        back as it is; or a callable that builds a `torch.nn.Module`, whose last linear layer
        is taken for the classifier.

    Returns
    -------
    BackboneSpec
        The spec.

    Raises
    ------
    UnknownBackboneError
        If no network has this name. The nearest names are suggested.
    """
    if isinstance(backbone, BackboneSpec):
        return backbone
    if callable(backbone):
        return _spec_of_factory(backbone)
    if backbone in BACKBONES:
        return BACKBONES[backbone]
    models = load_torchvision().models
    known = models.list_models(module=models)
    if backbone in known:
        return _spec_of_torchvision(models, backbone)
    near = difflib.get_close_matches(str(backbone), {*known, *BACKBONES}, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see effboost.backbones"
    raise UnknownBackboneError(f"no backbone is named {backbone!r}; {hint}")


def _spec_of_factory(factory: Callable[..., nn.Module]) -> BackboneSpec:
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    spec = BackboneSpec(name, None, weights=None, factory=factory)
    return dataclasses.replace(spec, head=_last_linear(spec.build()))


def _spec_of_torchvision(models: Any, name: str) -> BackboneSpec:
    import torch

    weights = next(iter(models.get_model_weights(name)))
    preset = weights.transforms()
    with torch.device("meta"):  # the layers' names and shapes, without their memory
        head = _last_linear(models.get_model(name, weights=None))
    if head is None:
        raise UnknownBackboneError(
            f"backbone {name!r} ends in no linear layer, so it is not clear which values are "
            "its features; give a BackboneSpec with a factory that returns them"
        )
    mean, std = ((float(r), float(g), float(b)) for r, g, b in (preset.mean, preset.std))
    return BackboneSpec(name, head, weights=weights.name, mean=mean, std=std)


def _last_linear(module: nn.Module) -> str | None:
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    return linear[-1] if linear else None
