"""The stages of a network, for `trainable` and `extra_features`."""

from __future__ import annotations

from typing import Final

from torch import nn

from effboost.backbones._specs import BackboneSpec, RemovedHead

__all__ = [
    "is_of_timm",
    "list_children",
    "list_frozen",
    "list_stages",
    "list_unfrozen",
    "name_stages",
    "remove_head",
]

_TIMM_LISTS: Final = ("features", "blocks", "stages", "layers")


def remove_head(module: nn.Module, spec: BackboneSpec) -> nn.Module:
    """Remove the classification layer in place, so that the network returns its features.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with its classification layer.
    spec : BackboneSpec
        Specification of the network.

    Returns
    -------
    torch.nn.Module
        The network.

    Examples
    --------
    >>> import torch
    >>> from effboost.backbones import build_backbone, get_backbone_spec, remove_head
    >>> spec = get_backbone_spec("resnet18")
    >>> module = build_backbone(spec, None, seed=0)
    >>> remove_head(module, spec)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 512])
    """
    head = spec.head_of(module)
    if head is not None:
        module.set_submodule(head, RemovedHead())
    return module


def list_children(module: nn.Module) -> dict[str, nn.Module]:
    """List the children of a network by name; a child ``features`` is replaced by its children.

    So are ``blocks``, ``stages`` and ``layers`` in networks of timm.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    dict of str to torch.nn.Module
        The children by their dotted names, in order.

    Examples
    --------
    >>> from effboost.backbones import build_backbone, get_backbone_spec, list_children
    >>> spec = get_backbone_spec("resnet18")
    >>> module = build_backbone(spec, None, seed=0)
    >>> list(list_children(module))[:5]
    ['conv1', 'bn1', 'relu', 'maxpool', 'layer1']
    """
    lists = _TIMM_LISTS if is_of_timm(module) else ("features",)
    children: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        is_list = name == "features" or isinstance(child, nn.Sequential | nn.ModuleList)
        if name in lists and is_list:
            children |= {f"{name}.{key}": part for key, part in child.named_children()}
        else:
            children[name] = child
    return children


def is_of_timm(module: nn.Module) -> bool:
    """Return whether timm has built a network."""
    return hasattr(module, "pretrained_cfg")


def list_stages(module: nn.Module, spec: BackboneSpec) -> list[list[nn.Module]]:
    """Divide a network into stages, from the image to the features.

    A stage is a child of the network that has parameters; a child called ``features``
    (EfficientNet, MobileNet, VGG, DenseNet, ...) is replaced by its own children. So are
    ``blocks``, ``stages`` and ``layers`` in networks of timm, where a child that only normalises
    belongs to the stage before it: the stages of a vision transformer are its patch embedding and
    its blocks. The classification layer belongs to no stage. The parameters `trainable` and
    `extra_features` count stages from the last one.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with or without its classification layer.
    spec : BackboneSpec
        Specification of the network.

    Returns
    -------
    list of list of torch.nn.Module
        The modules of each stage: 9 stages for EfficientNet-B0, 19 for MobileNetV2, 6 for a
        ResNet (the first two are its first convolution and batch norm), 13 for timm's ViT-B/16.

    Examples
    --------
    >>> from effboost.backbones import build_backbone, get_backbone_spec, list_stages
    >>> spec = get_backbone_spec("resnet18")
    >>> module = build_backbone(spec, None, seed=0)
    >>> len(list_stages(module, spec))
    6
    """
    head, children = _find_head(module, spec), list_children(module)
    found = []
    for names in name_stages(module, spec):
        parts = [[part for part in children[name].modules() if part is not head] for name in names]
        found.append([one for some in parts if any(map(_has_weights, some)) for one in some])
    return found


def name_stages(module: nn.Module, spec: BackboneSpec) -> list[list[str]]:
    """Name the children of each stage.

    Returns
    -------
    list of list of str
        For each stage, the child that has parameters, and the children without parameters that
        follow it, such as activation and pooling; in networks of timm, also its normalisation.
    """
    head, of_timm = _find_head(module, spec), is_of_timm(module)
    stages: list[list[str]] = []
    for name, child in list_children(module).items():
        parts = [part for part in child.modules() if part is not head]
        begins = any(map(_has_weights, parts)) and not (of_timm and stages and _is_norm(child))
        if begins:
            stages.append([name])
        elif stages:
            stages[-1].append(name)
    return stages


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _is_norm(module: nn.Module) -> bool:
    """Return whether a module has a scale and a shift for each channel, and nothing else."""
    return all(parameter.ndim < 2 for parameter in module.parameters())


def _find_head(module: nn.Module, spec: BackboneSpec) -> nn.Module | None:
    name = spec.head_of(module)
    return None if name is None else module.get_submodule(name)


def list_frozen(module: nn.Module, spec: BackboneSpec, n_last: int) -> list[nn.Module]:
    """List the modules that do not change if only the last stages are trained.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with its classification layer.
    spec : BackboneSpec
        Specification of the network.
    n_last : int
        Number of last stages that are trained. Their modules, the classification layer, and modules
        without parameters are not listed.

    Returns
    -------
    list of torch.nn.Module
        The modules, nested ones too.

    Raises
    ------
    ValueError
        If the network has fewer stages.

    Examples
    --------
    >>> from effboost.backbones import build_backbone, get_backbone_spec, list_frozen
    >>> spec = get_backbone_spec("resnet18")
    >>> module = build_backbone(spec, None, seed=0)
    >>> module.layer1 in list_frozen(module, spec, n_last=2)
    True
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
    """List the stages that are trained, given the frozen modules (see `list_frozen`).

    Parameters of the network itself, such as a class token, belong to the first stage.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with its classification layer.
    spec : BackboneSpec
        Specification of the network.
    frozen : list of torch.nn.Module
        The modules that do not change.

    Returns
    -------
    list of list of torch.nn.Module
        The modules of each stage that is trained.

    Examples
    --------
    >>> from effboost.backbones import build_backbone, get_backbone_spec
    >>> from effboost.backbones import list_frozen, list_unfrozen
    >>> spec = get_backbone_spec("resnet18")
    >>> module = build_backbone(spec, None, seed=0)
    >>> len(list_unfrozen(module, spec, list_frozen(module, spec, n_last=2)))
    2
    """
    stages = [stage for stage in list_stages(module, spec) if stage[0] not in frozen]
    own = next(module.parameters(recurse=False), None)
    if stages and own is not None and module not in frozen:
        stages[0] = [*stages[0], module]
    return stages
