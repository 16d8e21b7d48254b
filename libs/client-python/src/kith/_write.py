"""Writes on the wire."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from kith._checks import integer_of, invalid, names_of, one_of, only_keys, partition_of, shown, wrong_value
from kith._filters import filter_of
from kith._ids import Id, id_to_wire, set_id_column
from kith._sparse import SparseVector, sparse_column, sparse_of, sparse_to_wire, sparse_vectors
from kith._times import expiry_ms
from kith._vectors import FloatArray, check_matrix, field_value, is_matrix, vector_to_wire
from kith.errors import ERROR_CODES, InvalidRequestError, KithError, error_of
from kith.types import FilterInput, PartitionValue, Point, PointInput, VectorsInput, WriteAck, WriteMode, WriteTarget
from kith.v1 import common_pb2, filter_pb2, points_pb2

BATCH_POINTS: Final = 10_000
_PAYLOAD_BYTES: Final = 64 * 1024
_KEY_BYTES: Final = 64
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_ACKS: Final = {"log": common_pb2.ACK_LOG, "applied": common_pb2.ACK_APPLIED, "all": common_pb2.ACK_ALL}
_MODES: Final = {
    "upsert": points_pb2.UPSERT_MODE_UNSPECIFIED,
    "insert": points_pb2.UPSERT_MODE_INSERT_ONLY,
    "update": points_pb2.UPSERT_MODE_UPDATE_ONLY,
}
# Beside what is written, what reads give: a point that was read can be written again.
_POINT_KEYS: Final = (
    "id",
    "vector",
    "vectors",
    "sparse",
    "payload",
    "expires_at",
    "expected_version",
    "version",
    "score",
    "order",
)
_POINT_FIELDS: Final = tuple(each.name for each in dataclass_fields(Point) if each.name != "version")
_VECTORS_KEYS: Final = ("id", "vector", "vectors", "sparse")

# After these, repeating the write under its key is of no use. After every other code it may have taken effect, as a whole or in part;
# libs/client/write.ts tells why.
_SETTLED: Final = {code for code, (_, kind) in ERROR_CODES.items() if kind is InvalidRequestError} | {
    "COLLECTION_NOT_FOUND",
    "COLLECTION_NOT_READY",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "TLS_MISMATCH",
    "CERTIFICATE_UNTRUSTED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
}


def mode_to_wire(mode: WriteMode) -> points_pb2.UpsertMode:
    return one_of(_MODES, mode, "mode")


def random_key() -> str:
    """An idempotency key that no other write has: 128 random bits."""
    return secrets.token_hex(16)


def write_options(ack: WriteAck, idempotency_key: str | None) -> points_pb2.WriteOptions:
    """The options of one write; its key stays the same over all retries, which makes them safe."""
    key = random_key() if idempotency_key is None else idempotency_key
    # What UTF-8 cannot hold counts as nothing: "?" in its place would make one key of different ones.
    size = len(key.encode()) if isinstance(key, str) and not _SURROGATE.search(key) else 0
    if not 1 <= size <= _KEY_BYTES:
        raise wrong_value("idempotency_key", key, f"it must have 1 to {_KEY_BYTES} bytes of UTF-8")
    return points_pb2.WriteOptions(ack=one_of(_ACKS, ack, "ack"), idempotency_key=key)


def unknown_outcome(error: KithError, idempotency_key: str) -> KithError:
    """The error of a write, saying so where its outcome is not known, with the key that makes a repetition safe."""
    if error.code in _SETTLED:
        return error
    message = f'{error.message}; the outcome of the write is unknown: a retry with the same idempotency_key ("{idempotency_key}") is safe'
    return error_of(error.code, message, {**error.details, "idempotencyKey": idempotency_key}, error.retry_after_ms)


def check_batch_count(count: int) -> None:
    if count == 0:
        raise error_of("INVALID_ARGUMENT", "the batch is empty; pass at least one item")
    if count > BATCH_POINTS:
        raise error_of(
            "BATCH_TOO_LARGE",
            f"the batch has {count} items; at most {BATCH_POINTS} fit in one call: use upsert_many, or several calls",
            {"count": count, "limit": BATCH_POINTS},
        )


def payload_bytes(payload: object) -> bytes:
    """JSON in UTF-8, which may be given as it is; empty bytes for no payload."""
    if payload is None:
        return b""
    if isinstance(payload, bytes | bytearray | memoryview):
        data = bytes(payload)
    elif isinstance(payload, Mapping):
        try:
            data = json.dumps(
                payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain
            ).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise error_of("INVALID_PAYLOAD", f"the payload cannot be written as JSON: {error}") from error
    else:
        raise error_of("INVALID_PAYLOAD", f"a payload must be a mapping, not {shown(payload)}")
    if len(data) > _PAYLOAD_BYTES:
        raise error_of(
            "PAYLOAD_TOO_LARGE",
            f"the payload has {len(data)} bytes of JSON; at most {_PAYLOAD_BYTES} are allowed",
            {"sizeBytes": len(data), "limitBytes": _PAYLOAD_BYTES},
        )
    return data


def _plain(value: object) -> object:
    """What json does not know and payloads often have."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def point_fields(point: object, known: Sequence[str] = _POINT_KEYS) -> Mapping[str, Any]:
    """The point as a mapping, whether it was written by hand or read; unknown keys are refused."""
    if isinstance(point, Point):
        return {name: getattr(point, name) for name in _POINT_FIELDS if getattr(point, name) is not None}
    if not isinstance(point, Mapping):
        raise error_of(
            "INVALID_ARGUMENT", f'a point is a mapping {{"id", "vector", "payload"}} or a Point, not {shown(point)}'
        )
    for key in point:
        if key not in known:
            raise error_of(
                "INVALID_ARGUMENT",
                f"a point has no {shown(key)}; known here are {', '.join(known[:6])}",
                {"field": shown(key)},
            )
    return point


def named_vectors(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Dense ones by name; "" is the unnamed one. INVALID_ARGUMENT for none at all, nor a sparse one."""
    given: dict[str, Any] = {}
    if fields.get("vector") is not None:
        given[""] = fields["vector"]
    named = fields.get("vectors")
    if named is not None:
        if not isinstance(named, Mapping):
            raise wrong_value("vectors", named, "give a mapping from names to vectors")
        if "" in named:
            raise error_of("INVALID_ARGUMENT", 'the unnamed vector goes into "vector", not "vectors"')
        given.update(named)
    if not given and not fields.get("sparse"):
        raise error_of(
            "INVALID_ARGUMENT",
            f'the point {shown(fields.get("id"))} has no vector; give it "vector" or, for named ones, "vectors" or "sparse"',
        )
    return given


def expected_version(version: object) -> int:
    if version is None:
        return 0
    number = integer_of(version)
    if number is not None and number > 0:
        return number
    raise wrong_value("expected_version", version, "give the version that a read has shown")


class Row:
    """One point, checked."""

    __slots__ = ("expires_at_ms", "id", "payload", "size_bytes", "sparse", "vectors", "version", "wire_id")

    def __init__(self, point: object) -> None:
        fields = point_fields(point)
        self.id = fields.get("id")
        self.wire_id = id_to_wire(self.id)  # type: ignore[arg-type]
        self.vectors: dict[str, FloatArray] = {
            name: field_value(vector, name) for name, vector in named_vectors(fields).items()
        }
        self.sparse: dict[str, SparseVector] = sparse_vectors(fields)
        self.payload = payload_bytes(fields.get("payload"))
        self.expires_at_ms = expiry_ms(fields.get("expires_at"))
        self.version = expected_version(fields.get("expected_version"))
        self.size_bytes = 16 + len(self.payload) + sum(vector.nbytes for vector in self.vectors.values())
        self.size_bytes += sum(8 * vector.indices.size for vector in self.sparse.values())

    @property
    def shape(self) -> tuple[tuple[str, int, int], ...]:
        dense = ((name, vector.ndim, vector.shape[-1]) for name, vector in self.vectors.items())
        return tuple(sorted([*dense, *((name, 0, -1) for name in self.sparse)]))


def rows_of(points: Sequence[object]) -> list[Row]:
    """The rows of a batch; an error says which point it was."""
    rows = []
    for index, point in enumerate(points):
        try:
            rows.append(Row(point))
        except KithError as error:
            given = point.get("id") if isinstance(point, Mapping) else getattr(point, "id", None)
            message = f"points[{index}] (id {shown(given)}): {error.message}"
            raise error_of(error.code, message, {**error.details, "index": index}) from error
    return rows


def set_columns(request: points_pb2.UpsertColumnsRequest, rows: Sequence[Row]) -> None:
    """Rows of one shape, as one matrix per field."""
    wires = [row.wire_id for row in rows]
    if all(each.WhichOneof("id") == "num" for each in wires):
        request.nums = np.fromiter((each.num for each in wires), dtype="<u8", count=len(wires)).tobytes()
    else:
        request.ids.ids.extend(wires)
    for name in rows[0].vectors:
        column = request.vectors.add(name=name, matrix=b"".join([row.vectors[name].tobytes() for row in rows]))
        if rows[0].vectors[name].ndim == 2:
            column.rows.extend(row.vectors[name].shape[0] for row in rows)
    for name in rows[0].sparse:
        request.sparse_vectors.append(sparse_column(name, [row.sparse[name] for row in rows]))
    if any(row.payload for row in rows):
        request.payloads.extend(row.payload for row in rows)
    if any(row.expires_at_ms for row in rows):
        request.expires_at_ms.extend(row.expires_at_ms for row in rows)
    if any(row.version for row in rows):
        request.expected_versions.extend(row.version for row in rows)


def upsert_request(rows: Sequence[Row]) -> points_pb2.UpsertRequest:
    """The row form, for points of unlike shapes in one request."""
    request = points_pb2.UpsertRequest()
    for row in rows:
        point = request.points.add(id=row.wire_id, payload=row.payload)
        for name, vector in row.vectors.items():
            point.vectors[name].CopyFrom(vector_to_wire(vector, name))
        for name, sparse in row.sparse.items():
            point.vectors[name].CopyFrom(sparse_to_wire(sparse, name))
    if any(row.expires_at_ms for row in rows):
        request.expires_at_ms.extend(row.expires_at_ms for row in rows)
    if any(row.version for row in rows):
        request.expected_versions.extend(row.version for row in rows)
    return request


def columns_request(
    ids: object, vectors: object, payloads: object, expires_at: object, sparse: object = None
) -> points_pb2.UpsertColumnsRequest:
    """Columns as they lie in memory: one matrix of numpy for the unnamed vector, or one by name."""
    if not isinstance(ids, np.ndarray) and (not isinstance(ids, Sequence) or isinstance(ids, str | bytes)):
        raise wrong_value("ids", ids, "give a sequence of ids, or an array of whole numbers")
    check_batch_count(len(ids))
    request = points_pb2.UpsertColumnsRequest()
    set_id_column(request, ids)
    named = {"": vectors} if isinstance(vectors, np.ndarray) else {} if vectors is None else vectors
    columns = {} if sparse is None else sparse
    if not isinstance(columns, Mapping):
        raise wrong_value("sparse", sparse, "give a sequence of sparse vectors by name")
    if not isinstance(named, Mapping) or (not named and not columns):
        raise wrong_value("vectors", vectors, "give an array of two dimensions, or one by name")
    for name, matrix in named.items():
        if isinstance(matrix, np.ndarray) and matrix.ndim == 2:
            request.vectors.add(name=name, matrix=check_matrix(matrix, len(ids), name).tobytes())
            continue
        # Of a field of matrices: an array of three dimensions, or one matrix for each id.
        if not isinstance(matrix, np.ndarray | Sequence) or not all(is_matrix(each) for each in matrix):
            raise wrong_value(
                f"vectors[{name!r}]", matrix, "give an array of two dimensions, or one matrix for each id"
            )
        if len(matrix) != len(ids):
            raise error_of(
                "DIMENSION_MISMATCH",
                f"there are {len(matrix)} matrices of {name!r} for {len(ids)} ids; give one each",
                {"field": name, "got": len(matrix), "idCount": len(ids)},
            )
        matrices = [field_value(each, name) for each in matrix]
        data = b"".join([each.tobytes() for each in matrices])
        request.vectors.add(name=name, matrix=data, rows=[each.shape[0] for each in matrices])
    for name, rows in columns.items():
        if not isinstance(rows, Sequence) or len(rows) != len(ids):
            raise error_of(
                "INVALID_ARGUMENT", f'"sparse" of "{name}" must have one item for each of the {len(ids)} ids'
            )
        request.sparse_vectors.append(sparse_column(name, [sparse_of(row, name) for row in rows]))
    for what, given in (("payloads", payloads), ("expires_at", expires_at)):
        if given is not None and (not isinstance(given, Sequence) or len(given) != len(ids)):
            raise error_of(
                "INVALID_ARGUMENT", f"{what} must be a sequence with one item for each of the {len(ids)} ids"
            )
    if payloads is not None:
        request.payloads.extend(payload_bytes(each) for each in payloads)  # type: ignore[attr-defined]
    if expires_at is not None:
        request.expires_at_ms.extend(expiry_ms(each) for each in expires_at)  # type: ignore[attr-defined]
    return request


def versions_to_wire(expected: int | Sequence[int] | None) -> list[int]:
    """One expected version for one id, or one for each."""
    if expected is None:
        return []
    return [expected_version(each) for each in ([expected] if integer_of(expected) is not None else expected)]  # type: ignore[union-attr]


def target_to_wire(
    target: WriteTarget,
    only_if: FilterInput | None,
    expected: int | Sequence[int] | None,
    partition: PartitionValue | None = None,
) -> points_pb2.WriteTarget:
    """Ids, or {"filter": ...}."""
    wire = points_pb2.WriteTarget(
        only_if=filter_of(only_if), expected_versions=versions_to_wire(expected), partition=partition_of(partition)
    )
    if isinstance(target, Mapping):
        fields = only_keys(target, ("filter",), "the target")
        if "filter" not in fields:
            raise invalid("the target", 'has no "filter"; give one, or ids')
        wire.filter.CopyFrom(_meant_filter(fields["filter"]))
        return wire
    many: Sequence[Id] = [target] if isinstance(target, str | UUID) or integer_of(target) is not None else target  # type: ignore[list-item, assignment]
    wire.ids.ids.extend(id_to_wire(each) for each in many)
    wire.ids.SetInParent()
    return wire


def _meant_filter(given: FilterInput | None) -> filter_pb2.Filter:
    """INVALID_ARGUMENT for None and for an empty text: a variable that was never set would mean all points."""
    filter_ = None if isinstance(given, str) and given.strip() == "" else filter_of(given)
    if filter_ is None:
        raise invalid("the target's filter", f"is {given!r}; {{}} is the filter that all points pass")
    return filter_


def delete_to_wire(
    target: WriteTarget,
    only_if: FilterInput | None,
    expected: int | Sequence[int] | None,
    partition: PartitionValue | None = None,
) -> points_pb2.DeletePointsRequest:
    wire = target_to_wire(target, only_if, expected, partition)
    request = points_pb2.DeletePointsRequest(
        expected_versions=wire.expected_versions, partition=partition_of(partition)
    )
    if wire.HasField("only_if"):
        request.only_if.CopyFrom(wire.only_if)
    if wire.HasField("filter"):
        request.filter.CopyFrom(wire.filter)
    else:
        request.ids.extend(wire.ids.ids)
    return request


def update_vectors_to_wire(
    given: VectorsInput | Sequence[VectorsInput],
    only_if: FilterInput | None,
    expected: int | Sequence[int] | None,
    partition: PartitionValue | None = None,
) -> points_pb2.UpdateVectorsRequest:
    request = points_pb2.UpdateVectorsRequest(
        only_if=filter_of(only_if), expected_versions=versions_to_wire(expected), partition=partition_of(partition)
    )
    for each in [given] if isinstance(given, Mapping) else given:
        fields = point_fields(each, _VECTORS_KEYS)
        point = request.points.add(id=id_to_wire(fields.get("id")))  # type: ignore[arg-type]
        for name, vector in named_vectors(fields).items():
            point.vectors[name].CopyFrom(vector_to_wire(vector, name))
        for name, sparse in sparse_vectors(fields).items():
            point.vectors[name].CopyFrom(sparse_to_wire(sparse, name))
    return request


_CONDITIONS: Final = ("only_if", "expected_version", "partition")
_OPERATION_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "upsert": ("points", "mode", "only_if"),
    "delete": ("target", *_CONDITIONS),
    "set_payload": ("target", "payload", "path", *_CONDITIONS),
    "overwrite_payload": ("target", "payload", *_CONDITIONS),
    "delete_payload": ("target", "paths", *_CONDITIONS),
    "clear_payload": ("target", *_CONDITIONS),
    "update_vectors": ("points", *_CONDITIONS),
    "delete_vectors": ("target", "vectors", *_CONDITIONS),
    "set_expiry": ("target", "expires_at", *_CONDITIONS),
}


def operation_to_wire(operation: Mapping[str, Any], index: int) -> points_pb2.WriteOperation:
    """One write of a batch; `op` is the name of the method that does it alone."""
    at = f"operations[{index}]"
    if not isinstance(operation, Mapping):
        raise invalid(at, "is no mapping")
    op = operation.get("op")
    known = one_of(_OPERATION_KEYS, op, f"{at}.op")
    fields = only_keys(operation, ("op", *known), at)
    only_if, expected, partition = fields.get("only_if"), fields.get("expected_version"), fields.get("partition")
    if op == "upsert":
        given = fields.get("points")
        points = [given] if isinstance(given, Mapping | Point) else given
        if not isinstance(points, Sequence):
            raise invalid(f"{at}.points", "is missing, or no point and no sequence of points")
        upsert = upsert_request(rows_of(points))
        upsert.mode = mode_to_wire(fields.get("mode", "upsert"))
        condition = filter_of(only_if)
        if condition is not None:
            upsert.only_if.CopyFrom(condition)
        return points_pb2.WriteOperation(upsert=upsert)
    if op == "update_vectors":
        return points_pb2.WriteOperation(
            update_vectors=update_vectors_to_wire(fields.get("points", ()), only_if, expected, partition)
        )
    if "target" not in fields:
        raise invalid(f"{at}.target", "is missing")
    if op == "delete":
        return points_pb2.WriteOperation(delete=delete_to_wire(fields["target"], only_if, expected, partition))
    target = target_to_wire(fields["target"], only_if, expected, partition)
    if op == "set_payload":
        payload = payload_bytes(fields.get("payload"))
        path = fields.get("path", "")
        return points_pb2.WriteOperation(
            set_payload=points_pb2.SetPayloadRequest(target=target, payload=payload, path=path)
        )
    if op == "overwrite_payload":
        payload = payload_bytes(fields.get("payload"))
        return points_pb2.WriteOperation(
            overwrite_payload=points_pb2.OverwritePayloadRequest(target=target, payload=payload)
        )
    if op == "delete_payload":
        paths = names_of(fields.get("paths", ()), f"{at}.paths")
        return points_pb2.WriteOperation(delete_payload=points_pb2.DeletePayloadRequest(target=target, paths=paths))
    if op == "clear_payload":
        return points_pb2.WriteOperation(clear_payload=points_pb2.ClearPayloadRequest(target=target))
    if op == "delete_vectors":
        vectors = names_of(fields.get("vectors", ()), f"{at}.vectors")
        return points_pb2.WriteOperation(delete_vectors=points_pb2.DeleteVectorsRequest(target=target, vectors=vectors))
    expires_at_ms = expiry_ms(fields.get("expires_at"))
    return points_pb2.WriteOperation(set_expiry=points_pb2.SetExpiryRequest(target=target, expires_at_ms=expires_at_ms))


def points_of(given: PointInput | Point | Sequence[PointInput | Point]) -> Sequence[object]:
    """One point, or several."""
    if isinstance(given, Mapping | Point):
        return [given]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return given
    raise error_of(
        "INVALID_ARGUMENT",
        f"points are {shown(given)}; give a point or a sequence of points (upsert_many takes any iterable)",
    )
