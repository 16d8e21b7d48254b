"""The scenarios that every SDK passes (test/conformance/scenarios.json); test/scenarios/conformance.test.ts runs the same in TypeScript."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

import kith
from kith._filters import filter_of, filter_to_json
from kith.v1 import filter_pb2

SCENARIOS = json.loads((ROOT / "test" / "conformance" / "scenarios.json").read_text())["scenarios"]

# What belongs to the user under these keys stays as it is.
OPAQUE = {"payload", "filter", "onlyIf", "labels", "defaults", "condition"}
# Their second argument is a payload.
PAYLOAD_CALLS = {"setPayload", "overwritePayload"}
# Texts that are names of the API.
NAMED = {"op", "strategy", "multivector"}


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def snaked(value: Any, key: str = "") -> Any:
    if key in OPAQUE:
        return value
    if isinstance(value, dict):
        return {snake(name): snaked(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [snaked(each) for each in value]
    return snake(value) if key in NAMED else value


def plain(value: Any) -> Any:
    """A result as the TypeScript SDK gives it."""
    if isinstance(value, kith.KithError):
        return {"code": value.code}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {camel(each.name): plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
        if hasattr(value, "ok"):
            fields["ok"] = value.ok
        return fields
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value


def check(found: Any, expected: Any, at: str) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, Mapping), at
        for key, each in expected.items():
            # Options that stand in a dict keep their snake_case.
            check(found.get(key, found.get(snake(key))), each, f"{at}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list), at
        assert len(found) == len(expected), at
        for i, each in enumerate(expected):
            check(found[i], each, f"{at}[{i}]")
    elif isinstance(expected, float | int) and not isinstance(expected, bool):
        assert found == pytest.approx(expected, abs=1e-4), at
    else:
        assert found == expected, at


def call_of(client: Any, name: str, step: dict[str, Any]) -> Any:
    """The method of a step, with its arguments."""
    *group, method = step["call"].split(".")
    owner = getattr(client, group[0]) if group else client.collection(name)
    args = step.get("args", [])
    args = [each if i == 1 and method in PAYLOAD_CALLS else snaked(each) for i, each in enumerate(args)]
    if method == "get" and isinstance(args[0], list):
        method = "getMany"
    return lambda: getattr(owner, snake(method))(*args, **snaked(step.get("options", {})))


def named(step: dict[str, Any], name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(json.dumps(step).replace("$name", name))
    return result


def judge(step: dict[str, Any], at: str, answer: Any, error: kith.KithError | None) -> None:
    if error is not None:
        assert error.code == step.get("error", "OK"), f"{at}: {error}"
    else:
        assert "error" not in step, at
        if "expect" in step:
            check(plain(answer), step["expect"], at)


@pytest.mark.parametrize("index", range(len(SCENARIOS)), ids=[each["name"] for each in SCENARIOS])
def test_sync(client: kith.KithClient, index: int) -> None:
    name = f"conformance-python-{index}"
    for i, raw in enumerate(SCENARIOS[index]["steps"]):
        step, answer, failed = named(raw, name), None, None
        try:
            answer = call_of(client, name, step)()
            if inspect.isgenerator(answer):
                answer = list(answer)
        except kith.KithError as error:
            failed = error
        judge(step, f"step {i}, {step}", answer, failed)


@pytest.mark.anyio
@pytest.mark.parametrize("index", range(len(SCENARIOS)), ids=[each["name"] for each in SCENARIOS])
async def test_async(async_client: kith.AsyncKithClient, index: int) -> None:
    name = f"conformance-async-{index}"
    for i, raw in enumerate(SCENARIOS[index]["steps"]):
        step, answer, failed = named(raw, name), None, None
        try:
            answer = call_of(async_client, name, step)()
            answer = [each async for each in answer] if inspect.isasyncgen(answer) else await answer
        except kith.KithError as error:
            failed = error
        judge(step, f"step {i}, {step}", answer, failed)


def test_filters_are_the_messages_of_the_typescript_sdk() -> None:
    """Drawn at random by its property tests: the message of the text, and of the JSON form."""
    for each in json.loads((ROOT / "test" / "conformance" / "filters.json").read_text()):
        of_text = filter_pb2.Filter.FromString(base64.b64decode(each["wire"]))
        of_json = filter_pb2.Filter.FromString(base64.b64decode(each.get("jsonWire", each["wire"])))
        assert filter_of(each["text"]) == of_text, each["text"]
        assert filter_of(json.loads(each["json"])) == of_json, each["json"]
        assert filter_of(filter_to_json(of_json)) == of_json, each["json"]
