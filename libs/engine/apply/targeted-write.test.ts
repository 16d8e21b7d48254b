import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { limits } from "../../base/index.js";
import { idFromNum } from "../../model/index.js";
import type { ipb } from "../../wire/index.js";
import {
  active,
  call,
  collectionOf,
  everything,
  field,
  operationOf,
  target,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import { filterBytes } from "../testing/model.fixture.js";
import type { Replica } from "../index.js";

/** Writes of parts of points; histories.test.ts compares random ones with a model. */

let world: World;
let replica: Replica;
beforeEach(async () => {
  world = await World.make({ collection: collectionOf(field("a", 2), field("b", 2)) });
  replica = await active(await world.open());
});
afterEach(() => world.end());

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

async function outcomeOf(mutation: ipb.Operation["mutation"]): Promise<unknown> {
  const operation = operationOf(mutation);
  const at = await world.append([operation]);
  const [outcome] = await replica.wait(at, [operation.operationId], call);
  return outcome;
}

async function payloadOf(id: number): Promise<string | undefined> {
  const minSequence = replica.appliedSequence;
  const { points } = await replica.read("get", { ids: [idFromNum(id)], select: everything, minSequence }, call);
  const [point] = points;
  return point && Buffer.from(point.payload).toString();
}

test("a payload that would become too large is refused by item; by filter nothing is written at all", async () => {
  const large = "x".repeat(limits.payloadBytes - 100);
  await world.append([upsert([1, 2].map((id) => ({ id, vectors: { a: [id, 0] }, payload: { n: id } })))]);
  await world.append([upsert([{ id: 3, vectors: { a: [3, 0] }, payload: { n: 3, large } }])]);
  const payload = json({ more: "y".repeat(200) });
  const byIds = { target: target({ ids: [1, 3] }), payload, path: "" };
  expect(await outcomeOf({ $case: "setPayload", value: byIds })).toMatchObject({
    affected: 1,
    failures: [{ index: 1, code: "PAYLOAD_TOO_LARGE" }],
  });
  const byFilter = { target: target({ filter: filterBytes("n > 1") }), payload, path: "" };
  expect(await outcomeOf({ $case: "setPayload", value: byFilter })).toMatchObject({ code: "PAYLOAD_TOO_LARGE" });
  expect(await payloadOf(2)).toBe('{"n":2}');
  expect(world.alarms).toEqual([]);
});

test("what no router should let through is refused as a whole, told, and changes nothing", async () => {
  await world.append([upsert([{ id: 1, vectors: { a: [1, 0] }, payload: { n: 1 } }])]);
  const { digest } =
    (await outcomeOf({ $case: "clearPayload", value: { target: target({ ids: [2] }) } }), replica.status());
  const one = target({ ids: [1] });
  const both = target({ ids: [1], filter: filterBytes("n > 0") });
  const wrong: [ipb.Operation["mutation"], string][] = [
    [{ $case: "setPayload", value: { target: one, payload: json([1]), path: "" } }, "INVALID_PAYLOAD"],
    [{ $case: "setPayload", value: { target: one, payload: json({}), path: "a..b" } }, "INVALID_ARGUMENT"],
    [{ $case: "deletePayload", value: { target: one, paths: ["[]"] } }, "INVALID_ARGUMENT"],
    [{ $case: "deleteVectors", value: { target: one, fields: ["c"] } }, "UNKNOWN_VECTOR"],
    [
      {
        $case: "updateVectors",
        value: { target: one, vectors: [{ name: "a", matrix: new Uint8Array(4), rows: [] }], sparse: [] },
      },
      "DIMENSION_MISMATCH",
    ],
    [
      { $case: "updateVectors", value: { target: target({ filter: filterBytes("n > 0") }), vectors: [], sparse: [] } },
      "INVALID_ARGUMENT",
    ],
    [{ $case: "remove", value: { target: both } }, "INVALID_ARGUMENT"],
    [{ $case: "remove", value: { target: undefined } }, "INVALID_ARGUMENT"],
    [{ $case: "remove", value: { target: target({ ids: [1], expectedVersions: [1, 2] }) } }, "INVALID_ARGUMENT"],
  ];
  for (const [mutation, code] of wrong) expect(await outcomeOf(mutation)).toMatchObject({ code });
  expect(world.alarms.map(({ kind }) => kind)).toEqual(wrong.map(() => "operation_refused"));
  expect(replica.status().digest).toBe(digest);
});

test("a vector that is updated is found where it is now, and the others of the point too", async () => {
  await world.append([upsert([{ id: 1, vectors: { a: [1, 0], b: [7, 7] }, payload: { n: 1 } }])]);
  await outcomeOf({
    $case: "updateVectors",
    value: {
      target: target({ ids: [1] }),
      vectors: [{ name: "a", matrix: Buffer.from(Float32Array.of(5, 5).buffer), rows: [] }],
      sparse: [],
    },
  });
  for (const [name, vector] of [
    ["a", [5, 5]],
    ["b", [7, 7]],
  ] as const) {
    const query = { field: name, vector: Float32Array.from(vector), k: 1, ef: 8, exact: true, select: everything };
    const { hits } = await replica.read("query", { ...query, minSequence: 2 }, call);
    expect(hits).toMatchObject([{ version: 2, score: 0 }]);
    expect(hits[0]?.vectors).toEqual(
      new Map([
        ["a", Float32Array.of(5, 5)],
        ["b", Float32Array.of(7, 7)],
      ]),
    );
    expect(Buffer.from(hits[0]?.payload ?? []).toString()).toBe('{"n":1}');
  }
});

test("a large deletion by filter leaves the event loop to others, and a restart finds what it left", async () => {
  const count = 30_000;
  for (let from = 0; from < count; from += 3_000) {
    const items = Array.from({ length: 3_000 }, (_, i) => {
      return { id: from + i, vectors: { a: [from, i] }, payload: { n: (from + i) % 3 } };
    });
    await world.append([upsert(items)]);
  }
  await replica.wait(count / 3_000, [], call);
  let isDone = false;
  let longestUs = 0;
  // Of the process, not of the clock on the wall: what others do on the machine takes none of it.
  const cpuUs = (): number => {
    const { user, system } = process.cpuUsage();
    return user + system;
  };
  const startUs = cpuUs();
  const others = async (): Promise<void> => {
    for (let lastUs = startUs; !isDone; ) {
      await setImmediate();
      longestUs = Math.max(longestUs, cpuUs() - lastUs);
      lastUs = cpuUs();
    }
  };
  const turning = others();
  const filter = filterBytes("n = 0");
  expect(await outcomeOf({ $case: "remove", value: { target: target({ filter }) } })).toEqual({
    affected: count / 3,
    failures: [],
  });
  isDone = true;
  await turning;
  // A share of the whole: a thirtieth in turns, a sixth in one piece.
  expect(longestUs).toBeLessThan((cpuUs() - startUs) / 8);
  expect(replica.status().pointCount).toBe((count / 3) * 2);
  const { digest } = replica.status();
  await replica.close();
  replica = await active(await world.open());
  expect(replica.status()).toMatchObject({ digest, pointCount: (count / 3) * 2 });
});

/** A write of somebody for whom only points pass that have t = "a". */
function restricted(mutation: NonNullable<ipb.RestrictedWrite["mutation"]>): ipb.Operation["mutation"] {
  return { $case: "restricted", value: { rule: filterBytes('t = "a"'), mutation } };
}

const codes = (outcome: unknown): string[] =>
  (outcome as { failures: { code: string }[] }).failures.map(({ code }) => code);

test("a restricted write neither touches nor leaves a point outside its rule", async () => {
  const points = ["a", "b", "a", "b"].map((t, i) => ({ id: i + 1, vectors: { a: [i, 0] }, payload: { t } }));
  await world.append([upsert(points)]);
  const all = target({ ids: [1, 2, 9] });
  const payload = json({ n: 1 });
  const set = await outcomeOf(restricted({ $case: "setPayload", value: { target: all, payload, path: "" } }));
  expect(set).toMatchObject({ affected: 1, failures: [{ index: 1 }, { index: 2 }] });
  expect(codes(set)).toEqual(["POINT_NOT_FOUND", "POINT_NOT_FOUND"]);
  expect(await payloadOf(1)).toBe('{"t":"a","n":1}');
  // None may be moved out of the rule, not even by what is left out of it.
  const leaving: NonNullable<ipb.RestrictedWrite["mutation"]>[] = [
    { $case: "setPayload", value: { target: target({ ids: [1] }), payload: json({ t: "b" }), path: "" } },
    { $case: "overwritePayload", value: { target: target({ ids: [1] }), payload: json({ n: 2 }) } },
    { $case: "deletePayload", value: { target: target({ ids: [1] }), paths: ["t"] } },
    { $case: "clearPayload", value: { target: target({ ids: [1] }) } },
  ];
  for (const mutation of leaving) expect(codes(await outcomeOf(restricted(mutation)))).toEqual(["PERMISSION_DENIED"]);
  const byFilter = target({ filter: filterBytes('t in ("a", "b")') });
  expect(
    await outcomeOf(
      restricted({ $case: "setPayload", value: { target: byFilter, payload: json({ t: "b" }), path: "" } }),
    ),
  ).toMatchObject({ code: "PERMISSION_DENIED" });
  expect(await payloadOf(1)).toBe('{"t":"a","n":1}');
  const put = (ids: number[], t: string, mode = 0): ipb.Operation["mutation"] => {
    const full = upsert(ids.map((id) => ({ id, vectors: { a: [id, 1] }, payload: { t } }))).mutation;
    if (full?.$case !== "upsert") throw new Error("an upsert is none");
    const { vectors, payloads } = full.value;
    const value = { mode, target: target({ ids }), vectors, sparse: [], payloads, expiresAtMs: [] };
    return restricted({ $case: "put", value });
  };
  expect(codes(await outcomeOf(put([1, 2, 7], "a")))).toEqual(["CONDITION_FAILED"]);
  expect(codes(await outcomeOf(put([1, 8], "b")))).toEqual(["PERMISSION_DENIED", "PERMISSION_DENIED"]);
  expect(codes(await outcomeOf(put([1, 2], "a", 1)))).toEqual(["POINT_EXISTS", "POINT_EXISTS"]);
  expect(codes(await outcomeOf(put([1, 2, 9], "a", 2)))).toEqual(["POINT_NOT_FOUND", "POINT_NOT_FOUND"]);
  const versions = { ...target({ ids: [2, 9] }), expectedVersions: [1, 1] };
  expect(codes(await outcomeOf(restricted({ $case: "remove", value: { target: versions } })))).toEqual([
    "VERSION_MISMATCH",
    "VERSION_MISMATCH",
  ]);
  expect(await outcomeOf(restricted({ $case: "remove", value: { target: target({ ids: [2, 3, 9] }) } }))).toMatchObject(
    {
      affected: 1,
      failures: [],
    },
  );
  expect(await payloadOf(3)).toBeUndefined();
  expect(await payloadOf(2)).toBe('{"t":"b"}');
  expect(world.alarms).toEqual([]);
});

test("a restricted write is decided by what other operations of its record have done", async () => {
  await world.append([upsert([{ id: 1, vectors: { a: [1, 0] }, payload: { t: "b" } }])]);
  const set = (t: string) =>
    operationOf({ $case: "setPayload", value: { target: target({ ids: [1] }), payload: json({ t }), path: "" } });
  const mine = (n: number) =>
    operationOf(
      restricted({ $case: "setPayload", value: { target: target({ ids: [1] }), payload: json({ n }), path: "" } }),
    );
  const operations = [mine(1), set("a"), mine(2), set("b"), mine(3)];
  const at = await world.append(operations);
  const outcomes = await replica.wait(
    at,
    operations.map(({ operationId }) => operationId),
    call,
  );
  expect(outcomes.map((outcome) => (outcome as { affected: number }).affected)).toEqual([0, 1, 1, 1, 0]);
  expect(await payloadOf(1)).toBe('{"t":"b","n":2}');
});
