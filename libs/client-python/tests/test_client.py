"""The client against a live server: what scenarios in JSON cannot say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import kith
from kith import query as q
from kith import where
from kith.types import BackupGroup, ItemError, SettledBatch, UpsertManyProgress


def ids_of(points: Any) -> list[object]:
    return [point.id for point in points]


def test_numpy_goes_in_and_comes_out(collection: kith.CollectionHandle) -> None:
    vectors = np.random.default_rng(7).standard_normal((100, 2), dtype=np.float32)
    collection.upsert_columns(ids=np.arange(100), vectors=vectors, payloads=[{"n": i} for i in range(100)])
    result = collection.query(vector=vectors[42], limit=1, with_vectors=True)
    assert result.points[0].id == 42
    assert isinstance(result.points[0].vector, np.ndarray)
    assert np.array_equal(result.points[0].vector, vectors[42])


def test_names_of_what_every_object_has_are_names_as_any_other(client: kith.KithClient) -> None:
    names = ["constructor", "__proto__", "toString", "__defineGetter__", "__class__", "__dict__", "keys", "self"]
    rows = client.collection("names-of-objects")
    labels = {name: f"label {name}" for name in names}
    rows.create(vectors={name: {"dimension": 1, "metric": "l2"} for name in names}, labels=labels)
    rows.upsert(
        [
            {"id": i, "vectors": {n: [i] for n in names}, "payload": dict.fromkeys(names, name)}
            for i, name in enumerate(names)
        ]
    )
    assert dict(rows.info().labels) == labels
    for i, name in enumerate(names):
        assert rows.query(vector=[i], using=name, limit=1).points[0].id == i
        assert rows.count(filter={"must": [{"key": name, "match": {"value": name}}]}) == 1
        assert {hit.value for hit in rows.facet(name).hits} == set(names)
        groups = rows.query_groups(vector=[0], using=name, group_by=name, limit=20).groups
        assert [group.value for group in groups] == names
        scored = rows.query(
            query=q.formula(f"{name}.none", defaults={f"{name}.none": 7 + i}),
            prefetch=[q.prefetch(q.nearest([i]), using=name, limit=1)],
        )
        assert scored.points[0].score == 7 + i
    for i, name in enumerate(names):
        rows.update(ef_search={name: 90 + i})
        assert {field.name: field.ef_search for field in rows.info().vectors}[name] == 90 + i
        rows.set_payload([i], {name: "set"})
        rows.delete_vectors([i], [name])
        point = rows.get(i, with_vectors=True)
        assert point is not None
        assert point.payload is not None
        assert point.vectors is not None
        assert point.payload[name] == "set"
        assert set(point.vectors) == set(names) - {name}
        rows.delete_payload([i], [name])
        assert [set(point.payload or {}) for point in rows.get_many([i])] == [set(names) - {name}]
    rows.drop()


def test_ids_of_every_kind_come_back(collection: kith.CollectionHandle) -> None:
    uuid = UUID("550E8400-E29B-41D4-A716-446655440000")
    collection.upsert([{"id": each, "vector": [1, 1]} for each in (2**64 - 1, uuid, "name", np.int64(5))])
    assert {point.id for point in collection.scroll()} == {2**64 - 1, str(uuid), "name", 5}
    assert collection.get(uuid) is not None


def test_integers_beyond_doubles_keep_their_digits(collection: kith.CollectionHandle) -> None:
    collection.upsert({"id": 1, "vector": [1, 1], "payload": {"n": 2**63 - 1}})
    point = collection.get(1)
    assert point is not None
    assert point.payload == {"n": 2**63 - 1}
    assert collection.count(filter=where.equals("n", 2**63 - 1)) == 1
    assert collection.count(filter=where.range("n", gt=2**63 - 2)) == 1


def test_reads_see_the_clients_writes(target: str, collection: kith.CollectionHandle) -> None:
    result = collection.upsert({"id": 1, "vector": [1, 1]}, ack="log")
    assert collection.count() == 1
    assert collection.token.collection_id == result.token.collection_id
    with kith.connect(target) as other:
        token = kith.Token.from_json(result.token.to_json())
        assert other.collection(collection.name).count(consistency=token) == 1


def test_a_token_of_a_deleted_collection_is_refused_and_forgotten(
    client: kith.KithClient, collection: kith.CollectionHandle
) -> None:
    collection.upsert({"id": 1, "vector": [1, 1]})
    token = collection.token
    collection.drop()
    collection.create(vectors={"dimension": 2})
    with pytest.raises(kith.InvalidRequestError) as caught:
        collection.count(consistency=token)
    assert caught.value.code == "INVALID_TOKEN"
    assert collection.count() == 0


def test_a_point_that_was_read_can_be_written_again(collection: kith.CollectionHandle) -> None:
    when = datetime.now(timezone.utc) + timedelta(days=1)
    collection.upsert({"id": 1, "vector": [1, 2], "payload": {"a": 1}, "expires_at": when})
    (point,) = collection.scroll(with_vectors=True)
    assert point.expires_at is not None
    assert abs(point.expires_at - when) < timedelta(milliseconds=2)
    collection.truncate()
    collection.upsert(point)
    (again,) = collection.scroll(with_vectors=True)
    assert again.payload == {"a": 1}
    assert again.expires_at == point.expires_at


def test_versions_guard_writes(collection: kith.CollectionHandle) -> None:
    collection.upsert({"id": 1, "vector": [1, 1]})
    point = collection.get(1)
    assert point is not None
    assert collection.set_payload(1, {"a": 1}, expected_version=point.version).affected == 1
    refused = collection.set_payload([1], {"a": 2}, expected_version=[point.version])
    assert [each.code for each in refused.errors] == ["VERSION_MISMATCH"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (where.equals("parity", "odd"), 10),
        (where.one_of("n", [1, 2, 99]), 2),
        (where.none_of("n", [1, 2]), 18),
        (where.range("n", gte=5, lt=8), 3),
        (where.all(where.equals("parity", "odd"), where.range("n", gt=10)), 5),
        (where.any(where.equals("n", 1), where.equals("n", 2)), 2),
        (where.not_(where.equals("parity", "odd")), 10),
        (where.at_least(2, where.equals("n", 1), where.equals("parity", "odd")), 1),
        (where.has_id(1, 2, "x"), 2),
        (where.starts_with("parity", "ev"), 10),
        (where.words("parity", "odd"), 10),
        (where.any_word("parity", "odd even"), 20),
        (where.phrase("parity", "odd"), 10),
        (where.exists("n"), 20),
        (where.is_empty("n"), 0),
        (where.is_null("n"), 0),
        (where.count("n", gte=1), 20),
        (where.has_vector(), 20),
        (where.all(), 20),
    ],
    ids=str,
)
def test_the_filter_builder(filled: kith.CollectionHandle, condition: dict[str, Any], expected: int) -> None:
    assert filled.count(filter=condition) == expected


def test_slices_share_the_points_out(filled: kith.CollectionHandle) -> None:
    assert sum(filled.count(filter=where.slice(i, 3)) for i in range(3)) == 20


def test_places_and_times(collection: kith.CollectionHandle) -> None:
    collection.upsert(
        {
            "id": 1,
            "vector": [1, 1],
            "payload": {
                "place": {"lat": 52.5, "lon": 13.4},
                "at": "2024-05-01T12:00:00Z",
                "cast": [{"name": "ann", "role": "x"}],
            },
        }
    )
    noon = datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    ring = [(52, 13), (52, 14), (53, 14), (53, 13), (52, 13)]
    for condition in (
        where.near("place", 52.5, 13.4, 10),
        where.within_box("place", 53, 13, 52, 14),
        where.within_polygon("place", ring),
        where.range("at", gte=noon, lte=noon),
        where.nested("cast", where.all(where.equals("name", "ann"), where.equals("role", "x"))),
    ):
        assert collection.count(filter=condition) == 1, condition
    with pytest.raises(kith.KithError, match="no zone"):
        collection.count(filter=where.range("at", gt=datetime(2024, 5, 1)))


@pytest.mark.parametrize(
    ("expression", "score"),
    [
        (q.sum(1, 2, "n"), 4),
        (q.product(2, q.max(1, 3), q.min(4, 5)), 24),
        (q.negate(q.absolute(-2)), -2),
        (q.divide(1, 4), 0.25),
        (q.divide(1, 0, by_zero=9), 9),
        (q.power(q.sqrt(16), 2), 16),
        (q.exp(q.ln(5)), 5),
        (q.log10(1000), 3),
        (q.acosh(1), 0),
        (q.condition(where.equals("parity", "odd")), 1),
        (q.linear_decay("n", target=1, scale=5, midpoint=0.5), 1),
        (q.exponential_decay("n", target=1), 1),
        (q.gauss_decay("n", target=1), 1),
        (q.datetime("1970-01-01T00:01:00Z"), 60),
        (q.datetime_key("at"), 60),
        (q.geo_distance(0, 0, "place"), 0),
    ],
    ids=str,
)
def test_formulas(collection: kith.CollectionHandle, expression: Any, score: float) -> None:
    payload = {"n": 1, "parity": "odd", "at": "1970-01-01T00:01:00Z", "place": {"lat": 0, "lon": 0}}
    collection.upsert({"id": 1, "vector": [1, 1], "payload": payload})
    (point,) = collection.query(query=q.formula(expression), prefetch=[q.prefetch(q.nearest([1, 1]))]).points
    assert point.score == pytest.approx(score, abs=1e-5)


def test_the_query_builder(filled: kith.CollectionHandle) -> None:
    nearest = [q.prefetch(q.nearest(np.array([1.0, 0])), limit=5), q.prefetch(q.nearest(3), limit=5, filter="n > 3")]
    assert ids_of(filled.query(query=q.fusion("rrf", k=2, weights=[2, 1]), prefetch=nearest, limit=1).points) == [4]
    assert len(filled.query(query=q.fusion("dbsf"), prefetch=nearest).points) > 4
    assert ids_of(filled.query(query=q.order_by("n", "desc", start_from=7), limit=2).points) == [7, 6]
    assert len(filled.query(query=q.sample(), limit=4).points) == 4
    assert ids_of(filled.query(query=q.recommend(positive=[1], strategy="best_score"), limit=1).points) == [2]
    assert filled.query(query=q.discover(1, [(2, 20)]), limit=1).points
    assert filled.query(query=q.context([(2, 20)]), limit=1).points
    assert ids_of(filled.query(query=q.nearest([1, 0], diversity=0.5, candidates=10), limit=2).points)[0] == 1


def test_what_texts_vectors_and_sparse_vectors_find_is_fused(client: kith.KithClient) -> None:
    docs = client.collection("fused")
    docs.create(vectors={"dimension": 2}, sparse={"words": {}})
    docs.create_payload_index("title", "bm25")
    titles = ["boundary layer", "layer", "other"]
    words = [{"indices": [1], "values": [1]}, {"indices": [2], "values": [1]}, {"indices": [1, 2], "values": [1, 3]}]
    docs.upsert(
        [
            {"id": n, "vector": [n, 1], "sparse": {"words": words[n]}, "payload": {"title": title}}
            for n, title in enumerate(titles)
        ]
    )
    asked = {"indices": [2], "values": [1]}
    both = docs.query(**q.hybrid(text="boundary", sparse={"words": asked}, weights={"text": 9}))
    assert [point.id for point in both.points] == [0, 2, 1]
    near = q.hybrid(vector=[0, 1], sparse={"words": asked}, weights={"sparse": 3}, limit=2)
    assert [point.id for point in docs.query(**near).points] == [2, 1]
    assert len(q.hybrid(text=q.text("layer"), vector=[0, 1], sparse={"words": asked})["prefetch"]) == 3
    for wrong in (
        {"text": "one"},
        {"text": "one", "vector": [0, 1], "like": [1]},
        {"text": "one", "vector": [0, 1], "weights": {"sparse": 1}},
        {"text": "one", "vector": [0, 1], "weights": {"text": -1}},
        {"text": "one", "vector": [0, 1], "weights": {"dense": 1}},
        {"text": "one", "vector": [0, 1], "weights": {"text": 1}, "fusion": "dbsf"},
    ):
        with pytest.raises(kith.KithError) as failure:
            q.hybrid(**wrong)  # type: ignore[arg-type]
        assert failure.value.code == "INVALID_ARGUMENT"


def test_explain_and_trace(filled: kith.CollectionHandle) -> None:
    result = filled.query(vector=[1, 0], explain=True, trace=True, filter="n > 3")
    assert result.explain is not None
    assert {step.name for step in result.explain.steps} >= {"prepare", "query"}
    assert result.trace_id is not None
    assert len(result.trace_id) == 32
    assert result.trace
    seen: list[object] = []
    assert filled.count(filter="n > 3", on_explain=seen.append) == 17
    assert len(list(filled.scroll(batch=8, on_explain=seen.append))) == 20
    assert len(seen) == 4


def test_groups_with_lookup(client: kith.KithClient, filled: kith.CollectionHandle) -> None:
    others = client.collection("parities")
    others.create(vectors={"dimension": 2}, if_not_exists=True)
    others.upsert({"id": "odd", "vector": [1, 1], "payload": {"label": "odd ones"}})
    result = filled.query_groups(
        "parity", vector=[0, 0], group_size=2, filter="n < 9", with_lookup={"collection": "parities"}
    )
    assert [group.value for group in result.groups] == ["odd", "even"]
    assert ids_of(result.groups[0].points) == [1, 3]
    assert result.groups[0].lookup is not None
    assert result.groups[0].lookup.payload == {"label": "odd ones"}
    assert result.groups[1].lookup is None
    with pytest.raises(kith.KithError, match="unknown"):
        filled.query_groups("parity", vektor=[0, 0])
    others.drop()


def test_options_that_do_not_exist_are_refused(filled: kith.CollectionHandle) -> None:
    with pytest.raises(TypeError):
        filled.query(vector=[1, 0], scoreThreshold=5)  # type: ignore[call-arg]
    with pytest.raises(kith.KithError, match=r"prefetch\[0\].score_treshold is unknown"):
        filled.query(query=q.fusion("rrf"), prefetch=[{"query": q.sample(), "score_treshold": 1}])


def test_upsert_many_reports(collection: kith.CollectionHandle) -> None:
    progress: list[UpsertManyProgress] = []
    refused: list[ItemError] = []
    batches: list[SettledBatch] = []

    def points() -> Iterator[Any]:
        for i in range(5_000):
            yield {"id": i, "vector": np.array([i, np.nan if i == 1234 else 1], dtype=np.float32)}

    result = collection.upsert_many(
        points(),
        batch_points=400,
        in_flight=3,
        on_progress=progress.append,
        on_item_error=refused.append,
        on_batch=batches.append,
    )
    assert (result.sent, result.upserted, result.failed) == (5_000, 4_999, 1)
    assert [(each.index, each.code) for each in refused] == [(1234, "VECTOR_NOT_FINITE")]
    assert result.errors == refused
    assert sorted((each.first_index, each.count) for each in batches) == [(i, 400) for i in range(0, 4_800, 400)] + [
        (4_800, 200)
    ]
    assert max(each.resume_index for each in batches) == 5_000
    assert progress[-1].upserted == 4_999
    assert collection.count() == 4_999


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_a_filter_that_was_never_set_deletes_nothing(filled: kith.CollectionHandle, missing: Any) -> None:
    with pytest.raises(kith.KithError) as refused:
        filled.delete({"filter": missing})
    assert refused.value.code == "INVALID_ARGUMENT"
    assert filled.count() == 20


def test_upsert_many_finds_the_points_that_the_server_refuses(client: kith.KithClient) -> None:
    cosine = client.collection("bulk-cosine")
    cosine.create(vectors={"dimension": 2, "metric": "cosine"})
    result = cosine.upsert_many({"id": i, "vector": [0, 0] if i in (7, 300) else [1, i]} for i in range(500))
    assert (result.upserted, result.failed) == (498, 2)
    assert sorted((each.index, each.code) for each in result.errors) == [(7, "ZERO_VECTOR"), (300, "ZERO_VECTOR")]
    cosine.drop()


def test_of_two_points_with_one_id_the_last_one_wins(collection: kith.CollectionHandle) -> None:
    collection.upsert_many(({"id": i % 3, "vector": [i, 0]} for i in range(300)), batch_points=2, in_flight=16)
    assert [
        point.vector.tolist() for point in collection.get_many([0, 1, 2], with_vectors=True) if point.vector is not None
    ] == [
        [297, 0],
        [298, 0],
        [299, 0],
    ]


def test_an_error_of_the_whole_says_how_far_it_came(client: kith.KithClient) -> None:
    with pytest.raises(kith.NotFoundError) as caught:
        client.collection("nowhere").upsert_many({"id": i, "vector": [1]} for i in range(10))
    assert caught.value.code == "COLLECTION_NOT_FOUND"
    assert caught.value.details["resumeIndex"] == 0


def test_an_error_of_the_source_ends_the_run(collection: kith.CollectionHandle) -> None:
    def points() -> Iterator[Any]:
        yield {"id": 1, "vector": [1, 1]}
        raise ValueError("the source is broken")

    with pytest.raises(ValueError, match="broken"):
        collection.upsert_many(points())


def test_watch(collection: kith.CollectionHandle) -> None:
    begun = threading.Event()
    events = collection.watch(before=True, filter="n > 0", on_token=lambda _: begun.set())

    def write() -> None:
        assert begun.wait(10)
        collection.upsert({"id": 1, "vector": [1, 1], "payload": {"n": 1}})
        collection.set_payload(1, {"n": 2})
        collection.delete(1)

    thread = threading.Thread(target=write)
    thread.start()
    seen = [next(events) for _ in range(3)]
    thread.join()
    assert [event.kind for event in seen] == ["insert", "update", "delete"]
    assert seen[1].before is not None
    assert seen[1].before.payload == {"n": 1}
    assert seen[1].after is None or seen[1].after.payload == {"n": 2}
    events.close()  # type: ignore[attr-defined]
    # What came in one message with a change may come again.
    later = collection.watch(from_token=seen[1].token)
    assert next(event for event in later if event.kind != "update").kind == "delete"


def test_none_is_missed_behind_the_token_of_a_change(collection: kith.CollectionHandle) -> None:
    token = collection.upsert({"id": 100, "vector": [0, 0]}).token
    collection.upsert([{"id": i, "vector": [i, i]} for i in range(5)])
    events = collection.watch(from_token=token)
    seen = [next(events) for _ in range(5)]
    for at, change in enumerate(seen):
        left = {event.id for event in seen[at + 1 :]}
        further = collection.watch(from_token=change.token)
        while left:
            left.discard(next(further).id)


def test_a_standing_query(collection: kith.CollectionHandle) -> None:
    token = collection.upsert({"id": 9, "vector": [9, 9]}).token
    collection.upsert([{"id": 1, "vector": [50, 50]}, {"id": 2, "vector": [1, 1]}])
    event = next(collection.watch(from_token=token, near={"vector": np.ones(2), "threshold": 0.5}))
    assert (event.id, event.score) == (2, 0.0)


def test_keys_and_roles(client: kith.KithClient) -> None:
    role = client.roles.put(
        "odd-reader",
        [{"verbs": ["read"], "collections": ["*"], "filter": "parity = odd"}],
        limits={"requests_per_second": 9},
    )
    assert role.rules[0].filter == {"must": [{"key": "parity", "match": {"value": "odd"}}]}
    assert role.limits == {"requests_per_second": 9}
    made = client.keys.create("tests", role="odd-reader", expires_at=datetime.now(timezone.utc) + timedelta(days=1))
    assert made.secret
    assert made.secret not in repr(made)
    rotated = client.keys.rotate(made.key.id, overlap_ms=60_000)
    assert len(rotated.key.secrets) == 2
    with pytest.raises(kith.PreconditionError):
        client.roles.delete("odd-reader")
    client.keys.revoke(made.key.id)
    assert made.key.id not in [key.id for key in client.keys.list()]
    client.roles.delete("odd-reader")
    with pytest.raises(kith.InvalidRequestError, match="unknown"):
        client.roles.put("x", [{"verb": ["read"]}])  # type: ignore[typeddict-unknown-key]


def test_the_cluster(client: kith.KithClient, filled: kith.CollectionHandle) -> None:
    described = client.cluster.describe()
    assert [node.state for node in described.nodes] == ["up"]
    shard = next(each for each in described.shards if each.collection == filled.name)
    assert (shard.slots.first, shard.slots.last) == (0, 16383)
    assert shard.replicas[0].point_count == 20
    before = client.cluster.settings()
    assert client.cluster.update_settings({"moves_at_once": 3}).moves_at_once == 3
    client.cluster.update_settings({"moves_at_once": before.moves_at_once})
    assert client.cluster.rebalance().moves == []
    assert any(each.name == filled.name for each in client.collections.list())


def test_a_shard_is_split_and_merged_again(client: kith.KithClient, filled: kith.CollectionHandle) -> None:
    operation = client.cluster.split_shard(filled.name, 0, into=2)
    done = client.backups.wait(operation.id, every_ms=50)
    assert done.kind == "split_shard"
    assert done.resharding is not None
    assert done.resharding.from_shards == [0]
    assert len(done.resharding.to_shards) == 2
    assert filled.count() == 20
    merged = client.backups.wait(client.cluster.merge_shards(filled.name, done.resharding.to_shards).id, every_ms=50)
    assert merged.kind == "merge_shards"
    assert merged.resharding is not None
    assert sorted(merged.resharding.from_shards) == sorted(done.resharding.to_shards)
    assert len(merged.resharding.to_shards) == 1
    assert filled.count() == 20


def test_partitions(client: kith.KithClient) -> None:
    orders = client.collection("orders-python")
    info = orders.create(vectors={"dimension": 2}, shards=2, partition_key="tenant")
    assert info.partition_key == "tenant"
    orders.upsert([{"id": 1, "vector": [1, i], "payload": {"tenant": i}} for i in (1, 2)])
    assert orders.count() == 2
    assert orders.count(partition=1) == 1
    assert orders.count(filter={"must": [{"partition": "1"}]}) == orders.count(filter='partition("1")') == 1
    assert orders.count(filter={"must": [{"has_id": [1], "partition": "2"}]}) == 1
    point = orders.get(1, partition=2)
    assert point is not None
    assert point.payload == {"tenant": 2}
    assert len(orders.query(vector=[1, 1], partition=1).points) == 1
    assert len(list(orders.scroll(partition=2))) == 1
    assert orders.set_payload(1, {"n": 5}, partition=1).affected == 1
    assert orders.write_batch([{"op": "delete", "target": 1, "partition": 1}]).results[0].ok
    assert orders.facet("tenant").hits[0].value == 2
    with pytest.raises(kith.InvalidRequestError) as caught:
        orders.delete(1)
    assert caught.value.code == "PARTITION_KEY_MISSING"
    with pytest.raises(kith.InvalidRequestError):
        orders.count(partition=1.5)  # type: ignore[arg-type]
    orders.drop()


def test_backups(client: kith.KithClient, filled: kith.CollectionHandle) -> None:
    begun = client.backups.create(filled.name, full=True, group=BackupGroup("nightly", 1))
    seen: list[str] = []
    assert (
        client.backups.wait(begun.operation, every_ms=20, on_progress=lambda each: seen.append(each.state)).state
        == "done"
    )
    assert seen[-1] == "done"
    (backup,) = client.backups.list(collection=filled.name)
    assert (backup.id, backup.point_count, backup.shards[0].point_count) == (begun.id, 20, 20)
    assert backup.group == BackupGroup("nightly", 1)
    assert [each.id for each in client.backups.list(group="nightly")] == [begun.id]
    assert client.backups.list(group="weekly") == []
    with pytest.raises(kith.InvalidRequestError):
        client.backups.create(filled.name, group=BackupGroup("a/b", 1))
    assert client.backups.verify(begun.id, deadline_ms=60_000).point_count == 20
    restored = client.backups.restore(begun.id, collection=f"{filled.name}-restored")
    client.backups.wait(restored.operation, every_ms=20)
    copy = client.collection(restored.collection)
    assert copy.count(filter="parity = odd") == 10
    assert client.backups.delete(begun.id).deleted_bytes > 0
    with pytest.raises(kith.NotFoundError):
        client.backups.verify(begun.id)
    copy.drop()


def test_truncate_rename_and_two_handles(client: kith.KithClient, filled: kith.CollectionHandle) -> None:
    new = f"{filled.name}-new"
    assert filled.rename(new).name == new
    moved = client.collection(new)
    assert moved.count() == 20
    assert moved.truncate().affected == 20
    moved.drop()


def test_connecting_says_what_is_wrong(target: str) -> None:
    with pytest.raises(kith.UnavailableError) as refused:
        kith.connect("127.0.0.1:1")
    assert (refused.value.code, refused.value.details["reason"]) == ("SERVER_UNREACHABLE", "refused")
    for wrong in ("http://127.0.0.1:7700", "localhost", "a b:1", "a:0", "[::1]:65536", ""):
        with pytest.raises(kith.InvalidRequestError) as address:
            kith.connect(wrong)
        assert address.value.code == "INVALID_ADDRESS"
    with pytest.raises(kith.PreconditionError) as mismatch:
        kith.connect(target, tls=True, connect_timeout_ms=1_000)
    assert mismatch.value.code == "TLS_MISMATCH"
    with pytest.raises(kith.InvalidRequestError):
        kith.connect(target, deadline_ms=0)


def test_a_closed_client_says_so(target: str) -> None:
    with kith.connect(target) as client:
        collection = client.collection("any")
    with pytest.raises(kith.PreconditionError) as caught:
        collection.count()
    assert caught.value.code == "FAILED_PRECONDITION"


def test_threads_share_a_client(filled: kith.CollectionHandle) -> None:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(filled.count())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [20] * 16


def test_payloads_may_be_parsed_otherwise(target: str, filled: kith.CollectionHandle) -> None:
    with kith.connect(target, parse_payload=bytes.decode) as client:
        point = client.collection(filled.name).get(1)
    assert point is not None
    assert point.payload == '{"n":1,"parity":"odd"}'


@pytest.mark.anyio
async def test_async_calls_run_at_once(async_client: kith.AsyncKithClient, filled: kith.CollectionHandle) -> None:
    handle = async_client.collection(filled.name)
    counts = await asyncio.gather(*(handle.count(filter=f"n <= {i}") for i in range(1, 21)))
    assert counts == list(range(1, 21))


@pytest.mark.anyio
async def test_async_bulk_takes_async_sources(
    async_client: kith.AsyncKithClient, collection: kith.CollectionHandle
) -> None:
    async def points() -> AsyncIterator[Any]:
        for i in range(1_000):
            await asyncio.sleep(0)
            yield {"id": i, "vector": [i, 1]}

    handle = async_client.collection(collection.name)
    assert (await handle.upsert_many(points(), batch_points=150)).upserted == 1_000
    assert len([point async for point in handle.scroll(batch=300)]) == 1_000


@pytest.mark.anyio
async def test_async_watch_ends_with_its_loop(
    async_client: kith.AsyncKithClient, collection: kith.CollectionHandle
) -> None:
    handle = async_client.collection(collection.name)
    token = (await handle.upsert({"id": 1, "vector": [1, 1]})).token
    await handle.upsert({"id": 2, "vector": [1, 1]})
    async for event in handle.watch(from_token=token):
        assert event.id == 2
        break


@pytest.mark.anyio
async def test_async_calls_can_be_cancelled(
    async_client: kith.AsyncKithClient, collection: kith.CollectionHandle
) -> None:
    async def follow() -> None:
        async for _ in async_client.collection(collection.name).watch():
            pass

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
