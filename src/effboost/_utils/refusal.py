"""The error of a model file, before its path is known."""

__all__ = ["RefusedError"]


class RefusedError(Exception):
    """Reason why a model file is refused; its reader adds the path."""
