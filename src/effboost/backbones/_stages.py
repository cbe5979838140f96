"""The stages of a network, for `trainable` and `extra_features`."""

from __future__ import annotations

from torch import nn

from effboost.backbones._specs import BackboneSpec, RemovedHead

__all__ = [
    "list_children",
    "list_frozen",
    "list_stages",
    "list_unfrozen",
    "name_stages",
    "remove_head",
]


def remove_head(module: nn.Module, spec: BackboneSpec) -> nn.Module:
    """Remove the classification layer in place, so that the network returns its features."""
    head = spec.head_of(module)
    if head is not None:
        module.set_submodule(head, RemovedHead())
    return module


def list_children(module: nn.Module) -> dict[str, nn.Module]:
    """List the children of a network by name; a child ``features`` is replaced by its children."""
    children: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        if name == "features":
            children |= {f"{name}.{key}": part for key, part in child.named_children()}
        else:
            children[name] = child
    return children


def list_stages(module: nn.Module, spec: BackboneSpec) -> list[list[nn.Module]]:
    """Divide a network into stages, from the image to the features.

    A stage is a child of the network that has parameters; a child called ``features``
    (EfficientNet, MobileNet, VGG, DenseNet, ...) is replaced by its own children. The
    classification layer belongs to no stage. The parameters `trainable` and `extra_features` count
    stages from the last one.

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
        ResNet (the first two are its first convolution and batch norm).
    """
    head, children = _find_head(module, spec), list_children(module)
    return [
        [part for part in children[names[0]].modules() if part is not head]
        for names in name_stages(module, spec)
    ]


def name_stages(module: nn.Module, spec: BackboneSpec) -> list[list[str]]:
    """Name the children of each stage.

    Returns
    -------
    list of list of str
        For each stage, the child that has parameters, and the children without parameters that
        follow it, such as activation and pooling.
    """
    head = _find_head(module, spec)
    stages: list[list[str]] = []
    for name, child in list_children(module).items():
        parts = (part for part in child.modules() if part is not head)
        if any(True for part in parts for _ in part.parameters(recurse=False)):
            stages.append([name])
        elif stages:
            stages[-1].append(name)
    return stages


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
    """
    stages = [stage for stage in list_stages(module, spec) if stage[0] not in frozen]
    own = next(module.parameters(recurse=False), None)
    if stages and own is not None and module not in frozen:
        stages[0] = [*stages[0], module]
    return stages
