"""Arrays changed in dtype, rank, shape and values, as .npy files and as they are in boosters."""

import io

import numpy as np

__all__ = ["change_array", "change_npy"]

DTYPES = ("f2", "f4", "f8", ">f8", "i1", "i4", "i8", "u1", "u8", "?", "U1", "U40", "c16", "S4")
STRUCTURES = ("f8,i4", "i4,i4,i4", [("a", "f8", (2,))], "V12", "V1")
ODD = (0, 1, -1, 2, 3, 7, 10**6, 2**31 - 1, -(2**31), 2**62, 0.5, 1e-300, 1e30, 3e38, 1e300)
HEADERS = (
    "{'descr': '<U0', 'fortran_order': False, 'shape': (400000000,)}",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (400000000,)}",
    "{'descr': '|S0', 'fortran_order': False, 'shape': (2, 200000000)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 1099511627776)}",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (-1, -8)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': [('a', '<f8', (99999, 99999))], 'fortran_order': False, 'shape': (0,)}",
    "{'descr': ('<f8', (3,)), 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,)}" % ("9" * 900),
    "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 1.0)}",
)


def change_npy(content, rng):
    """Change the array of an .npy file, or write a header by hand."""
    if rng.random() < 0.1:
        text = rng.choice(HEADERS).encode() + b"\n"
        data = rng.choice([b"", content[128:]])
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    array = np.load(io.BytesIO(content), allow_pickle=False)
    for _ in range(rng.choice([1, 1, 1, 2])):
        array = change_array(array, rng)
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def change_array(array, rng):
    """Change dtype, rank, length or values of an array."""
    kind = rng.choice(["values"] * 5 + ["dtype", "structure", "rank", "length", "order"])
    try:
        with np.errstate(all="ignore"):
            return _CHANGES[kind](array, rng)
    # Not every dtype can be cast to every other.
    except (TypeError, ValueError, OverflowError):
        return np.zeros(array.shape, rng.choice(DTYPES))


def _change_values(array, rng):
    array = np.array(array)
    if array.dtype.names:
        # One field of the nodes of a tree.
        name = rng.choice(array.dtype.names)
        array[name] = _change_values(array[name], rng)
        return array
    if not array.size:
        return array
    odd = rng.choice((*ODD, float("nan"), float("inf"), -float("inf")))
    how = rng.choice(["one", "one", "one", "all", "scale", "negate", "shuffle", "sort", "random"])
    flat = array.reshape(-1)
    if how == "one":
        flat[rng.randrange(array.size)] = odd
    elif how == "all":
        flat[:] = odd
    elif how == "scale":
        flat[:] = flat * odd
    elif how == "negate":
        flat[:] = -flat
    elif how == "shuffle":
        flat[:] = flat[rng.sample(range(array.size), array.size)]
    elif how == "sort":
        flat[:] = np.sort(flat)[:: rng.choice([1, -1])]
    else:
        flat.view(np.uint8)[:] = np.frombuffer(rng.randbytes(flat.nbytes), np.uint8)
    return array


def _change_dtype(array, rng):
    return array.astype(rng.choice(DTYPES))


def _change_structure(array, rng):
    return np.zeros(array.shape, rng.choice(STRUCTURES))


def _change_rank(array, rng):
    how = rng.choice(["none", "flat", "front", "back", "many", "turned"])
    if how == "none":
        return array.reshape(-1)[:1].reshape(()) if array.size else np.zeros((), array.dtype)
    if how == "flat":
        return array.reshape(-1)
    if how == "many":
        return array.reshape((1,) * 9 + array.shape)
    if how == "turned":
        return array.T
    return array[None] if how == "front" else array[..., None]


def _change_length(array, rng):
    how = rng.choice(["empty", "shorter", "longer", "twice", "last", "one"])
    if not array.ndim:
        return np.repeat(array, rng.choice([0, 1, 5]))
    if how == "last":
        return array[..., :-1]
    if how == "longer":
        return np.concatenate([array, array[:1]])
    if how == "twice":
        return np.concatenate([array, array])
    return {"empty": array[:0], "shorter": array[:-1], "one": array[:1]}[how]


def _change_order(array, rng):
    return np.asfortranarray(array)


_CHANGES = {
    "values": _change_values,
    "dtype": _change_dtype,
    "structure": _change_structure,
    "rank": _change_rank,
    "length": _change_length,
    "order": _change_order,
}
