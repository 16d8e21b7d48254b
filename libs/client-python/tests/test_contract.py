"""That the client is what it says: the codes of the server, the calls of the protos, the methods of the TypeScript SDK."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from google.protobuf import descriptor_pb2, descriptor_pool

import kith
from kith._aio import admin as async_admin
from kith._sync import admin, collection
from kith._texts import highlight_to_wire
from kith.errors import ERROR_CODES, RETRYABLE, error_of
from kith.v1 import calls, points_pb2

PACKAGE = ROOT / "libs" / "client-python"
sys.path.insert(0, str(PACKAGE))

import generate  # noqa: E402
import make_sync  # noqa: E402


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)


def test_the_codes_are_those_of_the_server() -> None:
    source = (ROOT / "libs" / "base" / "errors.ts").read_text()
    statuses = {name: int(number) for name, number in re.findall(r"^  ([A-Z_]+): (\d+),$", source, re.MULTILINE)}
    classes: dict[str, tuple[int, bool]] = {}
    for name, body in re.findall(r"^const (\w+): ErrorClass = \{(.*?)\};", source, re.MULTILINE | re.DOTALL):
        number = re.search(r"grpcStatus: grpc\.([A-Z_]+)", body)
        assert number is not None
        classes[name] = (statuses[number[1]], "retryable: true" in body)
    table = source[source.index("errorTable = {") : source.index("} as const satisfies Record")]
    expected = {code: classes[name] for code, name in re.findall(r"^  ([A-Z_]+): (\w+),$", table, re.MULTILINE)}
    for code, body in re.findall(r"^  ([A-Z_]+): \{(.*?)\},?$", table, re.MULTILINE | re.DOTALL):
        number = re.search(r"grpcStatus: grpc\.([A-Z_]+)", body)
        assert number is not None
        expected[code] = (statuses[number[1]], "retryable: true" in body)
    assert len(expected) > 40
    assert {code: (status, code in RETRYABLE) for code, (status, _) in ERROR_CODES.items()} == expected


def test_errors_can_be_decided_by_class_and_sent_on() -> None:
    error = error_of("COLLECTION_NOT_FOUND", "there is none", {"collection": "x"}, 5)
    assert isinstance(error, kith.NotFoundError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, again.details, again.retry_after_ms) == (
        kith.NotFoundError,
        error.code,
        error.details,
        5,
    )
    assert type(error_of("NEW_CODE", "of a newer server")) is kith.KithError


def test_the_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    generate.main(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert len(made) == 2 + 2 * len(list((ROOT / "proto" / "kith" / "v1").glob("*.proto")))
    installed = Path(inspect.getfile(calls)).parents[2]
    for path in made:
        assert (installed / path).read_bytes() == (tmp_path / path).read_bytes(), f"{path} is stale: run generate.py"


def test_generating_twice_gives_the_same(tmp_path: Path) -> None:
    generate.main(tmp_path / "a")
    generate.main(tmp_path / "b")
    for path in (tmp_path / "a").rglob("*.py*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_every_call_of_the_api_is_used() -> None:
    """But for the stream of queries, whose requests this client makes one by one."""
    pool = descriptor_pool.Default()
    paths = set()
    for file in sorted((ROOT / "proto" / "kith" / "v1").glob("*.proto")):
        described = descriptor_pb2.FileDescriptorProto()
        pool.FindFileByName(f"kith/v1/{file.name}").CopyToProto(described)
        paths |= {
            f"/kith.v1.{service.name}/{method.name}" for service in described.service for method in service.method
        }
    table = {name: each for name, each in vars(calls).items() if isinstance(each, calls.Call)}
    assert {each.path for each in table.values()} == paths
    source = "".join(path.read_text() for path in (PACKAGE / "src" / "kith" / "_aio").glob("*.py"))
    assert {name for name in table if f"calls.{name}" not in source} == {"POINTS_QUERY_STREAM"}


def test_the_sync_client_is_made_of_the_async_one() -> None:
    for path, text in make_sync.results().items():
        assert path.read_text() == text, f"{path.name} is stale: run make_sync.py"


def methods_of(source: str) -> set[str]:
    found = set(re.findall(r"^  (?:async \*?|\*)?([a-z]\w*)(?:<[^>]*>)?\(", source, re.MULTILINE))
    return {snake(name) for name in found} - {"constructor"}


def test_collections_have_the_methods_of_the_typescript_sdk() -> None:
    expected: set[str] = set()
    # What is about the collection itself, and what is about its points.
    for file, name in (("collection-schema.ts", "CollectionSchema"), ("collection.ts", "CollectionHandle")):
        source = (ROOT / "libs" / "client" / file).read_text()
        body = source[source.index(f"class {name}") :]
        expected |= methods_of(body[: body.index("\n}\n")])
    has = {
        name
        for name, _ in inspect.getmembers(collection.CollectionHandle, inspect.isfunction)
        if not name.startswith("_")
    }
    assert expected - has == set()
    # TypeScript tells one id from several by their type.
    assert has - expected == {"get_many"}


@pytest.mark.parametrize(
    ("kind", "file"),
    [(admin.Backups, "backups.ts"), (admin.Keys, "keys.ts"), (admin.Roles, "keys.ts")],
    ids=lambda each: str(each),
)
def test_the_rest_has_them_too(kind: type, file: str) -> None:
    source = (ROOT / "libs" / "client" / file).read_text()
    body = source[source.index(f"export class {kind.__name__} ") :]
    body = body[: body.index("\n}\n")]
    has = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    assert has == methods_of(body)


def test_the_client_has_what_the_typescript_client_has() -> None:
    source = (ROOT / "libs" / "client" / "client.ts").read_text()
    for group, kind in (("collections", admin.Collections), ("aliases", admin.Aliases), ("cluster", admin.Cluster)):
        body = source[source.index(f"readonly {group} = {{") :]
        body = body[: body.index("\n  };")]
        expected = {snake(name) for name in re.findall(r"^    (\w+): (?:async )?\(", body, re.MULTILINE)}
        has = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        assert has == expected, group


def test_query_options_are_those_of_the_typescript_sdk() -> None:
    source = (ROOT / "libs" / "client" / "query.ts").read_text()
    body = source[source.index("const queryKeys = [") :]
    expected = {snake(name) for name in re.findall(r'"(\w+)"', body[: body.index("]")])} - {"signal"}
    assert set(inspect.signature(collection.CollectionHandle.query).parameters) - {"self"} == expected


def test_options_are_those_of_the_typescript_sdk() -> None:
    source = (ROOT / "libs" / "client" / "option-keys.ts").read_text()
    shared: dict[str, list[str]] = {}
    for name, body in re.findall(r"^const (\w+) = \[(.*?)\];", source, re.MULTILINE | re.DOTALL):
        shared[name] = re.findall(r'"(\w+)"', body) + [
            key for other in re.findall(r"\.\.\.(\w+)", body) for key in shared[other]
        ]
    table = source[source.index("optionKeys = {") :]
    table = table[: table.index("}")]
    checked = 0
    for method, body in re.findall(r"^  (\w+): (\[.*?\]|\w+),$", table, re.MULTILINE | re.DOTALL):
        keys = re.findall(r'"(\w+)"', body) + [
            key for other in re.findall(r"\b(?:\.\.\.)?(call|write|read)\b", body) for key in shared[other]
        ]
        expected = {snake(key) for key in keys} - {"signal"}
        has = {
            name
            for name, each in inspect.signature(getattr(collection.CollectionHandle, snake(method))).parameters.items()
            if each.kind is inspect.Parameter.KEYWORD_ONLY
        }
        assert has == expected, method
        checked += 1
    assert checked > 15


def test_both_clients_take_the_same_arguments() -> None:
    for name, kind in inspect.getmembers(admin, inspect.isclass):
        other = getattr(async_admin, f"Async{name}", None)
        if other is None:
            continue
        for method, function in inspect.getmembers(kind, inspect.isfunction):
            assert list(inspect.signature(function).parameters) == list(
                inspect.signature(getattr(other, method)).parameters
            )


def test_highlights_are_asked_for_as_they_are_given() -> None:
    assert highlight_to_wire(True, "highlight") == points_pb2.Highlight()
    given = {"text": {"text": "wing", "plain": True}, "fields": "title", "before": "", "fragment_count": 2}
    wire = highlight_to_wire(given, "highlight")
    assert (wire.text.text, wire.text.plain, list(wire.fields), wire.fragment_count) == ("wing", True, ["title"], 2)
    # An empty mark is one, and not the default.
    assert wire.HasField("before")
    assert not wire.HasField("after")
    for wrong, code in (({"fragment_length": 0}, "LIMIT_OUT_OF_RANGE"), ({"colour": "red"}, "INVALID_ARGUMENT")):
        with pytest.raises(kith.KithError) as failure:
            highlight_to_wire(wrong, "highlight")
        assert failure.value.code == code
