"""The average of AlexNet, CNN-RNN and DCT-LSTM, of Shah et al. 2019."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import VotingClassifier
from torch import nn

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._images import ImageSequence
from effboost._iter_predictions import images_for
from effboost._utils.compat import load_torchvision
from effboost.backbones import BackboneSpec

__all__ = ["CNNRNN", "DCTLSTM", "SubjectVotingClassifier", "alexnet_cnnrnn_dctlstm"]


class CNNRNN(nn.Module):
    """An LSTM over the positions of AlexNet's last feature maps; returns its last 128 values.

    All of it is assumed: the maps as a sequence of positions, row by row, and the LSTM's width.

    Examples
    --------
    >>> import torch
    >>> from effboost.comparators import CNNRNN
    >>> CNNRNN()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 128])
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = load_torchvision().models.alexnet(weights=None).features
        self.rnn = nn.LSTM(256, 128, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute features of images.

        Parameters
        ----------
        x : torch.Tensor of shape (b, 3, h, w)
            Images of 63 pixels or more.

        Returns
        -------
        torch.Tensor of shape (b, 128)
            The features.
        """
        places = self.features(x).flatten(2).transpose(1, 2)
        return _last(self.rnn, places)


class DCTLSTM(nn.Module):
    """An LSTM over the rows of the discrete cosine transform of the grey image.

    It returns the LSTM's last 128 values. All of it is assumed: grey values, the 64 x 64 lowest
    frequencies, their logarithms with the sign kept, the rows as the sequence, and the LSTM's
    width.

    Examples
    --------
    >>> import torch
    >>> from effboost.comparators import DCTLSTM
    >>> DCTLSTM()(torch.zeros(2, 3, 96, 96)).shape
    torch.Size([2, 128])
    """

    n_frequencies = 64

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(self.n_frequencies, 128, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute features of images.

        Parameters
        ----------
        x : torch.Tensor of shape (b, 3, h, w)
            Images.

        Returns
        -------
        torch.Tensor of shape (b, 128)
            The features.
        """
        return _last(self.rnn, self.transform(x.mean(dim=1)))

    def transform(self, grey: torch.Tensor) -> torch.Tensor:
        """Compute the logarithms of the lowest frequencies of images.

        Parameters
        ----------
        grey : torch.Tensor of shape (b, h, w)
            Grey images.

        Returns
        -------
        torch.Tensor of shape (b, 64, 64)
            The logarithms, with the signs of the frequencies.
        """
        rows, columns = (_cosines(side, self.n_frequencies, grey) for side in grey.shape[1:])
        spectrum = rows @ grey @ columns.T
        return spectrum.sign() * spectrum.abs().log1p()


def _last(rnn: nn.LSTM, sequence: torch.Tensor) -> torch.Tensor:
    values: torch.Tensor = rnn(sequence)[0]
    return values[:, -1]


def _cosines(side: int, n: int, like: torch.Tensor) -> torch.Tensor:
    """Compute the first n rows of the orthonormal transform (DCT-II) of `side` pixels."""
    place = torch.arange(side, device=like.device, dtype=like.dtype) + 0.5
    frequency = torch.arange(n, device=like.device, dtype=like.dtype)
    waves = torch.cos(frequency[:, None] * place * (math.pi / side)) * math.sqrt(2 / side)
    constant = (frequency == 0).to(like.dtype)[:, None]
    return waves * (1 + constant * (math.sqrt(0.5) - 1))


_CNN_RNN = BackboneSpec(
    "cnn_rnn",
    128,
    weights="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    factory=CNNRNN,
    head=None,
    fresh=("rnn", "classifier"),
)
_DCT_LSTM = BackboneSpec("dct_lstm", 128, weights=None, factory=DCTLSTM, head=None)


class SubjectVotingClassifier(VotingClassifier):
    """A `sklearn.ensemble.VotingClassifier` on images, whose ``fit`` takes subjects.

    The images carry the subjects to the estimators.

    Parameters
    ----------
    estimators : list of (str, classifier)
        Names, and classifiers of images.
    voting : {"hard", "soft"}, default="hard"
        Whether labels are counted, or probabilities averaged.
    weights : array-like of shape (n_classifiers,), default=None
        Weight of each classifier.
    n_jobs : int, default=None
        Number of classifiers that are fitted at the same time.
    flatten_transform : bool, default=True
        Form of ``transform`` with soft voting.
    verbose : bool, default=False
        Print the time of each fit.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.comparators import SubjectVotingClassifier
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> options = {"weights": None, "image_size": 32, "random_state": 0, "runtime": "torch"}
    >>> clf = SubjectVotingClassifier(
    ...     [(name, presets.frozen(name, **options)) for name in ("googlenet", "resnet18")],
    ...     voting="soft",
    ... )
    >>> clf.fit(cells.images, cells.target, groups=cells.groups).predict_proba(cells.images).shape
    (20, 2)
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        groups: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit the estimators.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        y : array-like of shape (n_samples,)
            The labels.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image; None takes the groups that an `ImageSequence` carries.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image.

        Returns
        -------
        self : object
            The fitted classifier.
        """
        if groups is not None:
            X = ImageSequence(np.asarray(images_for(self, X)), groups=groups)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        super().fit(X, y, **weights)
        return self


def alexnet_cnnrnn_dctlstm(
    *, weights: Any = "imagenet", random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> SubjectVotingClassifier:
    """Build AlexNet, a CNN-RNN and a DCT-LSTM, whose outputs are averaged, of Shah et al.

    Known from the source: the three networks, and the average of their outputs. Assumed: what
    `CNNRNN` and `DCTLSTM` list; ImageNet weights for AlexNet and for the CNN-RNN's convolutions
    (the LSTMs start from random weights, since none are published); all settings of training,
    which are those of `presets.paper`.

    torchvision's AlexNet has 61,100,840 parameters with its 1000-class head, where the paper has
    over 62 million. The CNN-RNN has 2,667,328 and the DCT-LSTM 99,328, without output layers.

    Parameters
    ----------
    weights : "imagenet", path or None, default="imagenet"
        Initial weights of the two AlexNets.
    random_state : int, RandomState instance or None, default=None
        Seed of the three `CNNClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, for all three networks.

    Returns
    -------
    SubjectVotingClassifier
        The unfitted classifier. Its estimators are "alexnet", "cnn_rnn" and "dct_lstm", as in
        ``set_params(dct_lstm__featurizer__training__max_epochs=20)``.

    References
    ----------
    S. Shah et al., "Classification of normal and leukemic blast cells in B-ALL cancer using a
    combination of convolutional and recurrent neural networks", ISBI 2019 C-NMC Challenge.

    Examples
    --------
    >>> from effboost.comparators import alexnet_cnnrnn_dctlstm
    >>> [name for name, _ in alexnet_cnnrnn_dctlstm().estimators]
    ['alexnet', 'cnn_rnn', 'dct_lstm']
    """

    def network(backbone: Any, weights: Any, normalize: str) -> CNNClassifier:
        settings = {"backbone": backbone, "weights": weights, "normalize": normalize} | featurizer
        return CNNClassifier(
            build_featurizer(kind=ImageFeaturizer, **settings),
            random_state=random_state,
            verbose=verbose,
        )

    return SubjectVotingClassifier(
        [
            ("alexnet", network("alexnet", weights, "backbone")),
            ("cnn_rnn", network(_CNN_RNN, weights, "backbone")),
            ("dct_lstm", network(_DCT_LSTM, None, "unit")),
        ],
        voting="soft",
    )
