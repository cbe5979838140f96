"""What is wrong with a model file, before it is known which file."""

__all__ = ["RefusedError"]


class RefusedError(Exception):
    """Says what is wrong with a model file; its reader adds which file."""
