"""The networks that turn a picture into features."""

from effboost.backbones._build import (
    build_backbone,
    feature_width,
    list_children,
    list_frozen,
    list_stages,
    network_digest,
    remove_head,
)
from effboost.backbones._specs import BACKBONES, BackboneSpec, get_backbone_spec
from effboost.backbones._stages import POOLINGS, append_stages

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
    "network_digest",
    "remove_head",
]
