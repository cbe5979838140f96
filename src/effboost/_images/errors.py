"""The error of one image, before its position in the sequence is known."""

from __future__ import annotations

from effboost.exceptions import ImageDecodeError

__all__ = ["UnreadableError"]


class UnreadableError(Exception):
    """Reason why one image cannot be read; the sequence adds which one."""

    def __init__(self, reason: str, kind: type[ImageDecodeError] = ImageDecodeError):
        self.kind = kind
        super().__init__(reason)
