"""Conversion of manifests of older formats to the next format."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["MIGRATIONS"]

# Format 1 had the parameters of training and transform among those of the featurizer.
_TRANSFORM: Final = ("crop_size", "image_size", "normalize", "stain", "foreground")
_TRAINING: Final = (
    "max_epochs",
    "batch_size",
    "optimizer",
    "lr",
    "trainable",
    "freeze_batch_norm",
    "class_weight",
    "augmentation",
    "minority_augmentation",
    "early_stopping",
    "validation_fraction",
    "precision",
)
_SCHEDULE: Final = {
    "schedule": "decay",
    "warmup_fraction": "warmup_fraction",
    "gradual_unfreezing": "unfreezing_epochs",
}
_FLAT: Final = ("weight_decay", "label_smoothing")
_METRICS: Final = (["error", "logloss"], ["merror", "mlogloss"])


def _nest_parameters(manifest: dict[str, Any]) -> dict[str, Any]:
    """Convert a manifest of format 1 to format 2."""
    model = manifest.get("model")
    if not isinstance(model, dict):
        return manifest
    model = dict(model)
    if "backbone" in model:
        model = _nest_featurizer(model)
    for name in ("featurizer", "featurizer_"):
        if isinstance(model.get(name), dict):
            model[name] = _nest_featurizer(model[name])
    _drop_default_metrics(model.get("heads"))
    return manifest | {"model": model}


def _drop_default_metrics(heads: Any) -> None:
    """Remove the metrics that a fit used to leave in the parameters of a booster, in place.

    XGBoost cannot read a list of them: `set_params` of the loaded booster would break it.
    """
    boosters = heads.get("boosters") if isinstance(heads, dict) else None
    for booster in boosters if isinstance(boosters, list) else ():
        params = booster.get("params") if isinstance(booster, dict) else None
        if isinstance(params, dict) and params.get("eval_metric") in _METRICS:
            params["eval_metric"] = None


def _nest_featurizer(described: dict[str, Any]) -> dict[str, Any]:
    flat = described.get("params")
    if not isinstance(flat, dict):
        return described
    params = dict(flat)
    transform = {name: params.pop(name) for name in _TRANSFORM if name in params}
    training = {name: params.pop(name) for name in _TRAINING if name in params}
    recipe, n_views = params.pop("recipe", None), params.pop("frozen_views", 5)
    is_tuned = params.pop("fine_tune", True)
    params["transform"] = {"ImageTransform": transform}
    if not is_tuned:
        params["training"] = None
        return described | {"params": params}
    for name in ("augmentation", "minority_augmentation"):
        views = _nest_augmentation(training.get(name), n_views, training.get("trainable"))
        if name in training:
            training[name] = views
    if isinstance(recipe, dict) and isinstance(recipe.get("FineTuning"), dict):
        training |= _nest_recipe(recipe["FineTuning"])
    params["training"] = {"FineTuning": training}
    return described | {"params": params}


def _nest_augmentation(described: Any, n_views: Any, trainable: Any) -> Any:
    own: dict[str, Any] = {}
    if isinstance(described, dict) and isinstance(described.get("Augmentation"), dict):
        own = dict(described["Augmentation"])
        if "views" in own:
            own["n_views"] = own.pop("views")
    elif described != "paper":
        return described
    # It had no effect where all stages are trained.
    if n_views != 5 and trainable != "all":
        own["frozen_views"] = n_views
    return {"Augmentation": own} if own else described


def _nest_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    others = dict(recipe)
    schedule = {new: others.pop(old) for old, new in _SCHEDULE.items() if old in others}
    training = {name: others.pop(name) for name in _FLAT if name in others}
    return training | {
        "schedule": {"Schedule": schedule},
        "regularization": {"Regularization": others},
    }


# From each format to the next one. A change of the format brings an entry here, and files of the
# format before into tests/persistence/golden.
MIGRATIONS: Final = {1: _nest_parameters}
