"""onnxruntime sessions on the CPU with one thread per image."""

from __future__ import annotations

from typing import Any

__all__ = ["start_session"]


def start_session(graph: bytes) -> Any:
    """Load a graph so that each call runs in the thread of its caller."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Errors are raised; do not print them as well.
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )
