"""Networks of timm: their names, how they are built, and weights that fit them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final

import torch
from torch import nn

from effboost._utils.compat import load_extra
from effboost.backbones._checkpoints import describe_mismatch, to_timm_keys
from effboost.exceptions import (
    UnknownBackboneError,
    UnsupportedInputError,
    WeightsError,
    WeightsMismatchError,
    WeightsNotFoundError,
)

__all__ = ["HUB", "PREFIX", "TOKENS", "build_timm", "describe_timm", "read_hub_weights"]

_State = Mapping[str, torch.Tensor]

PREFIX: Final = "timm/"
HUB: Final = "hf-hub:"
# What `features` says, and what timm calls it.
TOKENS: Final = {"cls_token": "token", "avg_tokens": "avg"}
# Options of vision transformers that a model file may contain: none of them names a file, or code.
_OPTIONS: Final = {
    "class_token": bool,
    "depth": int,
    "drop_path_rate": float,
    "drop_rate": float,
    "embed_dim": int,
    "global_pool": str,
    "init_values": float,
    "mlp_ratio": float,
    "no_embed_class": bool,
    "num_heads": int,
    "patch_size": int,
    "pre_norm": bool,
    "qkv_bias": bool,
    "reg_tokens": int,
}
_MAX_OPTION: Final = 8192  # above all networks that there are
_KEYS: Final = re.compile(r"(Missing|Unexpected) key\(s\) in state_dict: (.*)")
_MISSHAPED: Final = re.compile(r"size mismatch for ([^:]+):")


def _load_timm() -> ModuleType:
    return load_extra("timm", "timm")


def describe_timm(name: str) -> dict[str, Any]:
    """Look up what timm knows about a network.

    Parameters
    ----------
    name : str
        Its name in timm, with or without the name of its weights after a dot.

    Returns
    -------
    dict
        Fields of `BackboneSpec`.

    Raises
    ------
    MissingDependencyError
        If timm is not installed.
    UnknownBackboneError
        If timm has no network of this name, or it does not take square RGB images. The message
        suggests the nearest names.
    """
    known = _find(name)
    channels, *sides = known.input_size
    if channels != 3 or sides[0] != sides[1]:
        raise UnknownBackboneError(
            f"timm's network {name!r} takes images of {known.input_size}, not square RGB images"
        )
    weights = None
    if not known.custom_load:  # other formats, which timm reads by code of each network
        weights = HUB + known.hf_hub_id if known.hf_hub_id else known.url or None
    return {
        "name": PREFIX + name,
        "family": "timm",
        "weights": weights,
        "mean": tuple(map(float, known.mean)),
        "std": tuple(map(float, known.std)),
        "head": known.classifier if isinstance(known.classifier, str) else None,
        "image_size": sides[0],
    }


def _find(name: str) -> Any:
    """Return timm's configuration of the weights of a network."""
    timm = _load_timm()
    names = {*timm.list_models(), *timm.list_models(include_tags=True)}
    if name in names:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    now = load_extra("timm.models", "timm").get_deprecated_models().get(name)
    hint = f"it is now {PREFIX + now!r}" if now else _suggest(name, names)
    raise UnknownBackboneError(f"timm has no network {name!r}; {hint}")


def _suggest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=3, cutoff=0.4)
    if not near:
        return "timm.list_models() lists all names"
    return f"did you mean {' or '.join(repr(PREFIX + one) for one in near)}?"


def build_timm(
    name: str,
    options: Iterable[tuple[str, Any]] = (),
    *,
    image_size: int | None = None,
    keep_head: bool = True,
    state: _State | None = None,
    features: str = "pooled",
) -> nn.Module:
    """Build a network of timm, with random weights or given ones.

    Parameters
    ----------
    name : str
        Its name in timm.
    options : iterable of (str, value) pairs
        Options of vision transformers: see `BackboneSpec`.
    image_size : int or None
        Side of its images, in pixels, for networks that are built for one size; None means that
        of its published weights. Position embeddings of `state` are interpolated to it.
    keep_head : bool
        Whether to keep the layer that classifies. The weights need not contain it if not.
    state : mapping of str to Tensor, or None
        Weights by timm's names, or by those of DINOv2's own checkpoints.
    features : {"pooled", "logits", "cls_token", "avg_tokens"}
        Which tokens of a vision transformer are its features.

    Returns
    -------
    torch.nn.Module
        The network.

    Raises
    ------
    UnsupportedInputError
        If it has no such option, head or tokens, or does not take the size.
    WeightsMismatchError
        If the weights are of another network.
    """
    known, settings = _find(name), _check_options(options)
    if keep_head and features == "logits" and not known.num_classes:
        raise UnsupportedInputError(
            f'features="logits": the weights of {PREFIX + name!r} include no layer that '
            'classifies; use features="pooled"'
        )
    if known.fixed_input_size and image_size is not None:
        settings["img_size"] = image_size
    if not keep_head:
        settings["num_classes"] = 0
    if state is not None:
        settings |= _with_weights(known, state, keep_head)
    try:
        module: nn.Module = _load_timm().create_model(name, **settings)
    except (RuntimeError, KeyError) as error:
        if state is None:
            raise
        raise _mismatch(name, error) from error
    module.pretrained_cfg.pop("state_dict", None)  # type: ignore[operator,union-attr]
    _check_patches(module, name, image_size)
    if features in TOKENS:
        _choose_tokens(module, name, features)
    return module


def _check_options(options: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    settings = dict(options)
    for name, value in settings.items():
        kind = _OPTIONS.get(name)
        fits = kind is not None and type(value) in ((int, float) if kind is float else (kind,))
        if not fits or (kind is not str and not 0 <= value <= _MAX_OPTION):
            known = ", ".join(f"{option} ({kind.__name__})" for option, kind in _OPTIONS.items())
            raise UnsupportedInputError(
                f"{name}={value!r} is not an option of timm's networks that effboost knows; "
                f"these are {known}"
            )
    return settings


def _with_weights(known: Any, state: _State, keep_head: bool) -> dict[str, Any]:
    """Return what makes timm load these weights through its own conversion."""
    heads = known.classifier or ()
    dropped = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    own = to_timm_keys(state)
    overlay: dict[str, Any] = {"url": None, "file": None, "hf_hub_id": None, "custom_load": False}
    if not keep_head:
        own = {key: value for key, value in own.items() if not key.startswith(dropped)}
        overlay |= {"num_classes": 0, "label_offset": None}
    return {"pretrained": True, "pretrained_cfg_overlay": overlay | {"state_dict": own}}


def _mismatch(name: str, error: Exception) -> WeightsMismatchError:
    """Turn torch's report on a state dict into the error of all backbones."""
    found: dict[str, tuple[str, ...]] = {"Missing": (), "Unexpected": ()}
    for kind, keys in _KEYS.findall(str(error)):
        found[kind] = tuple(re.findall(r'"([^"]+)"', keys))
    misshaped = tuple(_MISSHAPED.findall(str(error)))
    return describe_mismatch(PREFIX + name, found["Missing"], found["Unexpected"], misshaped)


def _check_patches(module: nn.Module, name: str, image_size: int | None) -> None:
    """Refuse sizes of which the last rows and columns would be left out."""
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    if isinstance(side, int) and image_size is not None and image_size % side:
        below = image_size - image_size % side
        near = f"{below} or {below + side}" if below else f"{side}"
        raise UnsupportedInputError(
            f"{PREFIX + name!r} cuts images into patches of {side} x {side} pixels, and "
            f"image_size={image_size} is not a multiple of that; use {near}"
        )


def _choose_tokens(module: nn.Module, name: str, features: str) -> None:
    """Let a vision transformer return its class token, or the mean of its patch tokens."""
    has_patches = hasattr(module, "num_prefix_tokens") and hasattr(module, "global_pool")
    has_class = getattr(module, "cls_token", None) is not None
    if not has_patches or hasattr(module, "head_dist"):
        raise UnsupportedInputError(
            f"features={features!r} is for vision transformers of timm; {PREFIX + name!r} has "
            'no such tokens: use features="pooled"'
        )
    if features == "cls_token" and not has_class:
        raise UnsupportedInputError(
            f'features="cls_token": {PREFIX + name!r} has no class token; use "pooled" or '
            '"avg_tokens"'
        )
    module.reset_classifier(0, TOKENS[features])  # type: ignore[operator]


def read_hub_weights(repository: str) -> _State:
    """Read published weights from the cache of huggingface_hub, after a download if needed.

    Raises
    ------
    WeightsNotFoundError
        If they are not on this machine and cannot be downloaded.
    WeightsError
        If the file is damaged.
    """
    read = load_extra("timm.models", "timm").load_state_dict_from_hf
    try:
        state: _State = read(repository)
    # huggingface_hub raises errors of its own, of the network and of the file system.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        url = f"https://huggingface.co/{repository}/resolve/main/model.safetensors"
        raise WeightsNotFoundError(
            f"the weights of {repository!r} are not in the cache of huggingface_hub, and could "
            f"not be downloaded ({reason}). Fetch {url} (or pytorch_model.bin of the same "
            "folder) elsewhere and give weights=<its path>; or run `hf download "
            f"{repository}` elsewhere and copy the cache to HF_HUB_CACHE of this machine; or "
            "give weights=None for random weights"
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"the weights of {repository!r} are a {type(state).__name__}")
    return state
