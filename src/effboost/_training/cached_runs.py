"""Fine-tuning that reuses the result of the same training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn

from effboost._extraction.cache import Cache, digest_of
from effboost._training.callbacks import EpochObserver
from effboost._training.config import TrainingConfig
from effboost._training.dataset import TrainingDataset
from effboost._training.module import TrainableNetwork
from effboost._training.trainer import fine_tune
from effboost._transforms import Augmentation
from effboost._utils.versions import find_versions

__all__ = ["fine_tune_cached"]

_HISTORY = "history"


def fine_tune_cached(
    cache: Cache | None,
    start: Callable[[], str],
    trainee: TrainableNetwork,
    train: TrainingDataset,
    validation: TrainingDataset | None,
    config: TrainingConfig,
    observer: EpochObserver | None = None,
) -> list[dict[str, float]]:
    """Train a network in place, or load the cached result of the same training.

    With callbacks, or optimizers and augmentations of the user's own, the network is always
    trained, because their code cannot be part of a key.

    Parameters
    ----------
    cache : Cache or None
        Where fine-tuned networks are stored. None stores nothing.
    start : callable
        Returns a hash of the trainee's initial body; called only if there is a cache.
    trainee, train, validation, config, observer
        See `fine_tune`.

    Returns
    -------
    list of dict
        The history of the training; its durations are those of the original training.
    """
    if cache is None or not _is_reproducible(config):
        return fine_tune(trainee, train, validation, config, observer)
    body, head = trainee.body, trainee.head
    places = {id(part): i for i, part in enumerate(body.modules())}
    key = digest_of(
        {
            "start": start(),
            "head": None if head is None else _digest_tensors(head.state_dict()),
            "train": _digest_images(train),
            "validation": None if validation is None else _digest_images(validation),
            "training": config.to_dict(),
            "n_classes": trainee.n_classes,
            "frozen": sorted(places[id(part)] for part in trainee.frozen),
            "threads": torch.get_num_threads(),
            "versions": find_versions("effboost", "skorch", "numpy", "pillow"),
        }
    )
    parts: dict[str, nn.Module] = {"body": body} | ({} if head is None else {"head": head})
    known = cache.get([key])
    if key in known:
        tensors = load(known[key])
        for name, part in parts.items():
            part.load_state_dict(
                {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(name)}
            )
        history: list[dict[str, float]] = json.loads(bytes(tensors[_HISTORY].numpy()))
        return history
    history = fine_tune(trainee, train, validation, config, observer)
    if observer is not None and observer.steps.stopped:
        return history  # not what these settings give by themselves
    tensors = {
        f"{name}.{k}": v.contiguous() for name, part in parts.items() for k, v in _own(part).items()
    }
    tensors[_HISTORY] = torch.frombuffer(bytearray(json.dumps(history).encode()), dtype=torch.uint8)
    cache.put({key: save(tensors)})
    return history


def _is_reproducible(config: TrainingConfig) -> bool:
    return (
        not config.callbacks
        and config.optimizer.__module__.startswith("torch.optim.")
        and all(
            view is None or type(view) is Augmentation
            for view in (config.augmentation, config.minority_augmentation)
        )
    )


def _digest_images(data: TrainingDataset) -> str:
    """Hash images, labels and weights in their order, which the random draws depend on."""
    digest = hashlib.sha256(json.dumps(data.transform.describe()).encode())
    for i in range(len(data.images)):
        digest.update(data.images.fingerprint(i).encode())
    digest.update(np.ascontiguousarray(data.target).tobytes())
    digest.update(np.ascontiguousarray(data.weight).tobytes())
    if data.sampling_weight is not None:
        digest.update(np.ascontiguousarray(data.sampling_weight).tobytes())
    return digest.hexdigest()


def _digest_tensors(tensors: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(save({k: v.contiguous() for k, v in tensors.items()})).hexdigest()


def _own(part: nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict whose tensors share no memory, as safetensors needs it."""
    return {name: tensor.clone() for name, tensor in part.state_dict().items()}
