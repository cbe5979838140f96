"""Features of a network's earlier stages, appended to its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import nn

from effboost._utils.compat import load_torchvision
from effboost._utils.device import tracing
from effboost.backbones._build import list_children
from effboost.exceptions import UnsupportedInputError

__all__ = ["POOLINGS", "StageFeatures", "append_stages"]

# (stage, pooling): -1 is the last stage.
Pooled = tuple[int, str]

_GEM_POWER: Final = 3.0
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
    powers = maps.clamp(min=1e-6).pow(_GEM_POWER)
    return powers.mean(dim=(2, 3)).pow(1 / _GEM_POWER)


POOLINGS: Final = {
    "avg": _average,
    "max": _largest,
    "std": _deviation,
    "gem": _generalised_mean,
}


class StageFeatures(nn.Module):
    """A network's own features, and after them what is pooled from maps on the way there.

    Parameters
    ----------
    body : torch.nn.Module
        Gives a dictionary: "features", of shape (b, d), and maps of shape (b, c, h, w).
    pooled : sequence of (str, str)
        The name of a map, and how it is pooled.
    """

    def __init__(self, body: nn.Module, pooled: Sequence[tuple[str, str]]):
        super().__init__()
        self.body, self.pooled = body, tuple(pooled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.body(x)
        rows = [POOLINGS[pooling](found[name]) for name, pooling in self.pooled]
        return torch.cat([found["features"], *rows], dim=1)

    def extra_repr(self) -> str:
        return f"pooled={self.pooled}"


def append_stages(
    module: nn.Module, extra: str | Sequence[Pooled] | None, image_size: int
) -> nn.Module:
    """Let a network give more features than its own.

    A stage is a run of children (see `list_children`) whose maps have as many channels: 9 of
    them for EfficientNet-B0 and MobileNetV2, 4 for a ResNet. Its features are pooled from the
    last map of the run.

    Parameters
    ----------
    module : torch.nn.Module
        The network, up to its features. It is not changed, and shares its weights.
    extra : None, "stages" or sequence of (int, str)
        Which stage, -1 for the last one, and how its map is pooled: "avg", "max", "std" or
        "gem" (generalised mean, of power 3). "stages" means mean and standard deviation of the
        five stages before the last, or of as many as there are.
    image_size : int
        Side in pixels of the images that the network sees.

    Returns
    -------
    torch.nn.Module
        The network itself where nothing is added.

    Raises
    ------
    UnsupportedInputError
        If there is no such stage, or torch.fx cannot take the network apart.
    """
    if not extra:
        return module
    stages = _list_maps(module, image_size)
    wanted: list[Pooled]
    if isinstance(extra, str):
        earlier = range(-2, -min(len(stages), _N_EARLIER + 1) - 1, -1)
        wanted = [(stage, pooling) for stage in earlier for pooling in ("avg", "std")]
    else:
        wanted = list(extra)
    for stage, _ in wanted:
        if not -len(stages) <= stage <= -1:
            raise UnsupportedInputError(
                f"extra_features asks for stage {stage}; this network has stages "
                f"{-len(stages)} to -1 ({', '.join(stages)})"
            )
    names = {stage: stages[stage] for stage, _ in wanted}
    body = _take_apart(module, {name: f"stage{stage}" for stage, name in names.items()})
    network = StageFeatures(body, [(f"stage{stage}", pooling) for stage, pooling in wanted])
    return network.train(module.training)


def _list_maps(module: nn.Module, image_size: int) -> list[str]:
    """List the last child of each run of children whose maps have as many channels."""
    seen: list[tuple[str, int]] = []

    def watch(name: str) -> Any:
        def look(child: nn.Module, given: Any, out: Any) -> None:
            if not isinstance(out, torch.Tensor) or out.ndim != 4:
                return
            # What makes a single value of each map is the network's own pooling.
            if out[0, 0].numel() == 1 and next(child.parameters(), None) is None:
                return
            if seen and seen[-1][1] == out.shape[1]:
                seen.pop()
            seen.append((name, out.shape[1]))

        return look

    # Alone: hooks of two threads on one network would see what the other one runs.
    with tracing():
        hooks = [c.register_forward_hook(watch(n)) for n, c in list_children(module).items()]
        try:
            with torch.inference_mode():
                module.eval()(torch.zeros(1, 3, image_size, image_size))
        finally:
            for hook in hooks:
                hook.remove()
    return [name for name, _ in seen]


def _take_apart(module: nn.Module, names: dict[str, str]) -> nn.Module:
    """Give a network that also gives the outputs of some of its children, by their new names."""
    load_torchvision()
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    try:
        with tracing():
            last = get_graph_node_names(module)[1][-1]
            body: nn.Module = create_feature_extractor(module, names | {last: "features"})
    except Exception as error:  # torch.fx fails in as many ways as a forward can be written
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnsupportedInputError(
            f"extra_features needs a network that torch.fx can take apart: {reason}"
        ) from error
    return body
