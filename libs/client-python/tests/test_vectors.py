"""numpy in and out, and what is refused."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from uuid import UUID

import numpy as np
import pytest

import kith
from kith._vectors import field_value, floats_of, packed_field, vector_from_wire, vector_to_wire
from kith._write import columns_request, payload_bytes
from kith.v1 import common_pb2, points_pb2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int8", "int64", "uint16"])
def test_arrays_of_every_kind_of_number_are_taken(dtype: str) -> None:
    floats = floats_of(np.array([1, 2, 3], dtype=dtype))
    assert floats.dtype == np.dtype("<f4")
    assert floats.tolist() == [1, 2, 3]


def test_float32_is_not_copied() -> None:
    vector = np.array([1, 2], dtype=np.float32)
    assert np.shares_memory(floats_of(vector), vector)


def test_a_slice_with_strides_keeps_its_values() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert floats_of(matrix[:, 1]).tolist() == [1, 5, 9]


@pytest.mark.parametrize(
    ("vector", "code"),
    [
        (np.array([True, False]), "INVALID_ARGUMENT"),
        (np.array(["1", "2"]), "INVALID_ARGUMENT"),
        (np.array([1, None], dtype=object), "INVALID_ARGUMENT"),
        (np.array([1j]), "INVALID_ARGUMENT"),
        (np.array([[1.0, 2.0]]), "DIMENSION_MISMATCH"),
        (np.array([]), "DIMENSION_MISMATCH"),
        (np.array([1, np.nan]), "VECTOR_NOT_FINITE"),
        (np.array([1, 1e39]), "VECTOR_NOT_FINITE"),
        ([1, "2"], "VECTOR_NOT_FINITE"),
        ([1, True], "VECTOR_NOT_FINITE"),
        ([1, None], "VECTOR_NOT_FINITE"),
        ([1, 10**400], "VECTOR_NOT_FINITE"),
        (b"12", "INVALID_ARGUMENT"),
        ({1, 2}, "INVALID_ARGUMENT"),
        (5, "INVALID_ARGUMENT"),
    ],
)
def test_what_is_no_vector_is_refused(vector: object, code: str) -> None:
    with pytest.raises(kith.InvalidRequestError) as caught:
        floats_of(vector, "image")
    assert caught.value.code == code


def test_the_wire_form_is_that_of_protobuf() -> None:
    vector = np.random.default_rng(1).standard_normal(1000, dtype=np.float32)
    wire = vector_to_wire(vector)
    assert wire == common_pb2.Vector(values=vector.tolist())
    assert np.array_equal(vector_from_wire(wire), vector)
    request = points_pb2.QueryRequest(collection="c", limit=3)
    request.MergeFromString(packed_field(points_pb2.QueryRequest.VECTOR_FIELD_NUMBER, vector))
    assert request == points_pb2.QueryRequest(collection="c", limit=3, vector=vector.tolist())


def test_what_was_read_may_be_changed() -> None:
    vector = vector_from_wire(common_pb2.Vector(values=[1, 2]))
    vector += 1
    assert vector.tolist() == [2, 3]


def test_columns_are_sent_as_they_lie_in_memory() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    request = columns_request(np.array([1, 2, 2**64 - 1], dtype=np.uint64), matrix, None, None)
    assert request.vectors[0].matrix == matrix.tobytes()
    assert np.frombuffer(request.nums, dtype="<u8").tolist() == [1, 2, 2**64 - 1]


@pytest.mark.parametrize(
    ("ids", "matrix", "code"),
    [
        ([1, 2], np.zeros((3, 2)), "DIMENSION_MISMATCH"),
        ([1, 2], np.zeros(4), "INVALID_ARGUMENT"),
        ([1, 2], [[1, 2], [3, 4]], "INVALID_ARGUMENT"),
        ([1, 2], np.array([[1, 2], [np.inf, 4]]), "VECTOR_NOT_FINITE"),
        (np.array([-1, 2]), np.zeros((2, 2)), "INVALID_ID"),
        (np.array([1.0, 2.0]), np.zeros((2, 2)), "INVALID_ARGUMENT"),
        ("12", np.zeros((2, 2)), "INVALID_ARGUMENT"),
        ([], np.zeros((0, 2)), "INVALID_ARGUMENT"),
    ],
)
def test_columns_that_do_not_fit_are_refused(ids: object, matrix: object, code: str) -> None:
    with pytest.raises(kith.InvalidRequestError) as caught:
        columns_request(ids, matrix, None, None)
    assert caught.value.code == code


def test_payloads_take_what_programs_have() -> None:
    payload = {
        "a": np.float32(0.5),
        "b": np.arange(2),
        "c": UUID(int=1),
        "d": datetime(2024, 5, 1, tzinfo=timezone.utc),
        "e": 2**60,
    }
    read = json.loads(payload_bytes(payload))
    assert read == {"a": 0.5, "b": [0, 1], "c": str(UUID(int=1)), "d": "2024-05-01T00:00:00+00:00", "e": 2**60}
    assert payload_bytes(b'{"x":1.0}') == b'{"x":1.0}'


@pytest.mark.parametrize("payload", [[1], "x", {"x": float("nan")}, {"x": {1, 2}}, {"x": object()}])
def test_what_is_no_payload_is_refused(payload: object) -> None:
    with pytest.raises(kith.InvalidRequestError) as caught:
        payload_bytes(payload)
    assert caught.value.code == "INVALID_PAYLOAD"


def test_a_payload_beyond_its_limit_is_refused() -> None:
    with pytest.raises(kith.KithError) as caught:
        payload_bytes({"x": "y" * 70_000})
    assert caught.value.code == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_matrices_go_and_come_as_arrays_of_two_dimensions(rows: int) -> None:
    matrix = np.arange(3 * rows, dtype=np.float64).reshape(rows, 3)
    for given in (matrix, matrix.tolist(), list(matrix)):
        wire = vector_to_wire(given)
        assert wire.rows == rows
        back = vector_from_wire(common_pb2.Vector.FromString(wire.SerializeToString()))
        assert back.dtype == np.float32
        assert back.tolist() == matrix.tolist()


@pytest.mark.parametrize(
    ("matrix", "code", "said"),
    [
        ([[1, 2], [3]], "DIMENSION_MISMATCH", "row 1"),
        ([[1, 2], [3, None]], "VECTOR_NOT_FINITE", "row 1"),
        (np.array([[1, np.nan]]), "VECTOR_NOT_FINITE", "element 1 of row 0"),
        (np.zeros((0, 2)), "DIMENSION_MISMATCH", "no rows"),
        (np.zeros((2, 0)), "DIMENSION_MISMATCH", "shape"),
        (np.zeros((2_049, 1)), "LIMIT_OUT_OF_RANGE", "2049 rows"),
    ],
)
def test_what_is_no_matrix_is_refused(matrix: object, code: str, said: str) -> None:
    with pytest.raises(kith.KithError, match=said) as caught:
        field_value(matrix)
    assert caught.value.code == code


def test_columns_take_a_matrix_for_each_id() -> None:
    matrices = [np.ones((2, 3)), np.full((1, 3), 2.0)]
    request = columns_request([1, 2], {"tokens": matrices, "plain": np.ones((2, 4))}, None, None)
    by_name = {each.name: each for each in request.vectors}
    assert list(by_name["tokens"].rows) == [2, 1]
    assert len(by_name["tokens"].matrix) == 4 * 9
    assert list(by_name["plain"].rows) == []
    assert list(columns_request([1, 2], np.ones((2, 5, 3)), None, None).vectors[0].rows) == [5, 5]
