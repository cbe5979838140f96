"""Features of a network's stages, appended to its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from effboost._utils.device import tracing
from effboost.backbones._maps import MapLayout
from effboost.backbones._specs import BackboneSpec
from effboost.backbones._stages import list_children, name_stages
from effboost.backbones._taps import Outputs, Tap, replace_layers
from effboost.exceptions import UnsupportedInputError

__all__ = ["POOLINGS", "StageFeatures", "append_stages", "renumber_stages"]

# (stage, pooling): -1 is the last stage.
Pooled = tuple[int, str]

GEM_POWER: Final = 3.0
GEM_LEAST: Final = 1e-6
_N_EARLIER: Final = 5


def _average(maps: torch.Tensor) -> torch.Tensor:
    return maps.mean(dim=(2, 3))


def _largest(maps: torch.Tensor) -> torch.Tensor:
    return maps.amax(dim=(2, 3))


def _deviation(maps: torch.Tensor) -> torch.Tensor:
    # Not torch.std: a map of one position has a deviation of 0, not of NaN.
    centred = maps - maps.mean(dim=(2, 3), keepdim=True)
    return (centred * centred).mean(dim=(2, 3)).sqrt()


def _generalised_mean(maps: torch.Tensor) -> torch.Tensor:
    powers = maps.clamp(min=GEM_LEAST).pow(GEM_POWER)
    return powers.mean(dim=(2, 3)).pow(1 / GEM_POWER)


POOLINGS: Final = {
    "avg": _average,
    "max": _largest,
    "std": _deviation,
    "gem": _generalised_mean,
}


class StageFeatures(nn.Module):
    """A network's own features, followed by pooled maps of its stages.

    Parameters
    ----------
    body : torch.nn.Module
        Returns the features, of shape (b, d), and puts outputs of its layers into `outputs`.
    outputs : Outputs
        Where they are.
    layout : MapLayout
        What turns them into maps of shape (b, c, h, w).
    pooled : sequence of (str, str)
        Pairs of the name of a layer and how its map is pooled.
    own : bool, default=True
        Whether the features of `body` come first; otherwise they are left out.

    Examples
    --------
    >>> from effboost.backbones import append_stages, build_backbone, get_backbone_spec, remove_head
    >>> spec = get_backbone_spec("resnet18")
    >>> module = remove_head(build_backbone(spec, None, seed=0), spec)
    >>> append_stages(module, spec, [(-1, "max")], image_size=32).pooled
    (('layer4', 'max'),)
    """

    def __init__(
        self,
        body: nn.Module,
        outputs: Outputs,
        layout: MapLayout,
        pooled: Sequence[tuple[str, str]],
        own: bool = True,
    ):
        super().__init__()
        self.body, self.pooled, self.own = body, tuple(pooled), own
        self._outputs, self._layout = outputs, layout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features.

        Parameters
        ----------
        x : torch.Tensor of shape (b, 3, h, w)
            Images.

        Returns
        -------
        torch.Tensor of shape (b, n_features)
            The features.
        """
        self._outputs.take()  # an earlier call may have failed on the way
        features = self.body(x)
        found = self._outputs.take()
        rows = [POOLINGS[how](self._layout.convert(found[name])) for name, how in self.pooled]
        return torch.cat([features, *rows] if self.own else rows, dim=1)

    def count_channels(self, x: torch.Tensor) -> list[int]:
        """Count the features that are pooled from each map, by running the network.

        Parameters
        ----------
        x : torch.Tensor of shape (b, 3, h, w)
            Images.

        Returns
        -------
        list of int
            The number for each pair of `pooled`.
        """
        self._outputs.take()
        self.body(x)
        found = self._outputs.take()
        return [self._layout.convert(found[name]).shape[1] for name, _ in self.pooled]

    def extra_repr(self) -> str:
        """Return the part of ``repr`` that torch prints in parentheses.

        Returns
        -------
        str
            The pooled layers.
        """
        return f"pooled={self.pooled}" + ("" if self.own else ", own=False")


def append_stages(
    module: nn.Module,
    spec: BackboneSpec,
    extra: str | Sequence[Pooled] | None,
    image_size: int,
    own: bool = True,
) -> nn.Module:
    """Build a network that returns features of its stages after its own.

    The map of a stage (`list_stages`) is the last map that is returned by its child, or by a child
    without parameters that follows.

    Parameters
    ----------
    module : torch.nn.Module
        The network, up to its features. It is not changed, and shares its weights.
    spec : BackboneSpec
        Specification of the network.
    extra : None, "stages" or sequence of (int, str)
        The stage, -1 for the last one, and how its map is pooled: "avg", "max", "std" or "gem"
        (generalised mean, of power 3). "stages" is a short form: consecutive stages whose maps have
        the same number of channels form a group; mean and standard deviation of the last stage of
        each of the five groups before the last group are appended, or of fewer if there are fewer.
        In a vision transformer, whose stages have the same number of channels, it means those after
        a quarter of the blocks, half of them, three quarters, and all.
    image_size : int
        Side in pixels of the input of the network.
    own : bool, default=True
        Whether the network's own features come first; otherwise they are left out.

    Returns
    -------
    torch.nn.Module
        The network with the further features; `module` itself if there are none.

    Raises
    ------
    UnsupportedInputError
        If there is no such stage.

    Examples
    --------
    >>> from effboost.backbones import append_stages, build_backbone, feature_width
    >>> from effboost.backbones import get_backbone_spec, remove_head
    >>> spec = get_backbone_spec("resnet18")
    >>> module = remove_head(build_backbone(spec, None, seed=0), spec)
    >>> feature_width(append_stages(module, spec, [(-1, "std"), (-3, "avg")], 32), 32)
    1152
    """
    if not extra:
        return module
    stages = _find_maps(module, spec, image_size)
    found: list[tuple[_Map, str]] = []
    if isinstance(extra, str):
        earlier = _end_widths(stages)[-2 : -_N_EARLIER - 2 : -1]
        if MapLayout.of(module).grid is not None:
            earlier = _end_quarters(stages)
        found = [(end, pooling) for end in earlier for pooling in ("avg", "std")]
    else:
        known = {maps[-1].stage: maps[-1] for maps in stages if maps}
        for stage, pooling in extra:
            if stage not in known:
                numbers = ", ".join(f"{number} ({end.name})" for number, end in known.items())
                raise UnsupportedInputError(
                    f"extra_features contains stage {stage}; {spec.name!r} has maps of the "
                    f"stages {numbers}"
                )
            found.append((known[stage], pooling))
    if not found:
        return module
    layers, outputs = list_children(module), Outputs()
    taps = {end.name: Tap(layers[end.name], end.name, outputs) for end, _ in found}
    network = StageFeatures(
        replace_layers(module, taps),
        outputs,
        MapLayout.of(module),
        [(end.name, pooling) for end, pooling in found],
        own,
    )
    return network.train(module.training)


def renumber_stages(
    module: nn.Module, spec: BackboneSpec, extra: Sequence[Pooled], image_size: int
) -> tuple[Pooled, ...]:
    """Translate pairs of older model files, which count widths, to pairs that count stages.

    Parameters
    ----------
    module : torch.nn.Module
        The network, up to its features.
    spec : BackboneSpec
        Specification of the network.
    extra : sequence of (int, str)
        Pairs whose numbers count groups of consecutive stages with the same number of channels.
    image_size : int
        Side in pixels of the input of the network.

    Returns
    -------
    tuple of (int, str)
        Pairs for the same maps, with the numbers of their stages.

    Raises
    ------
    UnsupportedInputError
        If the network has no such groups.

    Examples
    --------
    >>> from effboost.backbones import build_backbone, get_backbone_spec
    >>> from effboost.backbones import remove_head, renumber_stages
    >>> spec = get_backbone_spec("mobilenet_v2")
    >>> module = remove_head(build_backbone(spec, None, seed=0), spec)
    >>> renumber_stages(module, spec, [(-4, "avg")], image_size=32)
    ((-6, 'avg'),)
    """
    stages = _find_maps(module, spec, image_size)
    ends = _end_widths(stages)
    whole = [end.stage for end in ends if end == stages[end.stage][-1]]
    if len(whole) < len(ends) or any(not -len(ends) <= width <= -1 for width, _ in extra):
        raise UnsupportedInputError(
            f"extra_features={tuple(extra)!r} does not fit {spec.name!r}, which has {len(ends)} "
            "widths, counted from -1"
        )
    return tuple((whole[width], pooling) for width, pooling in extra)


class _Map(NamedTuple):
    """A child that returns a map, the number of its stage, and its number of channels."""

    name: str
    stage: int
    n_channels: int


def _find_maps(module: nn.Module, spec: BackboneSpec, image_size: int) -> list[list[_Map]]:
    """Find the maps in each stage, by running the network."""
    children = list_children(module)
    layout, n_channels = MapLayout.of(module), dict[str, int]()

    def watch(name: str) -> Any:
        def look(child: nn.Module, given: Any, out: Any) -> None:
            maps = layout.as_map(out)
            if maps is None:
                return
            # What makes a single value of each map is the network's own pooling.
            if maps[0, 0].numel() > 1 or next(child.parameters(), None) is not None:
                n_channels.setdefault(name, maps.shape[1])

        return look

    # On the device "meta", for a network whose shapes alone are known.
    device = next((parameter.device for parameter in module.parameters()), None)
    # Alone: hooks of two threads on one network would see what the other one runs.
    with tracing():
        hooks = [child.register_forward_hook(watch(name)) for name, child in children.items()]
        try:
            with torch.inference_mode():
                module.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
        finally:
            for hook in hooks:
                hook.remove()
    stages = name_stages(module, spec)
    return [
        [_Map(name, i - len(stages), n_channels[name]) for name in names if name in n_channels]
        for i, names in enumerate(stages)
    ]


def _end_widths(stages: Sequence[Sequence[_Map]]) -> list[_Map]:
    """List the last map of each group of consecutive maps with the same number of channels."""
    maps = [one for maps in stages for one in maps]
    following = [*(one.n_channels for one in maps[1:]), 0][: len(maps)]
    return [one for one, n in zip(maps, following, strict=True) if one.n_channels != n]


def _end_quarters(stages: Sequence[Sequence[_Map]]) -> list[_Map]:
    """List the last map of each quarter of the blocks, the last one first."""
    ends = [maps[-1] for maps in stages[1:] if maps]  # without the patch embedding
    places = {round(len(ends) * part / 4) - 1 for part in (1, 2, 3, 4)}
    return [ends[place] for place in sorted(places, reverse=True) if place >= 0]
