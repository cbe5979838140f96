"""What the layers of a network return, as feature maps."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from effboost.backbones._stages import is_of_timm

__all__ = ["MapLayout"]


@dataclasses.dataclass(frozen=True)
class MapLayout:
    """How the layers of a network lay out positions and channels.

    Attributes
    ----------
    grid : (int, int) or None
        Rows and columns of the patch tokens of a vision transformer.
    n_prefix : int
        Number of tokens before them: class token and register tokens.
    channels_last : bool
        Whether maps are of shape (b, h, w, c), as in Swin transformers.

    Examples
    --------
    >>> import torch
    >>> from effboost.backbones import MapLayout
    >>> layout = MapLayout(grid=(14, 14), n_prefix=1)  # of a ViT-B/16 at 224 pixels
    >>> layout.as_map(torch.zeros(2, 197, 768)).shape
    torch.Size([2, 768, 14, 14])
    """

    grid: tuple[int, int] | None = None
    n_prefix: int = 0
    channels_last: bool = False

    @classmethod
    def of(cls, module: nn.Module) -> MapLayout:
        """Look up the layout of a network.

        Parameters
        ----------
        module : torch.nn.Module
            The network.

        Returns
        -------
        MapLayout
            Its layout.
        """
        if not is_of_timm(module):
            return cls()
        n_prefix = getattr(module, "num_prefix_tokens", None)
        grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
        if n_prefix is None or grid is None:
            return cls(channels_last=getattr(module, "output_fmt", None) == "NHWC")
        return cls((int(grid[0]), int(grid[1])), int(n_prefix))

    def as_map(self, value: object) -> torch.Tensor | None:
        """Return a layer's output as a map, or None if it is none.

        Parameters
        ----------
        value : object
            What the layer returned.

        Returns
        -------
        torch.Tensor of shape (b, c, h, w) or None
            The map.
        """
        if not isinstance(value, torch.Tensor) or value.ndim != (4 if self.grid is None else 3):
            return None
        if self.grid is not None:
            n_patches = self.grid[0] * self.grid[1]
            if value.shape[1] not in (n_patches, n_patches + self.n_prefix):
                return None
        return self.convert(value)

    def convert(self, value: torch.Tensor) -> torch.Tensor:
        """Turn a layer's output, known to be a map, into one of shape (b, c, h, w).

        Its shape is not read, so that torch.fx can trace this.

        Parameters
        ----------
        value : torch.Tensor
            What the layer returned.

        Returns
        -------
        torch.Tensor of shape (b, c, h, w)
            The map.
        """
        if self.grid is not None:
            n_patches = self.grid[0] * self.grid[1]
            return value[:, -n_patches:].transpose(1, 2).unflatten(2, self.grid)
        return value.permute(0, 3, 1, 2) if self.channels_last else value
