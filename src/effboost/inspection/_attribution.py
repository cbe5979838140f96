"""The booster's decision, carried to the positions of the last feature map."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.utils.validation import check_is_fitted
from torch import nn

from effboost._compat import load_xgboost
from effboost._hybrid import HybridClassifier
from effboost._images import ImageSequence
from effboost.exceptions import UnsupportedInputError

__all__ = ["HybridAttribution", "hybrid_attribution"]

_BATCH: Final = 8


@dataclasses.dataclass(frozen=True)
class HybridAttribution:
    """Where the margin of a hybrid's booster comes from.

    ``maps.sum(axis=(2, 3)) + base`` is ``margin``.

    Attributes
    ----------
    maps : ndarray of shape (n_samples, n_outputs, h, w), float64
        What each position of the last feature map adds to the margin. One output for two
        classes, the margin of the second one; else one for each class.
    base : ndarray of shape (n_samples, n_outputs), float64
        The margin of the average training image, in the eyes of the booster.
    margin : ndarray of shape (n_samples, n_outputs), float64
        The booster's margin: log-odds of the second class, or the scores that softmax is
        taken of.
    outputs : ndarray of shape (n_outputs,)
        The class that each output speaks for.
    """

    maps: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]
    outputs: npt.NDArray[Any]

    def upsample(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """Enlarge the maps for display, bilinearly.

        Parameters
        ----------
        height, width : int
            Size in pixels, such as that of the picture that the network saw.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs, height, width), float32
            Margin per position of the feature map, at each pixel; they no longer add up.
        """
        n, k = self.maps.shape[:2]
        enlarged = np.empty((n, k, height, width), dtype=np.float32)
        for i, j in np.ndindex(n, k):
            small = Image.fromarray(self.maps[i, j].astype(np.float32))
            enlarged[i, j] = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
        return enlarged


def hybrid_attribution(clf: HybridClassifier, X: Any) -> HybridAttribution:
    """Carry the decision of a hybrid's boosted trees to the positions of its feature map.

    TreeSHAP splits the booster's margin exactly over the features. A feature is the mean of one
    channel of the last feature map, so its share is split further over the positions, by how
    much each pulls that mean away from the channel's mean over the training images. All adds
    up to the margin again.

    Parameters
    ----------
    clf : HybridClassifier
        Fitted, with an XGBoost tree booster as its head and a network whose features are the
        spatial means of its last feature map (EfficientNet, ResNet, MobileNetV2, InceptionV3, ...).
    X : images, n_samples of them
        What `ImageSequence` takes.

    Returns
    -------
    HybridAttribution
        The maps, at the resolution of the feature map (7 x 7 for EfficientNet-B0 at 224 pixels).

    Raises
    ------
    UnsupportedInputError
        If the head is no tree booster, or features are not such means.

    Notes
    -----
    Where a channel's mean lies near its mean in training, the positions' shares would be large
    and cancel each other. With the mean d away and a variance v over the n positions, only
    the part d² / (d² + v / n) of the feature's contribution is split that way, and the rest
    evenly: the shares stay bounded and go to the even split as d goes to 0.

    A map shows what the booster used, not what is true of the disease. TreeSHAP weighs each
    tree's branches by the training images that went down them; positions see more of the
    picture than their own square.

    References
    ----------
    S. Lundberg et al., "From local explanations to global understanding with explainable AI for
    trees", Nature Machine Intelligence 2, 2020.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import hybrid_attribution
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=64, random_state=0)
    >>> found = hybrid_attribution(clf.fit(cells.images, cells.target), cells.images[:2])
    >>> found.maps.shape, found.outputs
    ((2, 1, 2, 2), array(['HEM'], dtype='<U3'))
    >>> bool(abs(found.maps.sum(axis=(2, 3)) + found.base - found.margin).max() < 1e-4)
    True
    """
    check_is_fitted(clf)
    booster = clf.classifier_
    if not isinstance(booster, load_xgboost().XGBModel) or booster.booster == "gblinear":
        raise UnsupportedInputError(
            f"the head is {type(booster).__name__}: only the margin of an XGBoost tree booster is "
            "split exactly over its features"
        )
    images = clf.featurizer_._check_images(X, reset=False)
    features = clf._features(images)
    contributions, margin = _explain(booster, features)
    maps = None
    for part, activations in _activations(clf, images, features):
        shares = _split(activations, clf.feature_means_)
        if maps is None:
            maps = np.empty((len(images), margin.shape[1], *shares.shape[2:]))
        maps[part] = np.einsum("ikd,idhw->ikhw", contributions[part, :, :-1], shares)
    if maps is None:
        raise UnsupportedInputError("X holds no image")
    outputs = clf.classes_[1:] if margin.shape[1] == 1 else clf.classes_
    return HybridAttribution(maps, contributions[:, :, -1], margin, outputs)


def _explain(
    booster: Any, features: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give what each feature and, last, the base adds to each output; and the outputs."""
    rows = load_xgboost().DMatrix(features)
    # After early stopping, the rounds that predictions use.
    last = getattr(booster, "best_iteration", None) if booster.early_stopping_rounds else None
    found = booster.get_booster().predict(
        rows,
        pred_contribs=True,
        strict_shape=True,
        iteration_range=(0, 0 if last is None else last + 1),
    )
    margin = booster.predict(features, output_margin=True)
    return found.astype(np.float64), margin.astype(np.float64).reshape(len(features), -1)


def _activations(
    clf: HybridClassifier, images: ImageSequence, features: npt.NDArray[np.float32]
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Give the last feature map of some images at a time, of shape (b, n_features, h, w)."""
    featurizer = clf.featurizer_
    for start in range(0, len(images), _BATCH):
        part = slice(start, min(start + _BATCH, len(images)))
        pictures = (featurizer.transform_.resize(images.decode(i)) for i in range(start, part.stop))
        pixels = np.stack([np.asarray(picture) for picture in pictures])
        x = torch.from_numpy(featurizer.transform_.normalize(pixels))
        found = _find_map(featurizer.module_, x, features[part])
        if found is None:
            raise UnsupportedInputError(
                f"the features of {featurizer.spec_.name!r} are not the spatial means of a feature "
                "map, so their contributions have no place in the picture"
            )
        yield part, found


def _find_map(
    module: nn.Module, x: torch.Tensor, features: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64] | None:
    """Give the last output of a layer whose means are the features."""
    seen: list[npt.NDArray[np.float64]] = []
    tolerance = 1e-3 * np.abs(features).max()

    def look(_: nn.Module, __: Any, out: Any) -> None:
        if not isinstance(out, torch.Tensor) or out.ndim != 4 or out.shape[1] != features.shape[1]:
            return
        means = out.mean(dim=(2, 3)).numpy()
        if out.shape[2] * out.shape[3] > 1 and np.abs(means - features).max() <= tolerance:
            seen[:] = [out.numpy().astype(np.float64)]

    with ExitStack() as stack, torch.no_grad():
        for part in module.modules():
            stack.callback(part.register_forward_hook(look).remove)
        module(x)
    return seen[0] if seen else None


def _split(
    activations: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Give each position's share in its channel's deviation from the reference; they add up to 1.

    Parameters
    ----------
    activations : ndarray of shape (n_samples, n_channels, h, w)
        The feature maps.
    reference : ndarray of shape (n_channels,)
        The channels' means over the training images.
    """
    n_positions = activations.shape[2] * activations.shape[3]
    away = activations.mean(axis=(2, 3), keepdims=True) - reference[:, np.newaxis, np.newaxis]
    error = activations.var(axis=(2, 3), keepdims=True) / n_positions
    total = away**2 + error
    # A channel that is its reference everywhere has nothing to tell apart.
    safe = np.where(total > 0, total, 1.0)
    around = activations - activations.mean(axis=(2, 3), keepdims=True)
    # The part away²/total is split by (activation - reference) / away, the rest evenly.
    return (1 + around * away / safe) / n_positions
