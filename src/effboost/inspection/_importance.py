"""What decides over a set of images: the contributions of stages and of their channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._hybrid_classifier import HybridClassifier
from effboost._images import ImageSequence
from effboost._utils.columns import check_groups
from effboost._validation import check_labels
from effboost.backbones._stages import list_children
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._attribution import deviate, place_contributions, read_fields
from effboost.inspection._contributions import check_explainable, contribute, predict_labels
from effboost.inspection._drawing import check_lengths
from effboost.inspection._feature_maps import Block, FeatureMaps, list_blocks
from effboost.inspection._heat import network_pictures
from effboost.inspection._margins import explain_margins

__all__ = ["FeatureImportance", "Patches", "feature_importance", "find_patches"]

_Floats = npt.NDArray[np.float32]
# Images whose feature maps, and whose contributions in double precision, are in memory at a time.
_MAPS: Final = 16
_ROWS: Final = 256
# Images that tell what is usual at a position.
_BACKGROUND: Final = 32
# Sides of a patch: positions of its map, but at least this share of the picture.
_POSITIONS: Final = 3
_LEAST: Final = 0.25


@dataclasses.dataclass(frozen=True)
class FeatureImportance:
    """The contributions of the channels of a network to the decisions on a set of images.

    Attributes
    ----------
    contributions : ndarray of shape (n_samples, n_channels), float32
        What each channel adds to the margin of the image's class: its own in `y`. All features
        that are pooled from a channel count together.
    stages : tuple of str
        The layers that features are pooled from, the first one of the network first; "" is its last
        map.
    stage : ndarray of shape (n_channels,), int
        The position in `stages` of each channel's layer.
    channel : ndarray of shape (n_channels,), int
        Its number in the map of the layer, from 0.
    y : ndarray of shape (n_samples,)
        The class of each image.
    groups : ndarray of shape (n_samples,) or None
        The subject of each image.
    is_probability : bool
        Whether margins, and contributions, are probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import FeatureImportance
    >>> contributions = np.array([[0.5, -0.1], [0.7, 0.3]], dtype=np.float32)
    >>> stages, y = ("features.3", ""), np.array(["ALL", "HEM"])
    >>> stage, channel = np.array([0, 1]), np.array([17, 4])
    >>> found = FeatureImportance(contributions, stages, stage, channel, y, None, False)
    >>> found.name_channel(found.by_channel().argmax())
    'features.3, channel 17'
    >>> found.by_stage()[1].round(2).tolist()
    [[0.75, 0.25]]
    """

    contributions: _Floats
    stages: tuple[str, ...]
    stage: npt.NDArray[np.intp]
    channel: npt.NDArray[np.intp]
    y: npt.NDArray[Any]
    groups: npt.NDArray[Any] | None
    is_probability: bool

    def by_channel(self) -> _Floats:
        """Compute the mean absolute contribution of each channel.

        Returns
        -------
        ndarray of shape (n_channels,)
            In units of the margin.
        """
        return np.abs(self.contributions).mean(axis=0)

    def by_stage(self, of_image: npt.NDArray[Any] | None = None) -> tuple[npt.NDArray[Any], Any]:
        """Compute the share of each stage in the absolute contributions.

        Parameters
        ----------
        of_image : ndarray of shape (n_samples,), default=None
            A property of each image, such as `y` or `groups`. None takes all images together.

        Returns
        -------
        names : ndarray of shape (n_names,)
            The values of the property; "all" without one.
        shares : ndarray of shape (n_names, n_stages)
            The mean absolute contributions of the channels of each stage, over the images with
            each value, divided by those of all stages.
        """
        of_stage = np.zeros((len(self.contributions), len(self.stages)))
        for i in range(len(self.stages)):
            of_stage[:, i] = np.abs(self.contributions[:, self.stage == i]).sum(axis=1)
        names = np.array(["all"]) if of_image is None else np.unique(of_image)
        rows = [slice(None)] if of_image is None else [of_image == name for name in names]
        means = np.array([of_stage[row].mean(axis=0) for row in rows])
        total = np.maximum(means.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return names, means / total

    def name_channel(self, index: int) -> str:
        """Return the name of a channel, such as "features.3, channel 17".

        Parameters
        ----------
        index : int
            Its position among all channels.

        Returns
        -------
        str
            Layer and number.
        """
        stage = self.stages[self.stage[index]] or "last map"
        return f"{stage}, channel {self.channel[index]}"


def feature_importance(
    clf: HybridClassifier,
    X: Any,
    y: npt.ArrayLike | None = None,
    *,
    groups: npt.ArrayLike | None = None,
) -> FeatureImportance:
    """Compute what each stage and channel of the network contributes to decisions on images.

    The contributions are the exact ones of `hybrid_attribution`, before these are divided over
    positions: their sum over all channels is the margin minus its base.

    Parameters
    ----------
    clf : HybridClassifier
        Fitted, one that `hybrid_attribution` explains.
    X : images, n_samples of them
        Images that the classifier has not seen, since it is more confident on its training images.
    y : array-like of shape (n_samples,), default=None
        Their classes; contributions to the margin of these are computed. None takes the predicted
        ones.
    groups : array-like of shape (n_samples,), default=None
        Their subjects; None uses the groups of an `ImageSequence`.

    Returns
    -------
    FeatureImportance
        The contributions of each channel for each image, of 4 bytes each.

    Raises
    ------
    UnsupportedInputError
        If the head or the features are others, lengths differ, or a class is unknown to `clf`.

    See Also
    --------
    FeatureImportanceDisplay : Draws them, with the regions of images that drive each channel.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import feature_importance
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> clf = presets.recommended("resnet18", weights=None, image_size=64, random_state=0)
    >>> clf = clf.fit(cells.images, cells.target)
    >>> found = feature_importance(clf, cells.images, cells.target)
    >>> found.contributions.shape, found.stages
    ((24, 448), ('layer1', 'layer2', 'layer3'))
    """
    check_explainable(clf)
    images = clf.featurizer_._check_images(X, reset=False)
    if groups is None:
        groups = images.groups
    check_lengths(X=images, y=y, groups=groups)
    features = np.asarray(clf.transform(images))
    labels = predict_labels(clf, features) if y is None else check_labels(y)
    unknown = sorted(set(labels.tolist()) - set(clf.classes_.tolist()), key=str)
    if unknown:
        raise UnsupportedInputError(
            f"y has the classes {unknown}, which the classifier was not fitted on; its classes are "
            f"{clf.classes_.tolist()}"
        )
    blocks = list_blocks(clf.featurizer_)
    first_of, owner = _number_channels(blocks, list(list_children(clf.featurizer_.module_)))
    stage = np.concatenate([np.full(n, i) for i, (_, n) in enumerate(first_of.values())])
    contributions = np.empty((len(images), len(stage)), dtype=np.float32)
    for start in range(0, len(images), _ROWS):
        rows = slice(start, start + _ROWS)
        found = contribute(clf, features[rows])
        outputs, signs = _outputs_of(clf, labels[rows])
        own = signs[:, np.newaxis] * found.values[np.arange(len(outputs)), outputs]
        contributions[rows] = 0
        for block in blocks:
            contributions[rows, owner[block.columns]] += own[:, block.columns]
    return FeatureImportance(
        contributions,
        tuple(first_of),
        stage,
        np.concatenate([np.arange(n) for _, n in first_of.values()]),
        labels,
        None if groups is None else check_groups(groups),
        found.is_probability,
    )


def _number_channels(
    blocks: Sequence[Block], names: list[str]
) -> tuple[dict[str, tuple[int, int]], npt.NDArray[np.intp]]:
    """Assign a number to each channel of all layers, in the order of the children of the network.

    Returns
    -------
    first_of : dict of (int, int)
        For each layer, the number of its first channel, and how many it has.
    owner : ndarray of shape (n_features,)
        The channel of each feature.
    """
    width_of = {block.layer: block.width for block in blocks}
    first_of: dict[str, tuple[int, int]] = {}
    total = 0
    for layer in sorted(width_of, key=lambda layer: names.index(layer) if layer else len(names)):
        first_of[layer] = total, width_of[layer]
        total += width_of[layer]
    owner = [first_of[block.layer][0] + np.arange(block.width) for block in blocks]
    return first_of, np.concatenate(owner)


def _outputs_of(
    clf: HybridClassifier, labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Return the output of each class, and its sign: two classes share one output."""
    codes = np.searchsorted(clf.classes_, labels)
    if len(clf.classes_) > 2:
        return codes, np.ones(len(codes), dtype=np.int64)
    return np.zeros(len(codes), dtype=np.intp), 2 * codes - 1


@dataclasses.dataclass(frozen=True)
class Patches:
    """The regions of images where a channel contributes most to a class.

    Attributes
    ----------
    label : object
        The class.
    channel : int
        The position of the channel in `FeatureImportance`.
    grid : (int, int)
        Rows and columns of positions of its map.
    images : list of int
        The images, the one with the largest contribution first.
    boxes : list of (int, int, int, int)
        The largest position in each picture: left, top, width and height in pixels.
    crops : list of (int, int, int, int)
        What is shown around it: left, top, right and bottom in pixels.
    pictures : list of ndarray of shape (height, width, 3), uint8
        What the network saw of each image.
    """

    label: Any
    channel: int
    grid: tuple[int, int]
    images: list[int]
    boxes: list[tuple[int, int, int, int]]
    crops: list[tuple[int, int, int, int]]
    pictures: list[npt.NDArray[np.uint8]]


def find_patches(
    clf: HybridClassifier,
    X: Any,
    found: FeatureImportance,
    *,
    n_channels: int = 3,
    n_patches: int = 5,
) -> list[Patches]:
    """Find the regions that drive the channels which support each class most.

    Of each class, the channels with the largest mean contribution to its margin over its images,
    and for each of them the images with the largest contributions, of different subjects if there
    are enough. Feature maps are computed for these images alone.
    """
    chosen = [
        (label, channel, _choose_images(found, label, channel, n_patches))
        for label in np.unique(found.y)
        for channel in _choose_channels(found, label, n_channels)
    ]
    if not chosen or n_patches < 1:
        return []
    used = np.unique(np.concatenate([images for *_, images in chosen]))
    images = clf.featurizer_._check_images(X, reset=False)
    heat = _read_heat(clf, images, found, chosen, used)
    pictures = dict(
        zip(used.tolist(), network_pictures(clf.featurizer_, images[used]), strict=True)
    )
    return [_make_patches(label, channel, some, pictures, heat) for label, channel, some in chosen]


def _choose_channels(found: FeatureImportance, label: Any, n: int) -> list[int]:
    """Choose the channels that support a class most."""
    mean = found.contributions[found.y == label].mean(axis=0)
    best = np.argsort(-mean, kind="stable")[:n]
    return [int(channel) for channel in best if mean[channel] > 0]


def _choose_images(
    found: FeatureImportance, label: Any, channel: int, n: int
) -> npt.NDArray[np.intp]:
    """Choose images of a class to which a channel contributes most, of different subjects first."""
    rows = np.flatnonzero(found.y == label)
    rows = rows[np.argsort(-found.contributions[rows, channel], kind="stable")]
    if found.groups is not None:
        first = np.unique(found.groups[rows], return_index=True)[1]
        rank = np.ones(len(rows), dtype=np.intp)
        rank[first] = 0
        rows = rows[np.sort(np.argsort(rank, kind="stable")[:n])]
    rows = rows[:n]
    return rows[found.contributions[rows, channel] > 0]


def _read_heat(
    clf: HybridClassifier,
    images: ImageSequence,
    found: FeatureImportance,
    chosen: Sequence[tuple[Any, int, npt.NDArray[np.intp]]],
    used: npt.NDArray[np.intp],
) -> dict[tuple[int, int], npt.NDArray[np.float64]]:
    """Compute what each position of a channel contributes, by image and channel.

    Positions are compared with what is usual there in some of the images, so that the black around
    all cells is not marked; see `background` of `hybrid_attribution`.
    """
    reader = FeatureMaps(clf.featurizer_)
    background = np.unique(np.linspace(0, len(images) - 1, _BACKGROUND).astype(int))
    read = np.union1d(used, background)
    channels = np.unique([channel for _, channel, _ in chosen])
    # Of each block, the chosen channels that it has.
    own_of = [
        channels[[found.stages[found.stage[channel]] == block.layer for channel in channels]]
        for block in reader.blocks
    ]
    rows: list[npt.NDArray[np.float32]] = []
    kept: list[list[npt.NDArray[np.float32]]] = [[] for _ in reader.blocks]
    for start in range(0, len(read), _MAPS):
        features, fields = read_fields(clf, reader, images[read[start : start + _MAPS]])
        rows.append(features)
        for some, field, own in zip(kept, fields, own_of, strict=True):
            some.append(field[:, found.channel[own]])
    features, means = np.concatenate(rows), clf.feature_means_
    margins = explain_margins(clf.classifier_, features, means)
    outputs, signs = _outputs_of(clf, found.y)
    heat: dict[tuple[int, int], Any] = {}
    for block, some, own in zip(reader.blocks, kept, own_of, strict=True):
        columns = block.columns.start + found.channel[own]
        field = np.concatenate(some)
        # What is usual at each position, with the means that the contributions are compared with.
        usual = field[np.searchsorted(read, background)].mean(axis=0, dtype=np.float64)
        usual += (means[columns] - usual.mean(axis=(1, 2)))[:, np.newaxis, np.newaxis]
        deviations = deviate(field, usual, features[:, columns] - means[columns])
        for _, channel, images_of in chosen:
            for k in np.flatnonzero(own == channel).tolist():
                for i in images_of.tolist():
                    row = int(np.searchsorted(read, i))
                    maps = place_contributions(
                        margins.take(row), columns[[k]], deviations[[row]][:, [k]]
                    )
                    before = heat.get((i, channel), 0)
                    heat[i, channel] = before + signs[i] * maps[0, outputs[i]]
    return heat


def _make_patches(
    label: Any,
    channel: int,
    some: npt.NDArray[np.intp],
    pictures: dict[int, npt.NDArray[np.uint8]],
    heat: dict[tuple[int, int], npt.NDArray[np.float64]],
) -> Patches:
    boxes, crops, grid = [], [], (0, 0)
    for i in some.tolist():
        positions = heat[i, channel]
        grid = positions.shape[0], positions.shape[1]
        row, column = np.unravel_index(positions.argmax(), grid)
        box, crop = _locate(int(row), int(column), grid, pictures[i].shape[:2])
        boxes.append(box)
        crops.append(crop)
    images = some.tolist()
    return Patches(label, channel, grid, images, boxes, crops, [pictures[i] for i in images])


def _locate(
    row: int, column: int, grid: tuple[int, int], size: tuple[int, ...]
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Find the box of a position in a picture, and a crop around it that lies in the picture."""
    box, crop = [], []
    for place, n, side in zip((column, row), (grid[1], grid[0]), (size[1], size[0]), strict=True):
        step = side / n
        width = min(side, max(round(_POSITIONS * step), round(_LEAST * side)))
        start = round((place + 0.5) * step - width / 2)
        start = min(max(start, 0), side - width)
        box.append((round(place * step), max(1, round(step))))
        crop.append((start, start + width))
    (left, width), (top, height) = box
    (x0, x1), (y0, y1) = crop
    return (left, top, width, height), (x0, y0, x1, y1)
