import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Clock, deferred, KithError, systemClock } from "../../base/index.js";
import { eventually } from "../../base/testing.js";
import type { Log } from "../../log/index.js";
import { formatId, idFromName, idFromNum, idFromUuid } from "../../model/index.js";
import { pb } from "../../wire/index.js";
import {
  active,
  call,
  collectionOf,
  everything,
  factories,
  field,
  nothing,
  recomputed,
  remove,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import type { Replica } from "../index.js";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

describe.each(factories)("a replica on the %s", (_, indexes) => {
  let world: World;
  let replica: Replica;

  beforeEach(async () => {
    world = await World.make({ indexes });
    replica = await active(await world.open());
  });
  afterEach(() => world.end());

  const near = async (vector: number[], k = 10, at = 0, select = nothing): Promise<string[]> => {
    const query = { field: "", vector: Float32Array.from(vector), k, ef: 0, exact: false, select, minSequence: at };
    return (await replica.read("query", query, call)).hits.map((hit) => formatId(hit.id));
  };

  test("a write can be read at its sequence, by id, by vector, by scroll, and after a restart", async () => {
    expect(await near([0, 0, 0, 1])).toEqual([]);
    const at = await world.append([
      upsert([
        { id: 1, vector: [1, 0, 0, 0], payload: { n: "one" } },
        { id: 2, vector: [2, 0, 0, 0] },
        { id: idFromName("ä b"), vector: [3, 0, 0, 0], payload: { n: "three" } },
        { id: idFromUuid("00000000-0000-0000-0000-00000000000a"), vector: [4, 0, 0, 0] },
      ]),
    ]);
    const check = async (): Promise<void> => {
      expect(await near([1.1, 0, 0, 0], 3, at)).toEqual(["1", "2", '"ä b"']);
      const ids = [idFromName("ä b"), idFromNum(9), idFromNum(1)];
      const { points } = await replica.read("get", { ids, select: everything, minSequence: at }, call);
      expect(points.map(({ id, version, payload }) => [formatId(id), version, text(payload)])).toEqual([
        ['"ä b"', 1, '{"n":"three"}'],
        ["1", 1, '{"n":"one"}'],
      ]);
      expect(points[0]?.vectors?.get("")).toEqual(Float32Array.of(3, 0, 0, 0));
      const page = await replica.read("scroll", { after: undefined, limit: 3, select: nothing, minSequence: at }, call);
      expect(page.points.map(({ id }) => formatId(id))).toEqual(["1", "2", "00000000-0000-0000-0000-00000000000a"]);
      expect(page.end).toBe(false);
      const rest = await replica.read(
        "scroll",
        { after: page.points[2]?.id, limit: 3, select: everything, minSequence: at },
        call,
      );
      expect(rest.points.map(({ payload }) => text(payload))).toEqual(['{"n":"three"}']);
      expect(rest.end).toBe(true);
      expect((await replica.read("count", { minSequence: at }, call)).count).toBe(4);
    };
    await check();
    const { digest } = replica.status();
    await replica.close();
    replica = await world.open();
    await check();
    expect(replica.status()).toMatchObject({ digest, appliedSequence: 1, pointCount: 4, fault: "" });
    expect((await recomputed(replica)).digest).toBe(digest);
    expect(world.alarms).toEqual([]);
  });

  test("what was applied is flushed from time to time, and told", async () => {
    await replica.close();
    replica = await world.open({ flushEveryMs: () => 20 });
    const durable = (): number | undefined => replica.status().durableSequence;
    const at = await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0] }])]);
    await eventually(() => expect(durable()).toBe(at));
    const { incarnation } = await world.log.state({ collectionId: world.collection.id, shard: 0 });
    expect(replica.status().incarnation).toBe(incarnation);
    await world.append([upsert([{ id: 2, vector: [1, 0, 0, 0] }])]);
    await eventually(() => expect(durable()).toBe(at + 1));
  });

  test("a period of flushes that was long and is short now holds soon", async () => {
    await replica.close();
    let everyMs = 3_600_000;
    // Timers end a hundred times earlier than they say.
    const clock = Object.create(systemClock, {
      setTimer: { value: (callback: () => void, delayMs: number) => systemClock.setTimer(callback, delayMs / 100) },
    }) as Clock;
    replica = await world.open({ clock, flushEveryMs: () => everyMs });
    const at = await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0] }])]);
    await eventually(() => expect(replica.status().appliedSequence).toBe(at));
    everyMs = 20;
    await eventually(() => expect(replica.status().durableSequence).toBe(at));
  });

  test("hits carry version, payload and the vectors as they came in", async () => {
    await world.append([upsert([{ id: 1, vector: [1, 2, 3, 4], payload: { a: 1 } }])]);
    const at = await world.append([upsert([{ id: 1, vector: [4, 3, 2, 1], payload: { a: 2 } }])]);
    const query = { field: "", vector: Float32Array.of(4, 3, 2, 1), k: 5, ef: 0, exact: true, minSequence: at };
    for (let round = 0; round < 2; round++) {
      const { hits } = await replica.read("query", { ...query, select: { payload: true, vectors: [] } }, call);
      expect(hits.map((hit) => [hit.version, text(hit.payload), hit.score])).toEqual([[2, '{"a":2}', 0]]);
    }
    const { hits } = await replica.read("query", { ...query, select: everything }, call);
    expect(hits[0]?.vectors?.get("")).toEqual(Float32Array.of(4, 3, 2, 1));
    expect(text(hits[0]?.payload as Uint8Array)).toBe('{"a":2}');
  });

  test("modes refuse single items, and see what earlier records of the same batch did", async () => {
    const { INSERT_ONLY, UPDATE_ONLY } = pb.UpsertMode;
    const id = Buffer.alloc(16, 1);
    await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0] }])]);
    const at = await world.append([
      upsert(
        [1, 2].map((each) => ({ id: each, vector: [5, 0, 0, 0] })),
        { id, mode: INSERT_ONLY },
      ),
      upsert(
        [2, 3].map((each) => ({ id: each, vector: [6, 0, 0, 0] })),
        { id: Buffer.alloc(16, 2), mode: UPDATE_ONLY },
      ),
      remove([1, 7], { id: Buffer.alloc(16, 3) }),
      upsert([{ id: 1, vector: [7, 0, 0, 0] }], { id: Buffer.alloc(16, 4), mode: INSERT_ONLY }),
    ]);
    const outcomes = await replica.wait(
      at,
      [1, 2, 3, 4].map((byte) => Buffer.alloc(16, byte)),
      call,
    );
    expect(outcomes).toMatchObject([
      { affected: 1, failures: [{ index: 0, code: "POINT_EXISTS" }] },
      { affected: 1, failures: [{ index: 1, code: "POINT_NOT_FOUND" }] },
      { affected: 1, failures: [] },
      { affected: 1, failures: [] },
    ]);
    expect(await near([7, 0, 0, 0], 10, at)).toEqual(["1", "2"]);
  });

  test("a retried operation has no effect and the first outcome, also after a restart", async () => {
    const id = Buffer.alloc(16, 7);
    const write = upsert([{ id: 1, vector: [1, 0, 0, 0] }], { id, mode: pb.UpsertMode.INSERT_ONLY });
    await world.append([write]);
    await world.append([remove([1])]);
    const at = await world.append([write]);
    expect(await replica.wait(at, [id], call)).toEqual([{ affected: 1, failures: [] }]);
    expect((await replica.read("count", { minSequence: at }, call)).count).toBe(0);
    await replica.close();
    const again = await world.append([write]);
    replica = await world.open();
    expect(await replica.wait(again, [id], call)).toEqual([{ affected: 1, failures: [] }]);
    expect((await replica.read("count", { minSequence: again }, call)).count).toBe(0);
  });

  test("a retry is recognised although a router's clock has jumped ahead in between, also after a restart", async () => {
    const id = Buffer.alloc(16, 1);
    const first = upsert([{ id: 1, vector: [1, 0, 0, 0] }], { id });
    const newer = upsert([{ id: 1, vector: [2, 0, 0, 0] }]);
    const startMs = 1_000_000;
    await world.append([first], { appendedAtMs: startMs });
    const jumpedMs = startMs + 11 * 60_000;
    await world.append([newer], { appendedAtMs: jumpedMs });
    // The other routers' clocks are still right.
    for (let i = 1; i <= 20; i++) await world.append([remove([99])], { appendedAtMs: startMs + i });
    await replica.wait(22, [], call);
    await replica.close();
    replica = await world.open();
    await world.append([remove([99])], { appendedAtMs: jumpedMs + 1 });
    const at = await world.append([first], { appendedAtMs: startMs + 21 });
    expect(await replica.wait(at, [id], call)).toEqual([{ affected: 1, failures: [] }]);
    const [point] = (await replica.read("get", { ids: [idFromNum(1)], select: everything, minSequence: at }, call))
      .points;
    expect(point).toMatchObject({ version: 2, vectors: new Map([["", Float32Array.of(2, 0, 0, 0)]]) });
  });

  test("what an operation did is forgotten by the log's time and by count, the same after a restart, and its retry is a new write", async () => {
    await replica.close();
    const tuning = { operationWindowMs: 1000, operationWindowCount: 3 };
    replica = await world.open({ tuning });
    const ids = [1, 2, 3, 4, 5].map((byte) => Buffer.alloc(16, byte));
    const insert = (n: number, appendedAtMs: number): Promise<number> =>
      world.append([upsert([{ id: n, vector: [n, 0, 0, 0] }], { id: ids[n] as Buffer })], { appendedAtMs });
    const known = async (at: number): Promise<boolean[]> =>
      (await replica.wait(at, ids, call)).map((outcome) => !(outcome instanceof KithError));
    await insert(0, 10_000);
    // A router's clock that lags does not turn the log's time back.
    await insert(1, 4_000);
    await replica.wait(await insert(2, 11_000), [], call);
    await replica.close();
    replica = await world.open({ tuning });
    expect(await known(3)).toEqual([true, true, true, false, false]);
    // Too old by time, by one millisecond: 0 and 1 (which counts as written at 10 000).
    expect(await known(await insert(3, 11_001))).toEqual([false, false, true, true, false]);
    await insert(4, 11_002);
    const last = await world.append([upsert([{ id: 9, vector: [1, 1, 1, 1] }])], { appendedAtMs: 11_003 });
    expect(await known(last)).toEqual([false, false, false, true, true]);
    const [forgotten] = await replica.wait(last, [ids[0] as Buffer], call);
    expect(forgotten).toMatchObject({ code: "FAILED_PRECONDITION", retryable: false });
    expect((forgotten as KithError).message).toMatch(/no longer known.*read the points.*it is a new write/);
    const again = await insert(0, 11_004);
    expect(
      (await replica.read("get", { ids: [idFromNum(0)], select: nothing, minSequence: again }, call)).points[0]
        ?.version,
    ).toBe(again);
  });

  test("an operation that no router should let through is refused by itself, and the replica goes on", async () => {
    const bad = [
      upsert([{ id: 1, vector: [1, 2, 3] }]),
      upsert([{ id: 1, vector: [1, 2, 3, Number.NaN] }]),
      upsert([{ id: 1, vectors: { other: [1] } }]),
      upsert([{ id: Buffer.from("zz"), vector: [1, 2, 3, 4] }]),
    ];
    const good = upsert([{ id: 2, vector: [1, 2, 3, 4] }]);
    const operations = [...bad, good];
    const at = await world.append(operations);
    const ids = operations.map(({ operationId }) => operationId);
    const told = [
      ...["DIMENSION_MISMATCH", "VECTOR_NOT_FINITE", "UNKNOWN_VECTOR", "INVALID_ID"].map((code) => ({ code })),
      { affected: 1 },
    ];
    expect(await replica.wait(at, ids, call)).toMatchObject(told);
    await replica.close();
    replica = await active(await world.open());
    expect(await replica.wait(at, ids, call)).toMatchObject(told);
    expect(await near([0, 0, 0, 0])).toEqual(["2"]);
    expect(world.alarms.map(({ kind }) => kind)).toEqual(Array(4).fill("operation_refused"));
  });

  test("vectors that a datatype cannot hold, of a log from before they were refused, are applied and found", async () => {
    await world.end();
    world = await World.make({ indexes, collection: collectionOf({ ...field("", 2), datatype: "f16" }) });
    replica = await active(await world.open());
    const at = await world.append([
      upsert([
        { id: 1, vector: [70_000, 0] },
        { id: 2, vector: [1e6, 0] },
        { id: 3, vector: [1e19, 0] },
      ]),
    ]);
    for (let round = 0; round < 3; round++) {
      const query = { field: "", vector: Float32Array.of(70_000, 0), k: 3, ef: 0, exact: false, minSequence: at };
      const { hits } = await replica.read("query", { ...query, select: nothing }, call);
      expect(hits.map((hit) => [formatId(hit.id), hit.score])).toEqual([
        ["1", 0],
        ["2", 930_000],
        ["3", expect.closeTo(1e19, -13) as number],
      ]);
      // From the checkpoint, and then from the store.
      await replica.close();
      if (round === 1) await rm(join(world.replicaDirectory(), "index-dense-0"), { recursive: true });
      replica = await active(await world.open());
    }
    expect(world.alarms).toEqual([]);
  });

  test("an operation id used again for something else is refused, and keeps its first outcome, also after a restart", async () => {
    const id = Buffer.alloc(16, 7);
    const first = upsert([{ id: 1, vector: [1, 0, 0, 0] }], { id });
    // Another router's copy of the same write has a trace of its own.
    const retry = upsert([{ id: 1, vector: [1, 0, 0, 0] }], {
      id,
      traceparent: `00-${"1".repeat(32)}-${"2".repeat(16)}-01`,
    });
    const refused = { code: "INVALID_ARGUMENT", message: expect.stringMatching(/used for another write/) as string };
    await world.append([first]);
    const others = [
      await world.append([upsert([{ id: 1, vector: [2, 0, 0, 0] }], { id })]),
      await world.append([remove([1], { id })]),
    ];
    const again = await world.append([retry]);
    for (let round = 0; round < 2; round++) {
      for (const at of others) {
        await replica.wait(again, [], call);
        expect(await replica.wait(at, [id], call)).toMatchObject([refused]);
      }
      expect(await replica.wait(again, [id], call)).toEqual([{ affected: 1, failures: [] }]);
      expect(
        (await replica.read("get", { ids: [idFromNum(1)], select: nothing, minSequence: again }, call)).points[0]
          ?.version,
      ).toBe(1);
      await replica.close();
      replica = await active(await world.open());
    }
    expect(world.alarms).toEqual([]);
  });

  test("reads wait for their sequence until it comes, the signal aborts or the deadline passes", async () => {
    const early = replica.read("count", { minSequence: 1 }, call);
    const controller = new AbortController();
    const aborted = replica.read("count", { minSequence: 1 }, { ...call, signal: controller.signal });
    const late = replica.read("count", { minSequence: 99 }, { ...call, deadlineMs: performance.now() + 20 });
    controller.abort();
    await expect(aborted).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(late).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0] }])]);
    expect((await early).count).toBe(1);
    const closing = replica.read("count", { minSequence: 99 }, call);
    const refused = expect(closing).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
    await replica.close();
    await refused;
  });

  test("while it replays its log, it answers at a sequence, and refuses reads of what is there", async () => {
    await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0] }])]);
    const last = await world.append([upsert([{ id: 2, vector: [2, 0, 0, 0] }])]);
    const rest = deferred<void>();
    const log = {
      state: (name) => world.log.state(name),
      subscribe: (name, options) =>
        world.log.subscribe(name, {
          ...options,
          onEntries: async (entries) => {
            for (const entry of entries) {
              if (entry.sequence === last) await rest.promise;
              await options.onEntries([entry]);
            }
          },
        }),
    } as Pick<Log, "state" | "subscribe"> as Log;
    replica = await world.open({ name: "late", log });
    expect((await replica.read("count", { minSequence: 1 }, call)).count).toBe(1);
    const query = { field: "", vector: Float32Array.of(1, 0, 0, 0), k: 2, ef: 0, exact: true, select: nothing };
    for (const read of [
      () => replica.read("query", { ...query, minSequence: 0 }, call),
      () => replica.read("get", { ids: [idFromNum(1)], select: nothing, minSequence: 0 }, call),
      () => replica.read("scroll", { after: undefined, limit: 2, select: nothing, minSequence: 0 }, call),
      () => replica.read("count", { minSequence: 0 }, call),
    ]) {
      await expect(read()).rejects.toMatchObject({
        code: "SHARD_UNAVAILABLE",
        message: expect.stringContaining("catching_up: it has applied 1 records") as string,
      });
    }
    rest.resolve();
    await active(replica);
    expect((await replica.read("count", { minSequence: 0 }, call)).count).toBe(2);
  });

  test("wrong queries are refused with the offending value", async () => {
    const query = {
      field: "",
      vector: Float32Array.of(1, 2, 3, 4),
      k: 1,
      ef: 0,
      exact: false,
      select: nothing,
      minSequence: 0,
    };
    const code = (error: string): unknown => expect.objectContaining({ code: error });
    await expect(replica.read("query", { ...query, field: "x" }, call)).rejects.toEqual(code("UNKNOWN_VECTOR"));
    await expect(replica.read("query", { ...query, vector: Float32Array.of(1) }, call)).rejects.toEqual(
      code("DIMENSION_MISMATCH"),
    );
    await expect(replica.read("query", { ...query, k: 0 }, call)).rejects.toEqual(code("LIMIT_OUT_OF_RANGE"));
    await expect(
      replica.read("scroll", { after: undefined, limit: 0, select: nothing, minSequence: 0 }, call),
    ).rejects.toEqual(code("LIMIT_OUT_OF_RANGE"));
  });

  test("equal distances are ordered by id", async () => {
    await world.append([upsert([9, 3, 7].map((id) => ({ id, vector: [1, 1, 1, 1] })))]);
    const at = await world.append([upsert([{ id: 1, vector: [2, 1, 1, 1] }])]);
    expect(await near([1, 1, 1, 1], 4, at)).toEqual(["3", "7", "9", "1"]);
  });
});

test("points may lack fields, and each field is searched by itself", async () => {
  const world = await World.make({ collection: collectionOf(field("a", 2), field("b", 3), field("c", 1)) });
  try {
    let replica = await world.open();
    await world.append([upsert([{ id: 1, vectors: { a: [1, 0], b: [1, 0, 0] } }])]);
    await world.append([upsert([{ id: 2, vectors: { a: [2, 0] } }]), upsert([{ id: 3 }])]);
    const at = await world.append([upsert([{ id: 1, vectors: { c: [5] }, payload: {} }])]);
    const near = async (name: string, vector: number[]): Promise<string[]> => {
      const base = { k: 9, ef: 0, exact: false, select: nothing, minSequence: at };
      const { hits } = await replica.read("query", { field: name, vector: Float32Array.from(vector), ...base }, call);
      return hits.map((hit) => formatId(hit.id));
    };
    for (let round = 0; round < 2; round++) {
      expect([await near("a", [0, 0]), await near("b", [0, 0, 0]), await near("c", [0])]).toEqual([["2"], [], ["1"]]);
      const { points } = await replica.read(
        "get",
        { ids: [1, 2, 3].map(idFromNum), select: everything, minSequence: at },
        call,
      );
      expect(points.map((point) => [...(point.vectors?.keys() ?? [])])).toEqual([["c"], ["a"], []]);
      expect((await recomputed(replica)).digest).toBe(replica.status().digest);
      await replica.close();
      replica = await world.open();
    }
  } finally {
    await world.end();
  }
});
