"""Fine-tuning that reuses the result of the same training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn

from effboost._extraction.cache import Cache, digest_of
from effboost._extraction.prepared_images import PreparedImages
from effboost._images import ImageSequence
from effboost._training.callbacks import EpochObserver
from effboost._training.config import TrainingConfig
from effboost._training.dataset import TrainingDataset
from effboost._training.module import TrainableNetwork
from effboost._training.trainer import fine_tune
from effboost._transforms import Augmentation
from effboost._utils.versions import find_versions
from effboost.exceptions import ImageDecodeError

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
        Where fine-tuned networks are stored. None stores nothing. A network is not stored if the
        files of its images were replaced during the training.
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
    sets = [train] if validation is None else [train, validation]
    hashes = [_hash_images(data.images) for data in sets]
    key = digest_of(
        {
            "start": start(),
            "head": None if head is None else _digest_tensors(head.state_dict()),
            "data": [_digest(data, found) for data, found in zip(sets, hashes, strict=True)],
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
    if not _are_unchanged(sets, hashes):
        return history  # it is unknown whether it was trained on the former images or the new ones
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


def _hash_images(images: PreparedImages | ImageSequence) -> list[str]:
    return [images.fingerprint(i) for i in range(len(images))]


def _are_unchanged(sets: Sequence[TrainingDataset], hashes: Sequence[list[str]]) -> bool:
    """Hash all images again, and compare."""
    try:
        return all(
            _hash_images(data.images.images) == found
            for data, found in zip(sets, hashes, strict=True)
        )
    except ImageDecodeError:  # a file that was removed
        return False


def _digest(data: TrainingDataset, fingerprints: list[str]) -> str:
    """Hash images, labels and weights in their order, which the random draws depend on."""
    digest = hashlib.sha256(json.dumps([data.transform.describe(), fingerprints]).encode())
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
