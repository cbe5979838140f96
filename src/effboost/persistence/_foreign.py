"""Recognition of files that are not models of effboost."""

from __future__ import annotations

from typing import Final

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._manifest import MANIFEST

__all__ = ["HEAD_BYTES", "check_is_ours"]

HEAD_BYTES: Final = 512
_PICKLED: Final = (
    "pickles and joblib files can run any code when they are read, so effboost.load does not read "
    "them. If you trust its author, read it with joblib.load; effboost.save then writes a safe file"
)
_MAGIC: Final = {
    b"\x1f\x8b": f"is compressed by gzip, as joblib files often are: {_PICKLED}",
    b"BZh": f"is compressed by bzip2, as joblib files often are: {_PICKLED}",
    b"\xfd7zXZ": f"is compressed by xz, as joblib files often are: {_PICKLED}",
    b"\x04\x22\x4d\x18": f"is compressed by lz4, as joblib files often are: {_PICKLED}",
    b"\x89HDF": "is an HDF5 file, not a model of effboost",
    b"\x93NUMPY": "is an array of NumPy, not a model of effboost",
}
_INSIDE: Final = {
    "data.pkl": f"is a file of torch.save, which is a pickle: {_PICKLED}. For weights, use "
    "ImageFeaturizer(weights=path)",
    ".npy": "is an .npz file of NumPy or a file of skops, not a model of effboost",
}


def check_is_ours(head: bytes) -> None:
    """Check by its first bytes that a file may be a model file.

    Raises
    ------
    RefusedError
        If it is another file; the message says which kind.
    """
    if not head:
        raise RefusedError("is empty (0 bytes)")
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise RefusedError(what)
    # Protocols 2 and later begin with PROTO; joblib compresses by zlib.
    if head[:1] == b"\x80" and 2 <= head[1] <= 5 if len(head) > 1 else False:
        raise RefusedError(f"is a pickle or joblib file: {_PICKLED}")
    if head[:1] == b"\x78" and head[:2] in (b"x\x01", b"x^", b"x\x9c", b"x\xda"):
        raise RefusedError(f"is compressed by zlib, as joblib files often are: {_PICKLED}")
    if not head.startswith(b"PK\3\4"):
        raise RefusedError(
            "is not a model of effboost: those are zip files; effboost.OnnxClassifier reads .onnx "
            "files"
        )
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")
    if name != MANIFEST:
        hints = [hint for end, hint in _INSIDE.items() if name.endswith(end)]
        raise RefusedError(
            hints[0]
            if hints
            else f"is another zip file: its first member is {quote_name(name)}, not {MANIFEST}"
        )
