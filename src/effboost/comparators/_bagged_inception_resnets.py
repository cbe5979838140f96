"""Bagged Inception-ResNets on cropped cells, of Liu and Long 2019."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._images import ImageSequence
from effboost._iter_predictions import images_for
from effboost._transforms import Augmentation
from effboost._transforms.foreground import cell_box, otsu_threshold
from effboost._utils.compat import Interval, StrOptions, fit_context
from effboost._utils.decision import MostProbableMixin
from effboost._utils.default_estimators import seed_children
from effboost._validation import LabelledImages
from effboost.backbones import BackboneSpec, timm_spec

__all__ = [
    "BaggedNetworks",
    "ColourAugmentation",
    "JointNetwork",
    "bagged_inception_resnets",
    "crop_to_cell",
]

# timm has these weights on a model hub; this is the older copy with a URL.
_WEIGHTS: Final = (
    "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
    "inception_resnet_v2-940b1cd6.pth"
)


def bagged_inception_resnets(
    backbone: Any = None,
    *,
    weights: Any = "imagenet",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> BaggedNetworks:
    """Build the bagged Inception-ResNets of Liu and Long.

    Known from the source: the cell is cropped (Otsu's threshold, largest component, bounding box),
    resized to 299 pixels and divided by 255; training views with one to four of blur, noise, hue
    and saturation, contrast; two networks and a joint one; the class with the largest softmax of
    any network is predicted. Known from the paper: bagging of the larger class; two
    Inception-ResNets joined by two fully connected layers. Assumed: Inception-ResNet-v2 with
    ImageNet weights; what `BaggedNetworks` says about the bags and the joint network; the strength
    of the views; all other settings of training, which are those of `presets.paper`.

    Each of the two networks has 55,843,464 parameters with its 1000-class head.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default=None
        The network. None means Inception-ResNet-v2. Needs the extra ``comparators``.
    weights : "imagenet", path or None, default="imagenet"
        Initial weights of the two networks.
    random_state : int, RandomState instance or None, default=None
        Seed of the `BaggedNetworks`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, for all three networks.

    Returns
    -------
    BaggedNetworks
        The unfitted classifier.

    References
    ----------
    Y. Liu and F. Long, "Acute lymphoblastic leukemia cells image analysis with deep bagging
    ensemble learning", ISBI 2019 C-NMC challenge.

    Examples
    --------
    >>> from effboost.comparators import bagged_inception_resnets
    >>> bagged_inception_resnets().get_params()["network__featurizer__transform__image_size"]
    299
    """
    settings = {
        "backbone": _inception_resnet() if backbone is None else backbone,
        "weights": weights,
        "crop_size": None,
        "image_size": 299,
        "augmentation": ColourAugmentation(),
    }
    network = CNNClassifier(
        build_featurizer(kind=ImageFeaturizer, **(settings | featurizer)), verbose=verbose
    )
    return BaggedNetworks(network, random_state=random_state)


def _inception_resnet() -> BackboneSpec:
    return timm_spec("inception_resnet_v2", weights=_WEIGHTS)


class BaggedNetworks(MostProbableMixin, ClassifierMixin, BaseEstimator):
    """Networks on parts of the largest class, with a network that joins them.

    The largest class is split at random into as many parts as there are networks; each is trained
    on one part and on all images of the other classes. The joint network is trained on all images.
    It starts from copies of the tuned networks side by side, up to their features, followed by two
    fully connected layers. The prediction for an image is that of the network with the largest
    probability.

    The weights of the networks are in memory twice.

    Parameters
    ----------
    network : CNNClassifier
        The network and how to train it; the joint one is trained in the same way.
    n_networks : int, default=2
        Number of networks, without the joint one.
    n_joint : int, default=256
        Width of the first of the two layers that join them.
    joint_trainable : "all" or int, default=1
        `trainable` of the joint network: 1 trains its two layers, "all" also the copies of the
        networks.
    crop : bool, default=True
        Crop each image to its cell first (`crop_to_cell`).
    random_state : int, RandomState instance or None, default=None
        Splits the largest class, and seeds the networks.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    networks_ : list of CNNClassifier
        The networks, the joint one last.

    Examples
    --------
    >>> from effboost import CNNClassifier, FineTuning, ImageFeaturizer, ImageTransform
    >>> from effboost.comparators import BaggedNetworks
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=3, image_size=64, random_state=0)
    >>> small = ImageFeaturizer(
    ...     "mobilenet_v3_small",
    ...     weights=None,
    ...     training=FineTuning(max_epochs=1),
    ...     transform=ImageTransform(crop_size=None, image_size=32),
    ... )
    >>> bagged = BaggedNetworks(CNNClassifier(small), random_state=0)
    >>> bagged.fit(cells.images, cells.target).predict_proba(cells.images).shape
    (12, 2)
    """

    # With metadata routing on, groups are passed without a request.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "network": [CNNClassifier],
        "n_networks": [Interval(Integral, 2, None, closed="left")],
        "n_joint": [Interval(Integral, 1, None, closed="left")],
        "joint_trainable": [StrOptions({"all"}), Interval(Integral, 1, 2, closed="both")],
        "crop": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        network: CNNClassifier,
        *,
        n_networks: int = 2,
        n_joint: int = 256,
        joint_trainable: str | int = 1,
        crop: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.network = network
        self.n_networks = n_networks
        self.n_joint = n_joint
        self.joint_trainable = joint_trainable
        self.crop = crop
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        groups: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit the networks, then the joint one.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        y, groups, sample_weight : array-like of shape (n_samples,)
            Label, subject and weight of each image; see `CNNClassifier.fit`.

        Returns
        -------
        self : object
            The fitted classifier.
        """
        rows = LabelledImages.check(self._images(X), y, groups=groups, sample_weight=sample_weight)
        rng = check_random_state(self.random_state)
        networks = [clone(self.network) for _ in range(self.n_networks)]
        seed_children(networks, rng)
        for network, bag in zip(networks, self._bags(rows, rng), strict=True):
            _fit(network, rows.take(bag))
        joint = clone(self.network).set_params(
            featurizer__backbone=self._join(networks),
            featurizer__weights=None,
            featurizer__training__trainable=self.joint_trainable,
        )
        seed_children([joint], rng)
        _fit(joint, rows)
        self.classes_ = rows.classes()
        self.networks_ = [*networks, joint]
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Predict the probabilities by the network with the largest one for each image.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float32
            Probabilities between 0 and 1, in the order of `classes_`.
        """
        check_is_fitted(self)
        images = self._images(X)
        votes = np.stack([network.predict_proba(images) for network in self.networks_])
        surest = votes.max(axis=2).argmax(axis=0)
        probabilities: npt.NDArray[np.float32] = votes[surest, np.arange(len(images))]
        return probabilities

    def _images(self, X: Any) -> ImageSequence:
        return images_for(self, X).map(crop_to_cell) if self.crop else images_for(self, X)

    def _bags(self, rows: LabelledImages, rng: np.random.RandomState) -> list[npt.NDArray[np.intp]]:
        """Compute the positions of the images of each network."""
        target = rows.encode(rows.classes())
        is_largest = target == np.bincount(target).argmax()
        largest, others = rng.permutation(np.flatnonzero(is_largest)), np.flatnonzero(~is_largest)
        parts = np.array_split(largest, self.n_networks)
        return [np.sort(np.concatenate([part, others])) for part in parts]

    def _join(self, networks: Sequence[CNNClassifier]) -> BackboneSpec:
        trunks = tuple(network.featurizer_.module_ for network in networks)
        width = sum(len(network.featurizer_.get_feature_names_out()) for network in networks)
        factory = _Join(trunks, width, self.n_joint)
        return BackboneSpec("joint", self.n_joint, weights=None, factory=factory, head=None)


def _fit(network: CNNClassifier, rows: LabelledImages) -> None:
    network.fit(rows.images, rows.labels, groups=rows.groups, sample_weight=rows.weight)


@dataclasses.dataclass(frozen=True)
class _Join:
    """Builds the joint network. All copies of an estimator share it, since weights are large."""

    trunks: tuple[nn.Module, ...]
    n_features: int
    n_joint: int

    def __call__(self) -> JointNetwork:
        return JointNetwork(self.trunks, self.n_features, self.n_joint)

    def __deepcopy__(self, memo: Any) -> _Join:
        return self


class JointNetwork(nn.Module):
    """Networks side by side, with the first of the two fully connected layers that join them.

    Parameters
    ----------
    trunks : sequence of torch.nn.Module
        Networks that return features; they are copied.
    n_features : int
        Number of features of all of them together.
    n_joint : int
        Width of the layer.

    Examples
    --------
    >>> import torch
    >>> from effboost.comparators import JointNetwork
    >>> flat = torch.nn.Flatten()
    >>> JointNetwork([flat, flat], n_features=96, n_joint=4)(torch.zeros(2, 3, 4, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(self, trunks: Sequence[nn.Module], n_features: int, n_joint: int):
        super().__init__()
        self.trunks = _SideBySide(copy.deepcopy(list(trunks)))
        self.joint = nn.Sequential(nn.Linear(n_features, n_joint), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute features of images.

        Parameters
        ----------
        x : torch.Tensor of shape (b, 3, h, w)
            Images.

        Returns
        -------
        torch.Tensor of shape (b, n_joint)
            The features.
        """
        return self.joint(self.trunks(x))


class _SideBySide(nn.ModuleList):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x) for part in self], dim=1)


def crop_to_cell(image: Image.Image) -> Image.Image:
    """Crop an image with a dark background to its cell.

    The cell is the largest connected part that is brighter than Otsu's threshold; the image is
    cropped to its bounding box. It is returned unchanged if the box is smaller than 8 x 8 pixels.

    Parameters
    ----------
    image : PIL.Image.Image
        An image in mode RGB.

    Returns
    -------
    PIL.Image.Image
        The cropped image.

    See Also
    --------
    ImageTransform : Crops to a square with a margin, also on bright backgrounds (`foreground`).

    Examples
    --------
    >>> from effboost import ImageSequence
    >>> from effboost.comparators import crop_to_cell
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=2, images_per_subject=1, image_size=64, random_state=0)
    >>> [picture.shape for picture in ImageSequence(cells.images).map(crop_to_cell)]
    [(41, 42, 3), (31, 30, 3)]
    """
    grey = np.asarray(image.convert("L"))
    box = cell_box(grey > otsu_threshold(grey))
    return image if box is None else image.crop(box)


class ColourAugmentation(Augmentation):
    """One to four of blur, noise, change of hue and saturation, and change of contrast.

    Their number, kind and order are drawn for each view. Their strengths are assumed.

    Parameters
    ----------
    horizontal_flip, vertical_flip, rotation : float, default=0
        See `Augmentation`; the source does not mention them.
    n_views, frozen_views : int
        See `Augmentation`.

    Examples
    --------
    >>> from effboost import FineTuning
    >>> from effboost.comparators import ColourAugmentation
    >>> FineTuning(augmentation=ColourAugmentation(n_views=2)).check().augmentation.n_views
    2
    """

    def __init__(
        self,
        horizontal_flip: float = 0.0,
        vertical_flip: float = 0.0,
        *,
        rotation: float = 0.0,
        n_views: int = 1,
        frozen_views: int = 5,
    ):
        super().__init__(
            horizontal_flip,
            vertical_flip,
            rotation=rotation,
            n_views=n_views,
            frozen_views=frozen_views,
        )

    def apply(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Draw one random view of an image.

        Parameters
        ----------
        image : PIL.Image.Image
            An image in mode RGB, already resized.
        rng : numpy.random.Generator
            Source of all random numbers.

        Returns
        -------
        PIL.Image.Image
            An image of the same size.
        """
        image = super().apply(image, rng)
        changes = [_blur, _add_noise, _change_hue, _change_contrast]
        for i in rng.permutation(4)[: rng.integers(1, 5)]:
            image = changes[i](image, rng)
        return image


def _blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))


def _add_noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image)
    noise = rng.normal(0, rng.uniform(0, 12), pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


def _change_hue(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turn, factor = int(rng.integers(-10, 11)), rng.uniform(0.8, 1.2)
    # Hues are cyclic: 0 follows 255.
    turned = Image.fromarray(np.asarray(hue) + np.uint8(turn % 256))
    stronger = saturation.point(lambda x: x * factor)
    return Image.merge("HSV", (turned, stronger, value)).convert("RGB")


def _change_contrast(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.3))
