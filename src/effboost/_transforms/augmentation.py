"""Random views of training images."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from effboost._transforms.stain import jitter_stain
from effboost._utils.compat import Interval
from effboost._utils.parameter_set import ParameterSet

__all__ = ["Augmentation"]


class Augmentation(ParameterSet):
    """Random flips, rotations and colour changes of training images.

    The paper flips horizontally and vertically with probability 0.2 each and rotates by up to 10
    degrees, after the resize. It does not state the interpolation; bilinear with black corners is
    assumed.

    Parameters
    ----------
    horizontal_flip, vertical_flip : float, default=0.2
        Probability of each flip.
    rotation : float, default=10.0
        Largest angle in degrees, in both directions.
    n_views : int, default=1
        Random views of each image in an epoch.
    frozen_views : int, default=5
        Number of different random views of each image if `trainable` freezes the first stages. The
        output of the frozen stages is computed once for each view, and the epochs use the views in
        turn, which saves most of the work. Has no effect if all stages are trained.
    quarter_turns : bool, default=False
        Before the rotation, turn by 0, 90, 180 or 270 degrees with equal probability; no pixel is
        interpolated or lost. With flips of 0.5 and ``rotation=0``, all eight orientations of a
        square have equal probability.
    stain_jitter : float, default=0.0
        Vary the amount (absorbance) of each of three stains, haematoxylin, eosin and
        diaminobenzidine: multiply it by a random factor between ``1 - stain_jitter`` and ``1 +
        stain_jitter``, and add a random number between ``-stain_jitter`` and ``stain_jitter``.
        Tellez et al. [1]_ use 0.05 and 0.2. Black pixels stay black.

    References
    ----------
    .. [1] D. Tellez et al., "Quantifying the effects of data augmentation and stain color
       normalization in convolutional neural networks for computational pathology", Medical Image
       Analysis 58, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> from effboost import Augmentation
    >>> Augmentation().apply(Image.new("RGB", (32, 32)), np.random.default_rng(0)).size
    (32, 32)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "horizontal_flip": [Interval(Real, 0, 1, closed="both")],
        "vertical_flip": [Interval(Real, 0, 1, closed="both")],
        "rotation": [Interval(Real, 0, 360, closed="both")],
        "n_views": [Interval(Integral, 1, 1000, closed="both")],
        "frozen_views": [Interval(Integral, 1, None, closed="left")],
        "quarter_turns": ["boolean"],
        "stain_jitter": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        horizontal_flip: float = 0.2,
        vertical_flip: float = 0.2,
        *,
        rotation: float = 10.0,
        n_views: int = 1,
        frozen_views: int = 5,
        quarter_turns: bool = False,
        stain_jitter: float = 0.0,
    ):
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.rotation = rotation
        self.n_views = n_views
        self.frozen_views = frozen_views
        self.quarter_turns = quarter_turns
        self.stain_jitter = stain_jitter

    def apply(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Draw one random view of an image.

        Parameters
        ----------
        image : PIL.Image.Image
            An image in mode RGB, already resized.
        rng : numpy.random.Generator
            Source of the random numbers: always three, one more with `quarter_turns`, and six more
            with `stain_jitter`.

        Returns
        -------
        PIL.Image.Image
            An image of the same size.
        """
        horizontal, vertical, turn = rng.random(3)
        if horizontal < self.horizontal_flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if vertical < self.vertical_flip:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if self.quarter_turns:
            image = image.rotate(90 * int(rng.integers(4)))  # moves pixels of a square exactly
        if self.rotation:
            angle = self.rotation * (2 * turn - 1)
            image = image.rotate(angle, Image.Resampling.BILINEAR)
        if self.stain_jitter:
            image = jitter_stain(image, self.stain_jitter, rng)
        return image
