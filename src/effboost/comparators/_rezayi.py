"""Three networks of Rezayi et al. 2021, trained from scratch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost.backbones import BackboneSpec

__all__ = ["RezayiCNN", "rezayi_cnn", "rezayi_resnet50", "rezayi_vgg16"]

_FILTERS = (32, 64, 128, 256, 512)


class RezayiCNN(nn.Module):
    """Ten convolutions with max-pooling and dropout, and one fully connected layer.

    Known from the source: ten convolutions; max-pooling of 2 x 2 with stride 2; from the paper:
    dropout, and one fully connected layer before the two outputs. Assumed: kernels of 3 x 3 with
    32 to 512 filters, pooling after every second convolution, ReLU, dropout of 0.25 behind each
    pooling and 0.5 before the outputs, 256 units.

    The network returns the 256 values of its fully connected layer; `CNNClassifier` adds the
    output layer.

    Examples
    --------
    >>> import torch
    >>> from effboost.comparators import RezayiCNN
    >>> RezayiCNN()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 256])
    """

    def __init__(self) -> None:
        super().__init__()
        blocks = [self._block(*channels) for channels in pairwise((3, *_FILTERS))]
        self.features = nn.Sequential(*blocks)
        # 224 pixels lead to 7 x 7; with pooling, other image sizes have the same width.
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten())
        self.connected = nn.Sequential(
            nn.Linear(_FILTERS[-1] * 7 * 7, 256), nn.ReLU(), nn.Dropout(0.5)
        )

    @staticmethod
    def _block(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2),
            nn.Dropout(0.25),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute features of images.

        Parameters
        ----------
        x : torch.Tensor of shape (b, 3, h, w)
            Images of 32 pixels or more.

        Returns
        -------
        torch.Tensor of shape (b, 256)
            The features.
        """
        features: torch.Tensor = self.connected(self.pool(self.features(x)))
        return features


def rezayi_cnn(
    *, weights: Any = None, random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> CNNClassifier:
    """Build the network that Rezayi et al. propose, trained from scratch.

    Known from the source: what `RezayiCNN` lists, and 100 epochs. Assumed: a learning rate of
    1e-4, at which networks without batch norms learn; all other settings of training are those of
    `presets.paper`. The source calls its accuracy of 0.8210 a validation accuracy.

    The network has 11,135,008 parameters without the output layer, 4,712,224 of them in the ten
    convolutions.

    Parameters
    ----------
    weights : path or None, default=None
        None means random weights, as in the source.
    random_state : int, RandomState instance or None, default=None
        Seed of the `CNNClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    CNNClassifier
        The unfitted classifier.

    References
    ----------
    S. Rezayi et al., "Timely diagnosis of acute lymphoblastic leukemia using artificial
    intelligence-oriented deep learning methods", Computational Intelligence and Neuroscience,
    2021.

    Examples
    --------
    >>> from effboost.comparators import rezayi_cnn
    >>> rezayi_cnn().featurizer.training.max_epochs
    100
    """
    spec = BackboneSpec("rezayi_cnn", 256, weights=None, factory=RezayiCNN, head=None)
    return _from_scratch(spec, weights, random_state, verbose, {"lr": 1e-4} | featurizer)


def rezayi_resnet50(
    *, weights: Any = None, random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> CNNClassifier:
    """Build ResNet50 trained from scratch, the second network of Rezayi et al.

    Known from the source: ResNet50, random weights, 100 epochs. Assumed: all other settings, which
    are those of `presets.paper`. The accuracy of 0.8163 is a validation accuracy.

    ResNet50 has 25,557,032 parameters with its 1000-class head.

    Parameters
    ----------
    weights : path or None, default=None
        None means random weights, as in the source.
    random_state : int, RandomState instance or None, default=None
        Seed of the `CNNClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    CNNClassifier
        The unfitted classifier.

    Examples
    --------
    >>> from effboost.comparators import rezayi_resnet50
    >>> rezayi_resnet50().featurizer
    ImageFeaturizer(backbone='resnet50', training=FineTuning(max_epochs=100),
                    weights=None)
    """
    return _from_scratch("resnet50", weights, random_state, verbose, featurizer)


def rezayi_vgg16(
    *, weights: Any = None, random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> CNNClassifier:
    """Build VGG16 trained from scratch, the third network of Rezayi et al.

    Known from the source: VGG16, random weights, 100 epochs. Assumed: a learning rate of 1e-4, at
    which networks without batch norms learn; all other settings are those of `presets.paper`. The
    accuracy of 0.8462 is a validation accuracy.

    VGG16 has 138,357,544 parameters with its 1000-class head.

    Parameters
    ----------
    weights : path or None, default=None
        None means random weights, as in the source.
    random_state : int, RandomState instance or None, default=None
        Seed of the `CNNClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    CNNClassifier
        The unfitted classifier.

    Examples
    --------
    >>> from effboost.comparators import rezayi_vgg16
    >>> rezayi_vgg16(max_epochs=20).featurizer
    ImageFeaturizer(backbone='vgg16',
                    training=FineTuning(lr=0.0001, max_epochs=20), weights=None)
    """
    return _from_scratch("vgg16", weights, random_state, verbose, {"lr": 1e-4} | featurizer)


def _from_scratch(
    backbone: Any, weights: Any, random_state: Any, verbose: int, featurizer: dict[str, Any]
) -> CNNClassifier:
    settings = {"backbone": backbone, "weights": weights, "max_epochs": 100} | featurizer
    return CNNClassifier(
        build_featurizer(kind=ImageFeaturizer, **settings),
        random_state=random_state,
        verbose=verbose,
    )
