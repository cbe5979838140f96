"""Weights by other names than the network's: what can be renamed, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import torch

from effboost.exceptions import WeightsMismatchError

__all__ = ["describe_mismatch", "to_timm_keys"]

# The network that is used, in checkpoints that contain more: the teacher of DINO and DINOv2.
_NETWORKS: Final = ("teacher.backbone.", "teacher.", "backbone.", "vit.", "dinov2.")
# Heads and losses of DINOv2's training.
_OTHERS: Final = ("dino_head.", "ibot_head.", "dino_loss.", "ibot_patch_loss.")
# Blocks that DINOv2 has split into chunks for training: chunk, number of the block, rest.
_CHUNKED: Final = re.compile(r"^blocks\.\d+\.(\d+)\.")
# By these names timm would not know a checkpoint of DINOv2 without a mask token.
_DINOV2: Final = re.compile(r"^register_tokens$|\.mlp\.w12\.")
# Names in the files of Hugging Face's transformers (ViT and DINOv2), and in timm.
_TRANSFORMERS: Final = (
    (re.compile(r"^embeddings\.patch_embeddings\.projection\."), "patch_embed.proj."),
    (re.compile(r"^embeddings\.position_embeddings$"), "pos_embed"),
    (re.compile(r"^embeddings\."), ""),
    (re.compile(r"^encoder\.layer\."), "blocks."),
    (re.compile(r"^layernorm\."), "norm."),
    (re.compile(r"\.attention\.output\.dense\."), ".attn.proj."),
    (re.compile(r"\.layernorm_before\."), ".norm1."),
    (re.compile(r"\.layernorm_after\."), ".norm2."),
    (re.compile(r"\.intermediate\.dense\."), ".mlp.fc1."),
    (re.compile(r"\.output\.dense\."), ".mlp.fc2."),
    (re.compile(r"\.layer_scale([12])\.lambda1$"), r".ls\1.gamma"),
    (re.compile(r"\.mlp\.weights_in\."), ".mlp.w12."),
    (re.compile(r"\.mlp\.weights_out\."), ".mlp.w3."),
)
_QUERY: Final = ".attention.attention.query."


def to_timm_keys(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of a checkpoint to what timm takes.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights by timm's names, which stay as they are; or of a checkpoint of DINOv2 or DINO,
        such as DinoBloom's: a whole training network (its teacher is taken, its heads are left
        out), blocks in chunks, register tokens; or of a ViT or DINOv2 of Hugging Face's
        transformers.

    Returns
    -------
    dict of str to Tensor
        The weights. What differs in values, such as position embeddings that include the class
        token, is left to timm.
    """
    found = dict(state)
    for prefix in _NETWORKS:
        if any(key.startswith(prefix) for key in found):
            found = {
                key.removeprefix(prefix): value
                for key, value in found.items()
                if key.startswith(prefix)
            }
    found = {key: value for key, value in found.items() if not key.startswith(_OTHERS)}
    if "embeddings.cls_token" in found:
        found = _from_transformers(found)
    if "cls_token" in found and "patch_embed.proj.weight" in found:
        found = {_CHUNKED.sub(r"blocks.\1.", key): value for key, value in found.items()}
        if any(_DINOV2.search(key) for key in found):
            found.setdefault("mask_token", torch.zeros(0))
    return found


def _from_transformers(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for key, value in state.items():
        if _QUERY in key:
            parts = [state[key.replace("query", part)] for part in ("query", "key", "value")]
            key, value = key.replace(_QUERY, ".attn.qkv."), torch.cat(parts)
        elif ".attention.attention." in key or key.startswith(("pooler.", "classifier.")):
            continue  # with the query, or a layer after the features
        for pattern, name in _TRANSFORMERS:
            key = pattern.sub(name, key)
        found[key] = value
    return found


def describe_mismatch(
    name: str,
    missing: tuple[str, ...],
    unexpected: tuple[str, ...],
    misshaped: tuple[str, ...],
) -> WeightsMismatchError:
    """Return the error for weights of another network, with one key of each kind as an example."""
    report = "; ".join(
        f"{len(keys)} {what}, such as {keys[0]!r}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
        )
        if keys
    )
    return WeightsMismatchError(
        f"the weights do not fit backbone {name!r}{report and ': '}{report}. They are of another "
        "architecture, or of another number of classes",
        missing,
        unexpected,
        misshaped,
    )
