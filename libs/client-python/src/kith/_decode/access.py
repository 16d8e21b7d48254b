"""Keys and roles between the wire and Python."""

from __future__ import annotations

from typing import Final

from kith._checks import only_keys, whole_number
from kith._decode.wire import time_in
from kith._filters import filter_to_json
from kith.types import AccessLimits, KeyInfo, KeySecret, MadeKey, RoleInfo, RoleRule
from kith.v1 import keys_pb2

_LIMIT_KEYS: Final = (
    "requests_per_second",
    "points_per_second",
    "bytes_per_second",
    "concurrent_queries",
    "stored_points",
    "stored_bytes",
)


def limits_to_wire(limits: AccessLimits | None) -> keys_pb2.AccessLimits | None:
    if limits is None:
        return None
    fields = only_keys(limits, _LIMIT_KEYS, "limits")
    return keys_pb2.AccessLimits(
        **{name: whole_number(value, f"limits.{name}", high=2**53) for name, value in fields.items()}
    )


def _limits(wire: keys_pb2.AccessLimits) -> AccessLimits:
    return {name: value for name in _LIMIT_KEYS if (value := getattr(wire, name))}  # type: ignore[return-value]


def key_from_wire(wire: keys_pb2.Key) -> KeyInfo:
    secrets = [KeySecret(time_in(each, "created_at"), time_in(each, "expires_at")) for each in wire.secrets]
    return KeyInfo(
        wire.id,
        wire.name,
        wire.role,
        list(wire.collections),
        time_in(wire, "created_at"),
        time_in(wire, "expires_at"),
        secrets,
        _limits(wire.limits),
    )


def made_key(wire: keys_pb2.CreateKeyResponse | keys_pb2.RotateKeyResponse) -> MadeKey:
    return MadeKey(key_from_wire(wire.key), wire.secret)


def role_from_wire(wire: keys_pb2.Role) -> RoleInfo:
    rules = [
        RoleRule(
            list(each.verbs), list(each.collections), filter_to_json(each.filter) if each.HasField("filter") else None
        )
        for each in wire.rules
    ]
    return RoleInfo(wire.name, rules, wire.is_built_in, _limits(wire.limits))
