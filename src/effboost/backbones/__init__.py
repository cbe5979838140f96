"""The networks that compute features of an image."""

from effboost.backbones._build import build_backbone, feature_width, network_digest
from effboost.backbones._specs import BACKBONES, BackboneSpec, get_backbone_spec
from effboost.backbones._stage_features import POOLINGS, append_stages, renumber_stages
from effboost.backbones._stages import (
    list_children,
    list_frozen,
    list_stages,
    list_unfrozen,
    remove_head,
)

__all__ = [
    "BACKBONES",
    "POOLINGS",
    "BackboneSpec",
    "append_stages",
    "build_backbone",
    "feature_width",
    "get_backbone_spec",
    "list_children",
    "list_frozen",
    "list_stages",
    "list_unfrozen",
    "network_digest",
    "remove_head",
    "renumber_stages",
]
