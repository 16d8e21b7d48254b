"""Vectors between numpy and the wire, where floats are packed f32: bytes are copied, no number is looked at twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kith._checks import shown
from kith.errors import KithError, error_of
from kith.v1 import common_pb2

#: An array of one dimension, or a sequence of numbers.
VectorInput = NDArray[Any] | Sequence[float]
FloatArray = NDArray[np.float32]

_WIRE_FLOAT: Final = np.dtype("<f4")


def floats_of(vector: object, name: str = "") -> FloatArray:
    """The vector as little-endian f32, checked, not coerced: "0.5" is no number, None no 0, True no 1, and 1e300 nothing that f32 holds."""
    of = f' "{name}"' if name else ""
    if isinstance(vector, np.ndarray):
        if vector.ndim != 1:
            raise error_of(
                "DIMENSION_MISMATCH",
                f"the vector{of} has {vector.ndim} dimensions; give an array of one",
                {"field": name},
            )
        return _checked(vector, name)
    if isinstance(vector, str | bytes | bytearray) or not isinstance(vector, Sequence):
        raise error_of(
            "INVALID_ARGUMENT",
            f"the vector{of} is {shown(vector)}; give an array of numpy or a sequence of numbers",
            {"field": name},
        )
    for i, value in enumerate(vector):
        # bool is an int for Python.
        if type(value) is float or type(value) is int or isinstance(value, np.floating | np.integer):
            continue
        raise _not_finite(name, i, value)
    try:
        wide = np.array(vector, dtype=np.float64)
    except OverflowError:
        at = next(i for i, value in enumerate(vector) if isinstance(value, int) and abs(value) > 2**1000)
        raise _not_finite(name, at, vector[at]) from None
    return _checked(wide, name)


def _checked(vector: NDArray[Any], name: str) -> FloatArray:
    if vector.size == 0:
        of = f' "{name}"' if name else ""
        raise error_of("DIMENSION_MISMATCH", f"the vector{of} is empty", {"field": name, "got": 0})
    floats = packed(vector, f"the vector{f' {name!r}' if name else ''}")
    finite = np.isfinite(floats)
    if not finite.all():
        at = int(np.argmin(finite))
        raise _not_finite(name, at, vector[at].item())
    return floats


def packed(array: NDArray[Any], what: str) -> FloatArray:
    """As contiguous little-endian f32: the same memory where it is that already."""
    if array.dtype.kind not in "fiu":
        raise error_of("INVALID_ARGUMENT", f"{what} has elements of {array.dtype}; use floats or integers")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=_WIRE_FLOAT)


def _not_finite(name: str, at: int, value: object) -> KithError:
    of = f' "{name}"' if name else ""
    return error_of(
        "VECTOR_NOT_FINITE",
        f"element {at} of the vector{of} is {shown(value)}; every element must be a number that f32 holds",
        {"field": name, "element": at, "value": shown(value)},
    )


def check_matrix(matrix: object, count: int, name: str) -> FloatArray:
    """Rows of f32, one for each of `count` ids."""
    of = f' "{name}"' if name else ""
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        raise error_of(
            "INVALID_ARGUMENT",
            f"the matrix{of} must be an array of two dimensions, one row for each id",
            {"field": name},
        )
    if matrix.shape[0] != count or matrix.shape[1] == 0:
        raise error_of(
            "DIMENSION_MISMATCH",
            f"the matrix{of} has the shape {matrix.shape}; {count} ids take {count} rows of one element at least",
            {"field": name, "got": int(matrix.shape[0]), "idCount": count},
        )
    floats = packed(matrix, f"the matrix{of}")
    finite = np.isfinite(floats)
    if not finite.all():
        row, column = divmod(int(np.argmin(finite)), matrix.shape[1])
        raise error_of(
            "VECTOR_NOT_FINITE",
            f"element {column} of row {row} of the matrix{of} is {matrix[row, column]}; every element must be a number that f32 holds",
            {"field": name, "row": row, "element": column},
        )
    return floats


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def packed_field(number: int, floats: FloatArray) -> bytes:
    """A field of packed floats as it is on the wire (https://protobuf.dev/programming-guides/encoding/#packed), to be merged into a message."""
    data = floats.tobytes()
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def vector_to_wire(vector: object, name: str = "") -> common_pb2.Vector:
    return common_pb2.Vector.FromString(packed_field(1, floats_of(vector, name)))


def vector_from_wire(wire: common_pb2.Vector) -> FloatArray:
    """An array of its own, which may be changed. A message of packed floats ends with them."""
    count = len(wire.values)
    data = wire.SerializeToString()
    return np.frombuffer(data, dtype=_WIRE_FLOAT, count=count, offset=len(data) - 4 * count).astype(np.float32)
