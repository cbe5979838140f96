"""The second-best system of the C-NMC challenge, by Prellberg and Kramer 2019."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._transforms import Augmentation
from effboost._utils.compat import Interval
from effboost.backbones import timm_spec

__all__ = ["LearningRateSteps", "RotationAveragedCNN", "ShiftAugmentation", "prellberg"]


def prellberg(
    backbone: Any = None,
    *,
    weights: Any = "imagenet",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> RotationAveragedCNN:
    """Build the challenge's second-best system, with learning rates by depth and rotations.

    Known from the source: centre crop of 300 pixels; flips, any rotation, shifts by up to 0.2;
    Adam with learning rates of 1e-6 (stem), 1e-4 (middle) and 1e-2 (head), a tenth of that after
    epochs 2 and 4; 6 epochs; batches of 16; binary cross-entropy whose positive weight is
    HEM/ALL; logits averaged over 8 rotations at test time. Assumed: SE-ResNeXt50 with ImageNet
    weights, as in timm, with its first stage as the stem; flips with probability 0.5; crops that
    are not resized; rotations by multiples of 45 degrees, before the crop.

    The loss is the softmax cross-entropy of two outputs with balanced class weights. It is that of
    the source up to a constant factor, which Adam ignores: one logit there is the difference of
    two here, and weights of 1 and HEM/ALL are proportional to balanced ones.

    The network has 27,559,896 parameters with its 1000-class head.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default=None
        The network. None means SE-ResNeXt50, which needs the extra ``comparators``.
    weights : "imagenet", path or None, default="imagenet"
        Initial weights of the network.
    random_state : int, RandomState instance or None, default=None
        Seed of the `CNNClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    RotationAveragedCNN
        The unfitted classifier.

    References
    ----------
    J. Prellberg and O. Kramer, "Acute lymphoblastic leukemia classification from microscopic
    images using convolutional neural networks", ISBI 2019 C-NMC challenge.

    Examples
    --------
    >>> from effboost.comparators import prellberg
    >>> prellberg("resnet50").featurizer.training.lr
    (1e-06, 0.0001, 0.01)
    """
    settings = {
        "backbone": timm_spec("legacy_seresnext50_32x4d") if backbone is None else backbone,
        "weights": weights,
        "crop_size": 300,
        "image_size": 300,
        "normalize": "backbone",
        "augmentation": ShiftAugmentation(0.5, 0.5, rotation=180.0),
        "optimizer": "adam",
        "lr": (1e-6, 1e-4, 1e-2),
        "callbacks": [LearningRateSteps((2, 4))],
        "max_epochs": 6,
        "batch_size": 16,
        "class_weight": "balanced",
    }
    return RotationAveragedCNN(
        build_featurizer(kind=ImageFeaturizer, **(settings | featurizer)),
        random_state=random_state,
        verbose=verbose,
    )


class RotationAveragedCNN(CNNClassifier):
    """A `CNNClassifier` that averages its logits over rotations of each image.

    Parameters
    ----------
    featurizer : ImageFeaturizer or None, default=None
        The network and how to train it, as in `CNNClassifier`.
    n_rotations : int, default=8
        Number of rotations, by multiples of ``360 / n_rotations`` degrees, of the whole image
        before it is cropped; corners become black. Prediction takes as many times as long.
    random_state : int, RandomState instance or None, default=None
        Passed to the featurizer if its own is None.
    verbose : int, default=0
        1 shows progress bars on stderr. Passed to the featurizer if its own is 0.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    featurizer_ : ImageFeaturizer
        The fine-tuned network.
    history_ : list of dict
        Loss and accuracy of each epoch.

    See Also
    --------
    CNNClassifier : The same without rotations.

    Examples
    --------
    >>> from effboost import FineTuning, ImageFeaturizer, ImageTransform
    >>> from effboost.comparators import RotationAveragedCNN
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> cnn = RotationAveragedCNN(
    ...     ImageFeaturizer(
    ...         "resnet18",
    ...         weights=None,
    ...         training=FineTuning(max_epochs=1),
    ...         transform=ImageTransform(crop_size=None, image_size=32),
    ...     ),
    ...     n_rotations=4,
    ...     random_state=0,
    ... ).fit(cells.images, cells.target)
    >>> cnn.predict_proba(cells.images).shape
    (20, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CNNClassifier._parameter_constraints,
        "n_rotations": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        featurizer: ImageFeaturizer | None = None,
        *,
        n_rotations: int = 8,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        super().__init__(featurizer, random_state=random_state, verbose=verbose)
        self.n_rotations = n_rotations

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Predict the probability of each class from the mean logits of all rotations.

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
        images = self.featurizer_._check_images(X, reset=False)
        turns = (360 * i / self.n_rotations for i in range(self.n_rotations))
        scores = [self._scores(images.map(functools.partial(_turn, angle=a))) for a in turns]
        probabilities: npt.NDArray[np.float32] = softmax(np.mean(scores, axis=0), axis=1)
        return probabilities


def _turn(image: Image.Image, angle: float) -> Image.Image:
    return image.rotate(angle, Image.Resampling.BILINEAR)


class ShiftAugmentation(Augmentation):
    """Random flips and rotation, and then a random shift, filled with black.

    Parameters
    ----------
    horizontal_flip, vertical_flip, rotation : float, default=0.2, 0.2 and 10.0
        See `Augmentation`.
    n_views, frozen_views : int, default=1 and 5
        See `Augmentation`.
    shift : float, default=0.2
        Largest shift along each axis, as a share of the side.

    Examples
    --------
    >>> from effboost import FineTuning
    >>> from effboost.comparators import ShiftAugmentation
    >>> FineTuning(augmentation=ShiftAugmentation(shift=0.1)).check().augmentation.shift
    0.1
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Augmentation._parameter_constraints,
        "shift": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        horizontal_flip: float = 0.2,
        vertical_flip: float = 0.2,
        *,
        rotation: float = 10.0,
        n_views: int = 1,
        frozen_views: int = 5,
        shift: float = 0.2,
    ):
        super().__init__(
            horizontal_flip,
            vertical_flip,
            rotation=rotation,
            n_views=n_views,
            frozen_views=frozen_views,
        )
        self.shift = shift

    def apply(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Draw one random view of an image.

        Parameters
        ----------
        image : PIL.Image.Image
            An image in mode RGB, already resized.
        rng : numpy.random.Generator
            Source of the five random numbers.

        Returns
        -------
        PIL.Image.Image
            An image of the same size.
        """
        turned = super().apply(image, rng)
        right, down = np.rint(rng.uniform(-self.shift, self.shift, 2) * image.size).astype(int)
        shifted = Image.new("RGB", image.size)
        shifted.paste(turned, (int(right), int(down)))
        return shifted


@dataclasses.dataclass(eq=False)
class LearningRateSteps(Callback):
    """Multiply all learning rates by a factor after some epochs.

    skorch's `LRScheduler` can do the same, but keeps the optimizer with tensors of the device: a
    model fitted on a GPU could not be loaded without one.

    Parameters
    ----------
    epochs : sequence of int
        The epochs, counted from 1, after which rates are multiplied.
    factor : float, default=0.1
        The factor.

    Examples
    --------
    >>> from effboost import ImageFeaturizer
    >>> from effboost.comparators import LearningRateSteps
    >>> ImageFeaturizer(callbacks=[LearningRateSteps((30, 60))]).callbacks
    [LearningRateSteps(epochs=(30, 60), factor=0.1)]
    """

    epochs: Sequence[int]
    factor: float = 0.1

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        """Multiply the learning rates of the optimizer's groups.

        Parameters
        ----------
        net : skorch.NeuralNet
            The network in training.
        **_
            What skorch passes besides.
        """
        if len(net.history) in self.epochs:
            for group in net.optimizer_.param_groups:
                group["lr"] *= self.factor
