"""Why one image cannot be read, before it is known which one."""

from __future__ import annotations

from effboost.exceptions import ImageDecodeError

__all__ = ["UnreadableError"]


class UnreadableError(Exception):
    """Says why one image cannot be read; the sequence adds which one."""

    def __init__(self, reason: str, kind: type[ImageDecodeError] = ImageDecodeError):
        self.kind = kind
        super().__init__(reason)
