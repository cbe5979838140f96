"""Sessions of onnxruntime, all alike: on the CPU, one thread an image."""

from __future__ import annotations

from typing import Any

__all__ = ["start_session"]


def start_session(graph: bytes) -> Any:
    """Load a graph so that each call computes in the thread that makes it, with none beside it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Errors are raised; it would print them as well, and try again in the same way.
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )
