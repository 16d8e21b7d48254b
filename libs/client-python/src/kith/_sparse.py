"""Sparse vectors: numbers by index, checked as the server does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kith._checks import only_keys, shown, wrong_value
from kith.errors import KithError, error_of
from kith.v1 import collections_pb2, common_pb2, sparse_pb2

_ENTRIES_MAX: Final = 16_384
_INDEX_MOST: Final = 2**32 - 1
_VALUE_MOST: Final = 1e17
_INDICES: Final = np.dtype("<u4")
_VALUES: Final = np.dtype("<f4")
_MODIFIERS: Final = {None: sparse_pb2.SPARSE_MODIFIER_UNSPECIFIED, "idf": sparse_pb2.SPARSE_MODIFIER_IDF}


@dataclass(frozen=True, eq=False)
class SparseVector:
    """Values by index. Where the server gives it out, indices ascend."""

    indices: NDArray[np.uint32]
    values: NDArray[np.float32]


#: {"indices": ..., "values": ...} of sequences or arrays, or what a read gave.
SparseInput = SparseVector | Mapping[str, Any]


def is_sparse(value: object) -> bool:
    return isinstance(value, SparseVector) or (isinstance(value, Mapping) and "indices" in value)


def sparse_of(given: object, name: str = "") -> SparseVector:
    """Sorted by index. INVALID_ARGUMENT, DIMENSION_MISMATCH, VECTOR_NOT_FINITE, VECTOR_OUT_OF_RANGE and LIMIT_OUT_OF_RANGE, as docs/sparse.md says."""
    what = f"the sparse vector{f' {name!r}' if name else ''}"
    if isinstance(given, SparseVector):
        indices, values = _numbers(given.indices, what, "indices"), _numbers(given.values, what, "values")
    elif isinstance(given, Mapping):
        fields = only_keys(given, ("indices", "values"), what)
        indices = _numbers(fields.get("indices"), what, "indices")
        values = _numbers(fields.get("values"), what, "values")
    else:
        raise _wrong("INVALID_ARGUMENT", f"{what} is {shown(given)}; give indices and values", name)
    count = indices.size
    if values.size != count:
        raise _wrong("DIMENSION_MISMATCH", f"{what} has {count} indices and {values.size} values", name)
    if count == 0:
        raise _wrong("INVALID_ARGUMENT", f"{what} has no entries; give one at least, or leave it out", name)
    if count > _ENTRIES_MAX:
        raise _wrong("LIMIT_OUT_OF_RANGE", f"{what} has {count} entries; at most {_ENTRIES_MAX} are allowed", name)
    good = (indices >= 0) & (indices <= _INDEX_MOST) & (indices == np.floor(indices))
    if not good.all():
        at = indices[int(np.argmin(good))]
        raise _wrong(
            "INVALID_ARGUMENT", f"{what} has the index {at:g}; indices are whole numbers of 0 to {_INDEX_MOST}", name
        )
    finite = np.isfinite(values)
    if not finite.all():
        at = int(np.argmin(finite))
        raise _wrong("VECTOR_NOT_FINITE", f"{what} has the value {values[at]} at the index {indices[at]:.0f}", name)
    if (np.abs(values) > _VALUE_MOST).any():
        raise _wrong("VECTOR_OUT_OF_RANGE", f"{what} has a value beyond {_VALUE_MOST:g}: scale the vectors", name)
    order = np.argsort(indices, kind="stable")
    ascending = indices[order]
    twice = np.flatnonzero(ascending[1:] == ascending[:-1])
    if twice.size > 0:
        raise _wrong("INVALID_ARGUMENT", f"{what} has the index {ascending[twice[0]]:.0f} twice", name)
    return SparseVector(ascending.astype(_INDICES), values[order].astype(_VALUES))


def _numbers(given: object, what: str, key: str) -> NDArray[np.float64]:
    """Not coerced: "0.5" is no number, None no 0, True no 1."""
    if isinstance(given, np.ndarray):
        good = given.ndim == 1 and given.dtype.kind in "fiu"
    else:
        good = (
            isinstance(given, Sequence)
            and not isinstance(given, str | bytes | bytearray)
            and all(map(_is_number, given))
        )
    if good:
        return np.asarray(given, dtype=np.float64)
    raise _wrong("INVALID_ARGUMENT", f'"{key}" of {what} must be a sequence or an array of numbers', key)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) or isinstance(value, np.floating | np.integer)


def _wrong(code: str, message: str, name: str) -> KithError:
    return error_of(code, message, {"field": name})


def sparse_vectors(fields: Mapping[str, Any]) -> dict[str, SparseVector]:
    """Those of a point, by name."""
    named = fields.get("sparse")
    if named is None:
        return {}
    if not isinstance(named, Mapping):
        raise wrong_value("sparse", named, "give a mapping from names to sparse vectors")
    return {name: sparse_of(each, name) for name, each in named.items()}


def sparse_to_wire(given: object, name: str = "") -> common_pb2.Vector:
    vector = sparse_of(given, name)
    return common_pb2.Vector(indices=vector.indices.tolist(), values=vector.values.tolist())


def sparse_from_wire(wire: common_pb2.Vector) -> SparseVector:
    return SparseVector(np.array(wire.indices, dtype=np.uint32), np.array(wire.values, dtype=np.float32))


def sparse_column(name: str, rows: Sequence[SparseVector]) -> sparse_pb2.SparseVectorColumn:
    offsets = np.zeros(len(rows) + 1, dtype=_INDICES)
    np.cumsum([row.indices.size for row in rows], out=offsets[1:])
    return sparse_pb2.SparseVectorColumn(
        name=name,
        offsets=offsets.tobytes(),
        indices=b"".join([row.indices.tobytes() for row in rows]),
        values=b"".join([row.values.tobytes() for row in rows]),
    )


def sparse_field_to_wire(name: str, spec: Mapping[str, Any]) -> sparse_pb2.SparseVectorField:
    modifier = only_keys(spec, ("modifier",), f"sparse.{name}").get("modifier")
    if modifier not in _MODIFIERS:
        raise error_of("INVALID_SCHEMA", f'the modifier of "{name}" is {shown(modifier)}; give "idf", or leave it out')
    return sparse_pb2.SparseVectorField(name=name, modifier=_MODIFIERS[modifier])


def modifier_of(wire: sparse_pb2.SparseVectorField) -> str | None:
    return "idf" if wire.modifier == sparse_pb2.SPARSE_MODIFIER_IDF else None


def sparse_fields(
    specs: Mapping[str, Mapping[str, Any]] | None,
) -> list[sparse_pb2.SparseVectorField]:
    return [sparse_field_to_wire(name, spec) for name, spec in (specs or {}).items()]


def add_sparse_request(collection: str, name: str, modifier: str | None) -> collections_pb2.AddVectorFieldRequest:
    spec = {} if modifier is None else {"modifier": modifier}
    return collections_pb2.AddVectorFieldRequest(collection=collection, sparse=sparse_field_to_wire(name, spec))
