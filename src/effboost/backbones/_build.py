"""Construction of networks, their width and their digest."""

from __future__ import annotations

import hashlib
import os

import torch
from torch import nn

from effboost._utils.device import computing, seeded
from effboost._utils.versions import find_versions
from effboost.backbones._efficientnet_lite import EfficientNetLite
from effboost.backbones._specs import BackboneSpec
from effboost.backbones._timm import TOKENS, build_timm
from effboost.backbones._weights import load_into, read_imagenet_weights, read_weight_file
from effboost.exceptions import UnsupportedInputError

__all__ = [
    "build_backbone",
    "feature_width",
    "network_digest",
]


def build_backbone(
    spec: BackboneSpec,
    weights: str | os.PathLike[str] | None,
    *,
    seed: int,
    keep_head: bool = True,
    features: str = "pooled",
    image_size: int | None = None,
    progress: bool = False,
) -> nn.Module:
    """Build a network and load its weights.

    Parameters
    ----------
    spec : BackboneSpec
        Which network.
    weights : "imagenet", path or None
        The published weights (see `BackboneSpec`); a ``.pth``, ``.bin`` or ``.safetensors`` file;
        or None for random ones, drawn from `seed`.
    seed : int
        Seed of the random weights. The state of torch's global generator does not change.
    keep_head : bool, default=True
        Whether the file must also contain the weights of the classification layer. If False, that
        layer may be missing or have another number of classes, and a network of timm is built
        without it.
    features : {"pooled", "logits", "cls_token", "avg_tokens"}, default="pooled"
        Which tokens a vision transformer of timm returns; see `ImageFeaturizer`.
    image_size : int, default=None
        Side in pixels of the images, for networks of timm that are built for one size. None means
        that of their published weights.
    progress : bool, default=False
        Show the progress of a download.

    Returns
    -------
    torch.nn.Module
        The network with its classification layer, in evaluation mode.

    Raises
    ------
    WeightsNotFoundError
        If the weights are not on this machine and cannot be downloaded.
    WeightsMismatchError
        If the weights belong to another architecture.
    WeightsError
        If the file is damaged, or contains more than tensors.
    UnsupportedInputError
        If the network has no such features, or does not take the size.

    Examples
    --------
    >>> import torch
    >>> from effboost.backbones import build_backbone, get_backbone_spec
    >>> module = build_backbone(get_backbone_spec("resnet18"), None, seed=0)
    >>> module(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 1000])
    """
    if spec.timm_name is not None:
        state = None
        if weights == "imagenet":
            state = read_imagenet_weights(spec, progress=progress)
        elif weights is not None:
            state = read_weight_file(weights)
        with seeded(seed):
            return build_timm(
                spec.timm_name,
                spec.options,
                image_size=image_size,
                keep_head=keep_head,
                state=state,
                features=features,
            ).eval()
    if features in TOKENS:
        raise UnsupportedInputError(
            f"features={features!r} is for vision transformers of timm; {spec.name!r} has no such "
            'tokens: use features="pooled"'
        )
    with seeded(seed):
        module = spec.build()
    head = None if keep_head else spec.head_of(module)
    unneeded = spec.fresh if head is None else (*spec.fresh, head)
    if weights is not None:
        if weights == "imagenet":
            state = read_imagenet_weights(spec, progress=progress)
        else:
            state = read_weight_file(weights)
        if isinstance(module, EfficientNetLite):
            state = module.rename_weights(state)
        load_into(module, state, spec.name, unneeded=unneeded)
    # Inception and GoogLeNet have auxiliary classifiers for training from scratch.
    for name, off in (("AuxLogits", None), ("aux1", None), ("aux2", None), ("aux_logits", False)):
        if hasattr(module, name):
            setattr(module, name, off)
    return module.eval()


def feature_width(module: nn.Module, image_size: int) -> int:
    """Return the number of features of an image of this size.

    Parameters
    ----------
    module : torch.nn.Module
        The network, up to its features.
    image_size : int
        Side of its images, in pixels.

    Returns
    -------
    int
        The number.

    Raises
    ------
    ValueError
        If the network does not take the size, or does not return one row for each image.

    Examples
    --------
    >>> from effboost.backbones import build_backbone, feature_width
    >>> from effboost.backbones import get_backbone_spec, remove_head
    >>> spec = get_backbone_spec("resnet18")
    >>> feature_width(remove_head(build_backbone(spec, None, seed=0), spec), image_size=32)
    512
    """
    return _probe(module, image_size).shape[1]


def network_digest(module: nn.Module, spec: BackboneSpec, image_size: int) -> str:
    """Hash a network: its design, its weights, and the versions of the packages that run it.

    A network built by the user's own code or by timm is run on a fixed image. Its features are
    included in the hash, since the code of its ``forward`` cannot be hashed.

    Parameters
    ----------
    module : torch.nn.Module
        The network, up to its features.
    spec : BackboneSpec
        Specification of the network.
    image_size : int
        Side of its images, in pixels.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> from effboost.backbones import build_backbone, get_backbone_spec, network_digest
    >>> spec = get_backbone_spec("resnet18")
    >>> one, other = (
    ...     network_digest(build_backbone(spec, None, seed=seed), spec, 32) for seed in (0, 1)
    ... )
    >>> one == other
    False
    """
    parts = [spec.name, spec.options, spec.head, module]
    parts += find_versions("torch", "torchvision")
    digest = hashlib.sha256(repr(parts).encode())
    tensors = module.state_dict()
    if spec.factory is not None or spec.timm_name is not None:
        tensors["features of a known image"] = _probe(module, image_size)
    for name, tensor in tensors.items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _probe(module: nn.Module, image_size: int) -> torch.Tensor:
    """Run the network on one image of noise, which is always the same."""
    noise = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    tensors = module.state_dict().values()
    if tensors and all(tensor.is_meta for tensor in tensors):
        noise = noise.to("meta")  # its shapes alone are known
    try:
        with computing(), torch.inference_mode():
            out = module.eval()(noise)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"the backbone does not take images of image_size={image_size} ({error})"
        ) from error
    if not isinstance(out, torch.Tensor) or out.ndim != 2:
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(
            f"the backbone returns {shape} for one image, not one row of features: pool and "
            "flatten them in its forward method"
        )
    return out
