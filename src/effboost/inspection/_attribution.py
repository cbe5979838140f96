"""The decision of a hybrid's boosted trees, attributed to positions of the image."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.utils.validation import check_is_fitted

from effboost._extraction.prepared_images import PreparedImages
from effboost._hybrid_classifier import HybridClassifier
from effboost._images import ImageSequence
from effboost._utils.compat import load_xgboost
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._feature_maps import FeatureMaps

__all__ = ["Attribution", "enlarge", "hybrid_attribution"]

_Floats = npt.NDArray[np.float64]
# Images at a time: their feature maps take 0.5 MB each for EfficientNet-B0 at 224 pixels.
_BLOCK: Final = 64
# Sums in single precision are off by less; a booster that decides by other trees, by more.
_TOLERANCE: Final = 1e-3


@dataclasses.dataclass(frozen=True)
class Attribution:
    """The contribution of each position of an image to a classifier's decision.

    Attributes
    ----------
    maps : ndarray of shape (n_samples, n_outputs, h, w), float64
        The contribution of each position to the margin. Two classes have one output, the margin of
        the second one; more classes have one output each. `hybrid_attribution`: positions of the
        last feature map of the prepared image; ``maps.sum(axis=(2, 3)) + base`` equals ``margin``.
        `occlusion_attribution`: pixels of the whole image, each with the contribution of its
        superpixel; these do not add up to the margin.
    base : ndarray of shape (n_samples, n_outputs), float64
        `hybrid_attribution`: the expected margin over the training images, as TreeSHAP defines
        it. `occlusion_attribution`: the margin of the image with every superpixel hidden.
    margin : ndarray of shape (n_samples, n_outputs), float64
        The margin of the classifier: log-odds of the second class, or one score for each class.
    outputs : ndarray of shape (n_outputs,)
        The class of each output.
    method : str
        "TreeSHAP" (`hybrid_attribution`) or "occlusion" (`occlusion_attribution`).
    classes : ndarray of shape (n_classes,) or None
        All classes of the classifier. With two classes, the negated output is that of the first
        class.
    """

    maps: _Floats
    base: _Floats
    margin: _Floats
    outputs: npt.NDArray[Any]
    method: str
    classes: npt.NDArray[Any] | None = None

    def take(self, index: int) -> Attribution:
        """Select the attribution of one image.

        Parameters
        ----------
        index : int
            Position of the image.

        Returns
        -------
        Attribution
            One with n_samples = 1.
        """
        maps, base, margin = (part[[index]] for part in (self.maps, self.base, self.margin))
        return dataclasses.replace(self, maps=maps, base=base, margin=margin)

    def upsample(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """Enlarge the maps for display, bilinearly.

        Parameters
        ----------
        height, width : int
            Size in pixels, such as that of the prepared image.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs, height, width), float32
            The interpolated contributions. Enlarged maps do not add up to the margin.
        """
        n, k = self.maps.shape[:2]
        enlarged = np.empty((n, k, height, width), dtype=np.float32)
        for i, j in np.ndindex(n, k):
            enlarged[i, j] = enlarge(self.maps[i, j], height, width)
        return enlarged


def enlarge(heat: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[np.float32]:
    """Enlarge one map of shape (h, w), bilinearly."""
    small = Image.fromarray(heat.astype(np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def hybrid_attribution(clf: HybridClassifier, X: Any, *, background: Any = None) -> Attribution:
    """Attribute the decision of a hybrid's boosted trees to positions of its feature map.

    TreeSHAP splits the margin of the booster exactly over the features. A feature is the mean of
    one channel of the last feature map. Its contribution is split further over the positions, in
    proportion to how much each moves that mean away from the mean of the channel over the
    training images. The contributions of all positions and the base add up to the margin.

    With `background`, each position is compared with the mean at the same position instead. If
    cells are in the middle of their images, their surroundings are then not marked merely because
    they differ from the average of cell and surroundings.

    Parameters
    ----------
    clf : HybridClassifier
        Fitted, with an XGBoost tree booster as its head and a network whose features are the
        spatial means of its last feature map (EfficientNet, ResNet, MobileNetV2, InceptionV3, ...).
    X : images, n_samples of them
        In any form that `ImageSequence` takes.
    background : images, default=None
        Some of the training images, 30 or more, of all classes.

    Returns
    -------
    Attribution
        The maps, at the resolution of the feature map (7 x 7 for EfficientNet-B0 at 224 pixels).

    Raises
    ------
    UnsupportedInputError
        If the head is not a tree booster, the features are not such means, or the contributions
        do not add up to the margin.

    See Also
    --------
    occlusion_attribution : Explains any classifier, by hiding parts of the image.
    grad_cam : Explains the softmax of the network.

    Notes
    -----
    If the mean of a channel is close to its mean in training, the shares of the positions would be
    large and cancel each other. Let d be the difference of these means, and v the variance of the
    deviations over the n positions. Only the part d² / (d² + v / n) of the contribution of the
    feature is split that way; the rest is split by the absolute values of the deviations. The
    shares are bounded, and tend to those by absolute values as d tends to 0.

    A map shows what the booster used, not what is true of the disease. TreeSHAP weights the
    branches of each tree by the training images in them. The value at a position depends on a
    larger part of the image than its own square.

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
            f"the head is {type(booster).__name__}, not an XGBoost tree booster, whose margin can "
            "be split exactly over its features; effboost.inspection.occlusion_attribution "
            "explains any classifier"
        )
    if clf.view_averaging == "probabilities" and clf.featurizer_.views == "dihedral":
        raise UnsupportedInputError(
            'view_averaging="probabilities": the decision is a mean of eight probabilities, not '
            "one margin; effboost.inspection.occlusion_attribution explains any classifier"
        )
    images = clf.featurizer_._check_images(X, reset=False)
    reader = FeatureMaps(clf.featurizer_)
    reference = clf.feature_means_[:, np.newaxis, np.newaxis]
    if background is not None:
        reference = _mean_maps(reader, clf.featurizer_._check_images(background, reset=False))
    blocks = [
        _attribute(clf, reader, images[start : start + _BLOCK], reference)
        for start in range(0, len(images), _BLOCK)
    ]
    maps, base, margin = (np.concatenate(column) for column in zip(*blocks, strict=True))
    _check_sum(maps, base, margin)
    outputs = clf.classes_[1:] if margin.shape[1] == 1 else clf.classes_
    return Attribution(maps, base, margin, outputs, "TreeSHAP", clf.classes_)


def _check_sum(maps: _Floats, base: _Floats, margin: _Floats) -> None:
    """Check that the maps and the base add up to the margin."""
    gap = np.abs(maps.sum(axis=(2, 3)) + base - margin)
    if not (gap <= _TOLERANCE * np.maximum(1, np.abs(margin))).all():
        raise UnsupportedInputError(
            "the contributions that XGBoost reports do not add up to the margins that it predicts "
            f"(they differ by up to {gap.max():.2g}), so a map of them would be wrong; "
            "effboost.inspection.occlusion_attribution explains any classifier"
        )


def _mean_maps(reader: FeatureMaps, images: ImageSequence) -> _Floats:
    """Compute the mean of each channel at each position."""
    sums = [
        reader.read(images[start : start + _BLOCK])[1].sum(axis=0, dtype=np.float64)
        for start in range(0, len(images), _BLOCK)
    ]
    return np.sum(sums, axis=0) / len(images)


def _attribute(
    clf: HybridClassifier, reader: FeatureMaps, images: ImageSequence, reference: _Floats
) -> tuple[_Floats, _Floats, _Floats]:
    """Compute the maps, the base and the margin of some images."""
    own, activations = reader.read(images)
    features = own
    if features is None:
        prepared = PreparedImages(images, clf.featurizer_.transform_)
        features = clf.featurizer_._compute_features(prepared)
    contributions, margin = _explain(clf.classifier_, features)
    shares = _split(activations - reference.astype(np.float32))
    maps = np.einsum("ikd,idhw->ikhw", contributions[:, :, :-1], shares, optimize=True)
    return maps, contributions[:, :, -1], margin


def _explain(
    booster: Any, features: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute what each feature and, last, the base contribute to each output; and the margin."""
    xgboost = load_xgboost()
    # The same matrix and rounds as in the booster's own predict.
    rows = xgboost.DMatrix(
        features,
        missing=booster.missing,
        feature_types=booster.feature_types,
        enable_categorical=booster.enable_categorical,
        nthread=booster.n_jobs,
    )
    try:
        n_rounds = booster.best_iteration + 1
    except AttributeError:  # not stopped early
        n_rounds = 0
    try:
        found = booster.get_booster().predict(
            rows, pred_contribs=True, strict_shape=True, iteration_range=(0, n_rounds)
        )
    except xgboost.core.XGBoostError as error:
        reason = str(error).partition("\n")[0].rpartition(": ")[2].strip()
        raise UnsupportedInputError(
            f"XGBoost cannot split the margin of this booster over its features ({reason}); "
            "effboost.inspection.occlusion_attribution explains any classifier"
        ) from error
    margin = booster.predict(features, output_margin=True)
    return found.astype(np.float64), margin.astype(np.float64).reshape(len(features), -1)


def _split(deviations: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Compute the share of each position in the deviation of its channel; shares add up to 1.

    Parameters
    ----------
    deviations : ndarray of shape (n_samples, n_channels, h, w)
        The feature maps minus the reference.
    """
    n_positions = deviations.shape[2] * deviations.shape[3]
    away = deviations.mean(axis=(2, 3), keepdims=True)
    error = deviations.var(axis=(2, 3), keepdims=True) / n_positions
    total = away**2 + error
    # A channel that equals its reference everywhere is split evenly.
    constant = total == 0
    total = np.where(constant, 1.0, total)
    size = np.where(constant, 1.0, np.abs(deviations))
    trust = away**2 / total
    # trust times deviations / (n_positions * away), where away may be 0.
    exact = deviations * away / (n_positions * total)
    return exact + (1 - trust) * size / size.sum(axis=(2, 3), keepdims=True)
