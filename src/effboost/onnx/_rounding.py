"""Rounding of the weights of convolutions to few bits, so that their outputs change little."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["extract_patches", "round_weights"]

_Array = npt.NDArray[Any]

# Share of the mean of the diagonal that is added to it, so that the matrix can be inverted.
_DAMPING: Final = 0.01
# Neighbouring patches of one image are nearly equal: these are enough.
_MAX_PATCHES: Final = 1024


def extract_patches(
    images: _Array,
    kernel: tuple[int, int],
    *,
    groups: int,
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilations: tuple[int, int],
) -> _Array:
    """Extract what a convolution multiplies its weights with, at up to 1024 of its positions.

    Parameters
    ----------
    images : ndarray of shape (1, channels, height, width)
        Its input.
    kernel, groups, strides, pads, dilations
        As in ONNX.

    Returns
    -------
    ndarray of shape (groups, n_weights, n_positions)
        The patches; their values are in the order of the weights of one output.
    """
    top, left, bottom, right = pads
    padded = np.pad(images[0], ((0, 0), (top, bottom), (left, right)))
    reach = [(side - 1) * step + 1 for side, step in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    channels, height, width = windows.shape[:3]
    step = -(-height * width // _MAX_PATCHES)
    rows, columns = np.divmod(np.arange(0, height * width, step), width)
    chosen = windows[:, rows, columns].reshape(channels, len(rows), -1).transpose(0, 2, 1)
    return np.ascontiguousarray(chosen).reshape(groups, -1, len(rows))


def round_weights(weights: _Array, moments: _Array, scales: _Array, limit: int) -> _Array:
    """Round weights to whole numbers, each making up for the rounding of those before it.

    The numbers nearest to the weights change the outputs more than others do, since the inputs of a
    convolution are alike: in even areas, rounding errors of all weights add up. This is the
    algorithm of [1]_ (OBQ in a fixed order, known as GPTQ).

    Parameters
    ----------
    weights : ndarray of shape (groups, n_outputs, n_weights)
        The weights.
    moments : ndarray of shape (groups, n_weights, n_weights)
        The mean of x x' over inputs x of the weights.
    scales : ndarray of shape (groups, n_outputs)
        What a difference of one stands for.
    limit : int
        The largest whole number, and with a minus the smallest.

    Returns
    -------
    ndarray of shape (groups, n_outputs, n_weights)
        Whole numbers, as floats; times `scales`, they are close to the weights.

    References
    ----------
    .. [1] E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh: "GPTQ: Accurate Post-Training
       Quantization for Generative Pre-trained Transformers", ICLR 2023.
    """
    n = weights.shape[2]
    diagonal = np.einsum("gii->gi", moments)
    damping = _DAMPING * diagonal.mean(axis=1, keepdims=True)
    # A network whose activations are all zero has no preferred directions.
    damped = moments + np.eye(n) * np.where(damping > 0, damping, 1.0)[..., None]
    # The largest inputs first: later weights make up for their rounding.
    order = np.argsort(-diagonal, axis=1, kind="stable")
    damped = np.take_along_axis(damped, order[:, :, None], axis=1)
    damped = np.take_along_axis(damped, order[:, None, :], axis=2)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    left = np.take_along_axis(weights.astype(np.float64), order[:, None, :], axis=2)
    rounded = np.empty(weights.shape)
    for i in range(n):
        rounded[:, :, i] = np.clip(np.round(left[:, :, i] / scales), -limit, limit)
        error = (left[:, :, i] - rounded[:, :, i] * scales) / upper[:, i, i, None]
        left[:, :, i + 1 :] -= error[:, :, None] * upper[:, None, i, i + 1 :]
    return np.take_along_axis(rounded, np.argsort(order, axis=1)[:, None, :], axis=2)
