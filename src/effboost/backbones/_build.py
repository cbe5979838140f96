"""From a spec to a network that gives features."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version

import torch
from torch import nn

from effboost._utils.device import computing, seeded
from effboost.backbones._specs import BackboneSpec
from effboost.backbones._weights import load_into, read_imagenet_weights, read_weight_file

__all__ = [
    "build_backbone",
    "feature_width",
    "list_children",
    "list_frozen",
    "list_stages",
    "list_unfrozen",
    "network_digest",
    "remove_head",
]


def build_backbone(
    spec: BackboneSpec,
    weights: str | os.PathLike[str] | None,
    *,
    seed: int,
    keep_head: bool = True,
    progress: bool = False,
) -> nn.Module:
    """Build a network and load its weights.

    Parameters
    ----------
    spec : BackboneSpec
        Which network.
    weights : "imagenet", path or None
        The weights that torchvision publishes, a ``.pth`` or ``.safetensors`` file, or random
        ones drawn from `seed`.
    seed : int
        Seed of the random weights. torch's global generator is left as it was.
    keep_head : bool, default=True
        Whether the classifier's weights must be in the file too. If False, a classifier with
        another number of classes does not matter.
    progress : bool, default=False
        Show the progress of a download.

    Returns
    -------
    torch.nn.Module
        The network, classifier included, in evaluation mode.

    Raises
    ------
    WeightsNotFoundError
        If the weights are neither here nor to be had. The message says where to put them.
    WeightsMismatchError
        If the weights belong to another architecture.
    WeightsError
        If the file is damaged or holds more than tensors.
    """
    with seeded(seed):
        module = spec.build()
    head = None if keep_head else spec.head_of(module)
    unneeded = spec.fresh if head is None else (*spec.fresh, head)
    if weights == "imagenet":
        state = read_imagenet_weights(spec, progress=progress)
        load_into(module, state, spec.name, unneeded=unneeded)
    elif weights is not None:
        load_into(module, read_weight_file(weights), spec.name, unneeded=unneeded)
    # Auxiliary classifiers, which Inception and GoogLeNet have for training from scratch.
    for name, off in (("AuxLogits", None), ("aux1", None), ("aux2", None), ("aux_logits", False)):
        if hasattr(module, name):
            setattr(module, name, off)
    return module.eval()


def remove_head(module: nn.Module, spec: BackboneSpec) -> nn.Module:
    """Take the classifier off, in place, so that the network gives its input: the features."""
    head = spec.head_of(module)
    if head is not None:
        module.set_submodule(head, nn.Identity())
    return module


def list_children(module: nn.Module) -> dict[str, nn.Module]:
    """List the children of a network by name; those of ``features`` each for themselves."""
    children: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        if name == "features":
            children |= {f"{name}.{key}": part for key, part in child.named_children()}
        else:
            children[name] = child
    return children


def list_stages(module: nn.Module, spec: BackboneSpec) -> list[list[nn.Module]]:
    """Cut a network into stages, from the picture to the features.

    A stage is a child of the network that has parameters; a child called ``features``
    (EfficientNet, MobileNet, VGG, DenseNet, ...) counts by its own children. The classifying
    layer belongs to none.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with its classifier.
    spec : BackboneSpec
        What is known about it.

    Returns
    -------
    list of list of torch.nn.Module
        The modules of each stage: 9 stages for EfficientNet-B0, 6 for a ResNet (the first two
        are its first convolution and batch norm).
    """
    name = spec.head_of(module)
    head = None if name is None else module.get_submodule(name)
    children = list_children(module).values()
    stages = [[part for part in child.modules() if part is not head] for child in children]
    return [
        stage
        for stage in stages
        if any(True for part in stage for _ in part.parameters(recurse=False))
    ]


def list_frozen(module: nn.Module, spec: BackboneSpec, n_last: int) -> list[nn.Module]:
    """List the modules that are not to be trained where only the last stages are.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with its classifier.
    spec : BackboneSpec
        What is known about it.
    n_last : int
        Number of stages at the end that are trained. Their modules, the classifying layer, and
        modules without parameters outside of all stages are not listed.

    Returns
    -------
    list of torch.nn.Module
        The modules, nested ones each for itself.

    Raises
    ------
    ValueError
        If there are not so many stages.
    """
    stages = list_stages(module, spec)
    if n_last > len(stages):
        raise ValueError(
            f"trainable={n_last}, but {spec.name!r} has {len(stages)} stages; use "
            f'"all", "head" or 1 to {len(stages)}'
        )
    frozen = [part for stage in stages[: len(stages) - n_last] for part in stage]
    if frozen and next(module.parameters(recurse=False), None) is not None:
        frozen.append(module)  # parameters of its own, such as a class token
    return frozen


def list_unfrozen(
    module: nn.Module, spec: BackboneSpec, frozen: list[nn.Module]
) -> list[list[nn.Module]]:
    """List the stages that are trained, where some modules are frozen (`list_frozen`).

    Parameters of the network's own, such as a class token, go with the first stage.
    """
    stages = [stage for stage in list_stages(module, spec) if stage[0] not in frozen]
    own = next(module.parameters(recurse=False), None)
    if stages and own is not None and module not in frozen:
        stages[0] = [*stages[0], module]
    return stages


def feature_width(module: nn.Module, image_size: int) -> int:
    """Count the values that the network gives for one image of this size.

    Raises
    ------
    ValueError
        If the network does not take the size, or gives something other than a row per image.
    """
    return _probe(module, image_size).shape[1]


def network_digest(module: nn.Module, spec: BackboneSpec, image_size: int) -> str:
    """Hash a network: its design, its weights, and the versions of what computes it.

    A network of the user's own making is run once: its features of a known image are the only
    trace in it of the code of its ``forward``.

    Parameters
    ----------
    module : torch.nn.Module
        The network, up to its features.
    spec : BackboneSpec
        What is known about it.
    image_size : int
        Side in pixels of the images that it sees.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    parts = [spec.name, spec.options, spec.head, module]
    parts += [version(package) for package in ("torch", "torchvision")]
    digest = hashlib.sha256(repr(parts).encode())
    tensors = module.state_dict()
    if spec.factory is not None:
        tensors["features of a known image"] = _probe(module, image_size)
    for name, tensor in tensors.items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _probe(module: nn.Module, image_size: int) -> torch.Tensor:
    """Run the network on one image of noise, always the same."""
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
            f"the backbone gives {shape} for one image; it must give one row of features: "
            "pool and flatten them in its forward method"
        )
    return out
