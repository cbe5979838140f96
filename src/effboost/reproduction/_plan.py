"""How each system is built, and the digest of all that its results depend on."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from effboost._extraction.cache import digest_of
from effboost._utils.versions import find_versions
from effboost.backbones import build_backbone, get_backbone_spec
from effboost.comparators import COMPARATORS
from effboost.reproduction._data import Data, Split
from effboost.reproduction._measure import describe_networks

__all__ = ["HYBRID", "QUICK_SIDE", "QUICK_SIDE_INCEPTION", "Plan"]

HYBRID: Final = "hybrid_efficientnet_b0"
# These differ only in their backbone.
_HYBRIDS: Final = (HYBRID, "hybrid_vgg16", "hybrid_resnet18", "hybrid_inception_v3")
_QUICK_EPOCHS: Final = 2
# Inception networks need at least 75 pixels, AlexNet at least 63.
QUICK_SIDE: Final = 64
QUICK_SIDE_INCEPTION: Final = 80


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings that all systems are built with."""

    backbone: Any
    weights: Any
    freeze_batch_norm: bool
    image_size: int | None
    max_epochs: int | None
    runtime: str
    quick: bool
    cropped: bool
    positive: str | None
    seed: int

    def design(self, name: str) -> str:
        """Return the name of the system that this one equals, with the chosen backbone."""
        return HYBRID if self.backbone is not None and name in _HYBRIDS else name

    @property
    def epochs(self) -> int | None:
        """Number of epochs of all systems; None if each has its own."""
        return self.max_epochs or (_QUICK_EPOCHS if self.quick else None)

    def settings(self, name: str) -> dict[str, Any]:
        """Return the keywords of a factory, without the size that depends on the network."""
        kind = COMPARATORS[name].network
        settings: dict[str, Any] = {"random_state": self.seed, "runtime": self.runtime}
        is_tuned = COMPARATORS[name].is_tuned
        if self.epochs is not None and is_tuned:
            settings["max_epochs"] = self.epochs
        if self.image_size is not None:
            settings["image_size"] = self.image_size
        if self.quick or not self.cropped:
            # The paper's crop suits only the frames of C-NMC.
            settings["crop_size"] = None
        if kind == "scratch":
            return settings
        settings["weights"] = self.weights
        if self.backbone is not None:
            if kind == "own":
                # The weights belong to another network.
                return settings | {"weights": None}
            settings["backbone"] = self.backbone
        if self.freeze_batch_norm and is_tuned:
            settings["freeze_batch_norm"] = True
        return settings

    def make(self, name: str) -> Any:
        settings = self.settings(name)
        clf = COMPARATORS[name].factory(**settings)
        if self.image_size is not None or not self.quick:
            return clf
        inception = "inception" in describe_networks(clf)[0]
        side = QUICK_SIDE_INCEPTION if inception else QUICK_SIDE
        return COMPARATORS[name].factory(**settings, image_size=side)

    def key(self, name: str, data: Data, split: Split) -> str:
        """Hash all that a result depends on."""
        settings = self.settings(name)
        weights = settings.get("weights")
        if weights not in (None, "imagenet") and Path(weights).is_file():
            with Path(weights).open("rb") as file:
                weights = hashlib.file_digest(file, "sha256").hexdigest()
        parts = (split.train, split.validation, split.test)
        described = {
            "system": name,
            "settings": settings
            | {"weights": str(weights), "backbone": _describe(settings.get("backbone"))},
            "quick": self.quick,
            "positive": self.positive,
            "images": [data.prints[rows].tolist() for rows in parts],
            "target": [data.target[rows].tolist() for rows in parts],
            "groups": [np.asarray(data.images.groups)[rows].tolist() for rows in parts],
            "versions": find_versions("effboost", "torch", "xgboost"),
        }
        return digest_of(described).hex()


def _describe(backbone: Any) -> str:
    """Describe a backbone in the same words in each process; a function by what it builds."""
    if not callable(backbone):
        return str(backbone)
    network = build_backbone(get_backbone_spec(backbone), None, seed=0)
    sizes = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    return f"{network}\n{sizes}"
