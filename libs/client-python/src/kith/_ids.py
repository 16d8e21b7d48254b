"""Ids of points between Python and the wire."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from kith._checks import integer_of, shown
from kith.errors import KithError, error_of
from kith.v1 import common_pb2, points_pb2

#: A whole number in 0..2^64-1, a UUID (as uuid.UUID, or as text in the 8-4-4-4-12 form), or a name of 1 to 256 bytes. 1 and "1" are different ids.
Id = int | str | UUID

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_BYTES_MAX: Final = 256
_U64_MAX: Final = 2**64 - 1


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def invalid_id(value: object, why: str) -> KithError:
    return error_of("INVALID_ID", f"the id {shown(value)} is not valid: {why}", {"id": shown(value)})


def id_to_wire(value: Id) -> common_pb2.PointId:
    """INVALID_ID for what is none."""
    if isinstance(value, str):
        if value == "":
            raise invalid_id(value, "a string id must not be empty")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise invalid_id(value, "it has a lone surrogate, which UTF-8 cannot hold") from None
        if size > _BYTES_MAX:
            raise invalid_id(value, f"a string id has at most {_BYTES_MAX} bytes of UTF-8")
        return common_pb2.PointId(uuid=value) if is_uuid(value) else common_pb2.PointId(name=value)
    if isinstance(value, UUID):
        return common_pb2.PointId(uuid=str(value))
    number = integer_of(value)
    if number is None:
        raise invalid_id(value, "an id is a whole number, a UUID or a string")
    if not 0 <= number <= _U64_MAX:
        raise invalid_id(value, f"a number id must be in 0..{_U64_MAX}")
    return common_pb2.PointId(num=number)


def id_from_wire(wire: common_pb2.PointId) -> int | str:
    """UUIDs come back as text in lower case."""
    kind = wire.WhichOneof("id")
    if kind == "num":
        return wire.num
    if kind == "uuid":
        return wire.uuid
    if kind == "name":
        return wire.name
    raise error_of("INTERNAL", "the server sent a point without an id")


def id_key(value: object) -> object:
    """The same for ids that are the same point: a UUID in upper and in lower case."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str):
        return value.lower() if is_uuid(value) else value
    number = integer_of(value)
    return shown(value) if number is None else number


def set_id_column(request: points_pb2.UpsertColumnsRequest, ids: Sequence[Id] | NDArray[Any]) -> None:
    """Ids in the most compact form of the wire: 8 bytes each where all are numbers."""
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise error_of(
                "INVALID_ARGUMENT",
                f"an array of ids has one dimension and whole numbers, not {ids.ndim} of {ids.dtype}",
            )
        if ids.dtype.kind == "i" and ids.size > 0 and ids.min() < 0:
            raise invalid_id(int(ids.min()), f"a number id must be in 0..{_U64_MAX}")
        request.nums = ids.astype("<u8").tobytes()
        return
    wires = [id_to_wire(each) for each in ids]
    if all(each.WhichOneof("id") == "num" for each in wires):
        request.nums = np.fromiter((each.num for each in wires), dtype="<u8", count=len(wires)).tobytes()
    else:
        request.ids.ids.extend(wires)
