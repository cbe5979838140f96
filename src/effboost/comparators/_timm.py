"""Networks of timm as backbones."""

from __future__ import annotations

from torch import nn

from effboost._utils.compat import load_extra
from effboost.backbones import BackboneSpec

__all__ = ["timm_spec"]


def timm_spec(name: str, *, weights: str | None = None) -> BackboneSpec:
    """Describe a network of timm as a backbone.

    Parameters
    ----------
    name : str
        Its name in timm.
    weights : str, default=None
        URL of its weights, a ``.pth`` file whose name ends in ``-<SHA-256 prefix>.pth``; None
        takes the URL that timm knows. timm has none for networks whose weights are on a model
        hub; these raise an error for ``weights="imagenet"``.

    Returns
    -------
    BackboneSpec
        For the ``backbone`` of `ImageFeaturizer`.

    Raises
    ------
    MissingDependencyError
        If timm is not installed.

    Examples
    --------
    >>> from effboost.comparators import timm_spec
    >>> timm_spec("mobilenetv3_large_100").mean
    (0.485, 0.456, 0.406)
    """
    known = load_extra("timm", "comparators").get_pretrained_cfg(name, allow_unregistered=False)
    return BackboneSpec(
        name,
        family="timm",
        weights=weights or known.url or None,
        mean=known.mean,
        std=known.std,
        options=(("model_name", name),),
        factory=_create,
        head=known.classifier,
    )


def _create(model_name: str) -> nn.Module:
    network: nn.Module = load_extra("timm", "comparators").create_model(model_name)
    return network
