"""Fitting of a featurizer's network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from effboost._extraction.cache import Cache
from effboost._training.cached_runs import fine_tune_cached
from effboost._training.callbacks import EpochObserver
from effboost._training.config import FineTuning, TrainingConfig
from effboost._training.dataset import TrainingDataset
from effboost._training.module import TrainableNetwork
from effboost._utils.device import seeded
from effboost._utils.fit_callbacks import CallbackSteps
from effboost._validation import LabelledImages
from effboost.backbones import (
    BackboneSpec,
    build_backbone,
    feature_width,
    list_frozen,
    list_stages,
    list_unfrozen,
    network_digest,
    remove_head,
)
from effboost.exceptions import UnsupportedInputError

__all__ = ["FittedNetwork", "NetworkFit"]

# The widths of networks that are no code of the user, by what they depend on.
_WIDTHS: dict[tuple[str, str, str | None, str, int], int] = {}


@dataclasses.dataclass(frozen=True)
class FittedNetwork:
    """The result of a fit, from which a featurizer can be restored.

    Attributes
    ----------
    spec : BackboneSpec
        Specification of the network.
    module : torch.nn.Module
        The network up to its features, in evaluation mode on the CPU.
    width : int
        Number of its own features, without those of `extra_features`.
    head : torch.nn.Module or None
        The classification layer of the training.
    history : list of dict
        Loss and accuracy of each epoch.
    classes : ndarray of shape (n_classes,) or None
        The labels that the network was fine-tuned on.
    """

    spec: BackboneSpec
    module: torch.nn.Module
    width: int
    head: torch.nn.Module | None = None
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    classes: npt.NDArray[Any] | None = None


@dataclasses.dataclass(frozen=True)
class NetworkFit:
    """One fit of a network, frozen or fine-tuned.

    Attributes
    ----------
    spec : BackboneSpec
        Specification of the network.
    weights : "imagenet", path or None
        The initial weights.
    features : {"pooled", "logits", "cls_token", "avg_tokens"}
        What the features are; "logits" are the outputs of the classification layer.
    image_size : int
        Side in pixels of the input of the network.
    seeds : sequence of 3 int
        Of random weights, of the split for early stopping, and of training.
    verbose : bool
        Whether a download shows its progress.
    """

    spec: BackboneSpec
    weights: str | os.PathLike[str] | None
    features: str
    image_size: int
    seeds: tuple[int, int, int]
    verbose: bool

    @property
    def keep_head(self) -> bool:
        """Whether the features are the outputs of the network's own head."""
        return self.features == "logits"

    def load(self) -> torch.nn.Module:
        """Build the network up to its features, with its initial weights."""
        module = self._load_whole()
        return module if self.keep_head else remove_head(module, self.spec)

    def fit_frozen(self) -> FittedNetwork:
        """Return the network with its initial weights."""
        module = self.load()
        return FittedNetwork(self.spec, module, self._find_width(module))

    def fit_tuned(
        self,
        rows: LabelledImages,
        validation: LabelledImages | None,
        training: FineTuning,
        config: TrainingConfig,
        *,
        cache: Cache | None,
        epochs: CallbackSteps,
        describe: Callable[[FittedNetwork], dict[str, Any]],
    ) -> FittedNetwork:
        """Fine-tune the network.

        Parameters
        ----------
        rows, validation : LabelledImages
            The prepared images. If `validation` is None, early stopping sets some of `rows` aside.
        training, config : FineTuning and TrainingConfig
            How to train, and the same resolved.
        cache : Cache or None
            Where fine-tuned networks are stored.
        epochs : CallbackSteps
            Called for each epoch.
        describe : callable
            Returns the fitted attributes of the estimator from the network after an epoch.

        Returns
        -------
        FittedNetwork
            The fine-tuned network.
        """
        if validation is None and training.patience is not None:
            rows, validation = rows.train_validation_split(
                training.validation_fraction, self.seeds[1]
            )
        module = self._load_whole()
        parts = _find_parts(module, self.spec, training)
        if not self.keep_head:
            module = remove_head(module, self.spec)
        width, classes = self._find_width(module), rows.classes()
        trainee = self._add_head(module, parts, width, len(classes))

        def fitted(twin: TrainableNetwork, history: list[dict[str, float]]) -> dict[str, Any]:
            return describe(FittedNetwork(self.spec, twin.body, width, twin.head, history, classes))

        history = fine_tune_cached(
            cache,
            lambda: network_digest(trainee.body, self.spec, self.image_size),
            trainee,
            _as_dataset(rows, classes, training, config),
            None if validation is None else _as_dataset(validation, classes),
            config,
            EpochObserver(epochs, fitted),
        )
        return FittedNetwork(self.spec, module, width, trainee.head, history, classes)

    def _find_width(self, module: torch.nn.Module) -> int:
        """Return the number of features. To see it, the network is run: once for a whole search."""
        if self.spec.factory is not None or self.keep_head:
            return feature_width(module, self.image_size)
        spec = self.spec
        key = spec.name, repr(spec.options), spec.head, self.features, self.image_size
        if key not in _WIDTHS:
            _WIDTHS[key] = feature_width(module, self.image_size)
        return _WIDTHS[key]

    def _load_whole(self) -> torch.nn.Module:
        return build_backbone(
            self.spec,
            self.weights,
            seed=self.seeds[0],
            keep_head=self.keep_head,
            features=self.features,
            image_size=self.image_size,
            progress=self.verbose,
        )

    def _add_head(
        self, module: torch.nn.Module, parts: dict[str, list[Any]], width: int, n_classes: int
    ) -> TrainableNetwork:
        """Add a new linear layer to the network, unless its own outputs are trained."""
        if self.keep_head and n_classes > width:
            raise UnsupportedInputError(
                f'features="logits" has outputs for {width} classes, y has {n_classes}'
            )
        head = None
        if not self.keep_head:
            with seeded(self.seeds[2]):
                head = torch.nn.Linear(width, n_classes)
            parts = parts | {"top": [head]}
        return TrainableNetwork(module, head, n_classes, **parts)


def _as_dataset(
    rows: LabelledImages,
    classes: npt.NDArray[Any],
    training: FineTuning | None = None,
    config: TrainingConfig | None = None,
) -> TrainingDataset:
    """Return the training rows: those with a weight above 0, with classes as numbers."""
    weight, sampling_weight = rows.weight, None
    if training is not None and config is not None:
        weight = rows.weights_with_classes(training.class_weight)
        rows, weight = rows.take(weight > 0), weight[weight > 0]
        sampling_weight = rows.sampling_weights(config.regularization.sampling)
    return TrainingDataset(
        rows.images,
        rows.encode(classes),
        weight.astype(np.float32),
        sampling_weight=sampling_weight,
    )


def _find_parts(
    module: torch.nn.Module, spec: BackboneSpec, training: FineTuning
) -> dict[str, list[Any]]:
    """List the parts of a whole network that are trained differently from the rest."""
    parts: dict[str, list[Any]] = {"frozen": [], "stem": [], "top": [], "stages": []}
    if training.trainable != "all":
        n_last = 0 if training.trainable == "head" else int(training.trainable)
        parts["frozen"] = list_frozen(module, spec, n_last)
    if not isinstance(training.lr, Real):
        parts["stem"] = next(iter(list_stages(module, spec)), [])
        head = spec.head_of(module)
        parts["top"] = [] if head is None else [module.get_submodule(head)]
    if training.unfreezes:
        parts["stages"] = list_unfrozen(module, spec, parts["frozen"])
    return parts
