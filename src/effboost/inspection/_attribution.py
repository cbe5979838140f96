"""The decision of a hybrid, attributed to positions of the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._extraction.prepared_images import PreparedImages
from effboost._hybrid_classifier import HybridClassifier
from effboost._images import ImageSequence
from effboost.inspection._contributions import check_explainable, check_sum
from effboost.inspection._feature_maps import Block, FeatureMaps
from effboost.inspection._fields import refine
from effboost.inspection._margins import Margins, explain_margins

__all__ = [
    "Attribution",
    "deviate",
    "enlarge",
    "hybrid_attribution",
    "place_contributions",
    "read_fields",
]

_Floats = npt.NDArray[np.float64]
# Images at a time: their feature maps take 0.5 MB each for EfficientNet-B0 at 224 pixels.
_BLOCK: Final = 64


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
        The margin of the classifier: log-odds of the second class, or one score for each class; or
        their probabilities.
    outputs : ndarray of shape (n_outputs,)
        The class of each output.
    method : str
        "occlusion" (`occlusion_attribution`), or how `hybrid_attribution` splits the margin over
        features: "TreeSHAP", "coefficients" or both.
    classes : ndarray of shape (n_classes,) or None
        All classes of the classifier. With two classes, the negated output is that of the first
        class.
    stages : mapping of str to ndarray of shape (n_samples, n_outputs, h, w), float64
        `hybrid_attribution`: the maps of each layer that features are pooled from, at its own
        resolution; "" is the network's last map. Refined to one grid, they add up to `maps`.
    is_probability : bool
        Whether the margins are probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import Attribution
    >>> maps = np.array([[[[0.5, 0.0], [1.5, 0.0]]]])
    >>> base = np.array([[-1.0]])
    >>> margin = maps.sum(axis=(2, 3)) + base
    >>> found = Attribution(maps, base, margin, np.array(["HEM"]), "TreeSHAP")
    >>> float(found.margin[0, 0]), found.upsample(224, 224).shape
    (1.0, (1, 1, 224, 224))
    """

    maps: _Floats
    base: _Floats
    margin: _Floats
    outputs: npt.NDArray[Any]
    method: str
    classes: npt.NDArray[Any] | None = None
    stages: Mapping[str, _Floats] = dataclasses.field(default_factory=dict)
    is_probability: bool = False

    def stage_shares(self) -> dict[str, _Floats]:
        """Compute the share of each stage in the absolute contributions.

        Returns
        -------
        dict of ndarray of shape (n_samples, n_outputs)
            By the names of `stages`; shares add up to 1.
        """
        sizes = {name: np.abs(maps).sum(axis=(2, 3)) for name, maps in self.stages.items()}
        total = np.maximum(sum(sizes.values()), np.finfo(np.float64).tiny)
        return {name: size / total for name, size in sizes.items()}

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
        stages = {name: of_stage[[index]] for name, of_stage in self.stages.items()}
        return dataclasses.replace(self, maps=maps, base=base, margin=margin, stages=stages)

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
    """Attribute the decision of a hybrid to positions of the image.

    The margin of the head is first split exactly over the features: that of boosted trees by
    TreeSHAP, that of a linear model by its coefficients. A feature is pooled from one channel of a
    feature map, and is the mean of values at its positions (of the map itself, or of squared
    deviations for a standard deviation, for example). Its contribution is split further over the
    positions, by how much each value differs from the mean over the training images. The
    contributions of all positions and the base add up to the margin.

    `LinearBoostedClassifier` averages probabilities. The probability of each of its parts changes
    from that of the base to that of the margin, and contributions share this change in proportion,
    so that they add up to the probability.

    With `background`, each position is compared with the mean at the same position instead. If
    cells are in the middle of their images, their surroundings are then not marked merely because
    they differ from the average of cell and surroundings.

    Parameters
    ----------
    clf : HybridClassifier
        Fitted. Its head is an XGBoost tree booster, a linear model, or a
        `LinearBoostedClassifier`; also in a Pipeline after scalers or selections of features, or
        calibrated (the margin before calibration is explained). Its features are pooled from
        feature maps (EfficientNet, ResNet, MobileNetV2, InceptionV3, ..., with `extra_features` and
        views of any kind, and vision transformers with means over patch tokens).
    X : images, n_samples of them
        In any form that `ImageSequence` takes.
    background : images, default=None
        Some of the training images, 30 or more, of all classes.

    Returns
    -------
    Attribution
        The maps, at the resolution of the finest feature map: 7 x 7 for EfficientNet-B0 at 224
        pixels, and 28 x 28 with ``extra_features="stages"``. Contributions of coarser stages are
        divided evenly over the finer positions.

    Raises
    ------
    UnsupportedInputError
        If the head or the features are others, or the contributions do not add up to the margin.

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
    # What cannot be explained is refused before an image is read.
    plan = check_explainable(clf)
    images = clf.featurizer_._check_images(X, reset=False)
    reader = FeatureMaps(clf.featurizer_)
    references = _mean_references(clf, reader)
    if background is not None:
        references = _mean_fields(reader, clf.featurizer_._check_images(background, reset=False))
    blocks = [
        _attribute(clf, reader, images[start : start + _BLOCK], references)
        for start in range(0, len(images), _BLOCK)
    ]
    base, margin, *of_layers = (np.concatenate(column) for column in zip(*blocks, strict=True))
    layers = list(dict.fromkeys(block.layer for block in reader.blocks))
    stages = dict(zip(layers, of_layers, strict=True))
    height, width = (max(maps.shape[axis] for maps in of_layers) for axis in (2, 3))
    maps = np.sum([refine(maps, height, width) for maps in of_layers], axis=0)
    check_sum(maps.sum(axis=(2, 3)), base, margin)
    outputs = clf.classes_[1:] if margin.shape[1] == 1 else clf.classes_
    return Attribution(
        maps, base, margin, outputs, plan.method, clf.classes_, stages, plan.is_probability
    )


def _mean_references(clf: HybridClassifier, reader: FeatureMaps) -> list[_Floats]:
    """Return what the positions of each block are compared with: means of channels."""
    means = clf.feature_means_
    return [means[block.columns][:, np.newaxis, np.newaxis] for block in reader.blocks]


def _mean_fields(reader: FeatureMaps, images: ImageSequence) -> list[_Floats]:
    """Compute the mean of each channel at each position."""
    sums = [
        [field.sum(axis=0, dtype=np.float64) for field in reader.read(images[i : i + _BLOCK])[1]]
        for i in range(0, len(images), _BLOCK)
    ]
    return [np.sum(column, axis=0) / len(images) for column in zip(*sums, strict=True)]


def _attribute(
    clf: HybridClassifier,
    reader: FeatureMaps,
    images: ImageSequence,
    references: list[_Floats],
) -> list[_Floats]:
    """Compute the base, the margin, and the maps of each layer for some images."""
    found, deviations_of = _read_deviations(clf, reader, images, references)
    of_layer: dict[str, _Floats] = {}
    for block, deviations in deviations_of:
        maps = place_contributions(found, block.columns, deviations)
        of_layer[block.layer] = of_layer.get(block.layer, 0) + maps
    return [found.base, found.margin, *of_layer.values()]


def _read_deviations(
    clf: HybridClassifier,
    reader: FeatureMaps,
    images: ImageSequence,
    references: list[_Floats],
) -> tuple[Margins, Iterator[tuple[Block, _Floats]]]:
    """Explain the margins of images; also iterate over the deviations of their feature maps.

    Returns
    -------
    found : Margins
        How features add to the margins.
    deviations_of : iterator of (Block, ndarray of shape (n_samples, n_channels, h, w))
        For each block, its values at each position minus the reference; their means are the
        features minus the means of the reference.
    """
    features, fields = read_fields(clf, reader, images)
    average = np.concatenate([reference.mean(axis=(1, 2)) for reference in references])
    deviations_of = (
        (block, deviate(field, reference, (features - average)[:, block.columns]))
        for block, field, reference in zip(reader.blocks, fields, references, strict=True)
    )
    return explain_margins(clf.classifier_, features, average), deviations_of


def read_fields(
    clf: HybridClassifier, reader: FeatureMaps, images: ImageSequence
) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
    """Compute the features that the classifier uses, and the fields whose means they are."""
    features, fields = reader.read(images)
    if features is None:
        prepared = PreparedImages(images, clf.featurizer_.transform_)
        features = clf.featurizer_._compute_features(prepared)
    return features, fields


def deviate(field: npt.NDArray[np.float32], reference: _Floats, away: npt.NDArray[Any]) -> _Floats:
    """Subtract a reference from fields, so that the means are the given ones to the last digits."""
    deviations = field - reference
    deviations += (away - deviations.mean(axis=(2, 3)))[:, :, np.newaxis, np.newaxis]
    return np.asarray(deviations, dtype=np.float64)


def place_contributions(found: Margins, columns: Any, deviations: _Floats) -> _Floats:
    """Divide the contributions of some features over the positions of their map.

    Parameters
    ----------
    found : Margins
        How features add to the margins.
    columns : slice or ndarray of int
        The features.
    deviations : ndarray of shape (n_samples, n_columns, h, w)
        The deviations of their channels.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs, h, w)
        Their sum over these features at each position.
    """
    maps = np.zeros((*found.margin.shape, *deviations.shape[2:]))
    if found.coefficients is not None:
        each = found.coefficients[:, :, columns] / maps[0, 0].size
        each = np.broadcast_to(each, (len(deviations), *each.shape[1:]))
        maps += np.einsum("ikd,idhw->ikhw", each, deviations, optimize=True)
    if found.contributions is not None:
        whole = found.contributions[:, :, columns]
        maps += np.einsum("ikd,idhw->ikhw", whole, _split(deviations), optimize=True)
    return maps


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
