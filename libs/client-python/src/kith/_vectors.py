"""Vectors between numpy and the wire, where floats are packed f32: bytes are copied, no number is looked at twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kith._checks import shown
from kith.errors import KithError, error_of
from kith.v1 import common_pb2

#: An array of one dimension, or a sequence of numbers. Of a field of matrices: an array of two dimensions, or a sequence of rows.
VectorInput = NDArray[Any] | Sequence[float] | Sequence[Sequence[float]] | Sequence[NDArray[Any]]
FloatArray = NDArray[np.float32]

_WIRE_FLOAT: Final = np.dtype("<f4")
#: Rows of one matrix.
MATRIX_ROWS_MAX: Final = 2_048


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


def is_matrix(value: object) -> bool:
    """Whether what stands for a vector is a matrix: an array of two dimensions, or a sequence of vectors."""
    if isinstance(value, np.ndarray):
        return value.ndim == 2
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence) or not value:
        return False
    return isinstance(value[0], np.ndarray | list | tuple)


def field_value(value: object, name: str = "") -> FloatArray:
    """A vector (an array of one dimension) or a matrix (of two), as f32, checked. DIMENSION_MISMATCH names a row that is not like the first."""
    if not is_matrix(value):
        return floats_of(value, name)
    of = f' "{name}"' if name else ""
    count = len(value)  # type: ignore[arg-type]
    if count > MATRIX_ROWS_MAX:
        raise error_of(
            "LIMIT_OUT_OF_RANGE",
            f"the matrix{of} has {count} rows; at most {MATRIX_ROWS_MAX} are allowed",
            {"field": name, "rows": count, "limit": MATRIX_ROWS_MAX},
        )
    if isinstance(value, np.ndarray):
        if value.shape[0] == 0:
            raise error_of("DIMENSION_MISMATCH", f"the matrix{of} has no rows", {"field": name, "rows": 0})
        return check_matrix(value, count, name)
    rows: list[FloatArray] = []
    given: Sequence[object] = value  # type: ignore[assignment]
    for i, row in enumerate(given):
        try:
            rows.append(floats_of(row, name))
        except KithError as error:
            message = f"row {i} of the matrix{of}: {error.message}"
            raise error_of(error.code, message, {**error.details, "row": i}) from error
        if rows[i].size != rows[0].size:
            raise error_of(
                "DIMENSION_MISMATCH",
                f"row {i} of the matrix{of} has {rows[i].size} dimensions, and row 0 has {rows[0].size}; all rows need the same",
                {"field": name, "row": i, "expected": int(rows[0].size), "got": int(rows[i].size)},
            )
    return np.stack(rows)


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
    floats = field_value(vector, name)
    wire = common_pb2.Vector.FromString(packed_field(1, floats))
    if floats.ndim == 2:
        wire.rows = floats.shape[0]
    return wire


def vector_from_wire(wire: common_pb2.Vector) -> FloatArray:
    """An array of its own, which may be changed; of two dimensions for a matrix. Behind the packed floats stand only the rows of one."""
    count = len(wire.values)
    data = wire.SerializeToString()
    tail = 1 + len(_varint(wire.rows)) if wire.rows else 0
    floats = np.frombuffer(data, dtype=_WIRE_FLOAT, count=count, offset=len(data) - tail - 4 * count).astype(np.float32)
    return floats.reshape(wire.rows, -1) if wire.rows else floats
