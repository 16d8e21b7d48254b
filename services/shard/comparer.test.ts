import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { Replica } from "../../libs/engine/index.js";
import { given, upsert, World } from "../../libs/engine/testing.js";
import { idFromNum, type ReplicaStatus } from "../../libs/model/index.js";
import { PointStore } from "../../libs/storage/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { floatsToBytes } from "../../libs/wire/index.js";
import { compareDigests, Comparer } from "./comparer.js";

const said = (
  appliedSequence: number,
  digest: string,
  marks: [number, string][] = [],
  changes: Partial<ReplicaStatus> = {},
): ReplicaStatus =>
  ({
    ...{ appliedSequence, digest, digestFormat: 2, incarnation: "i", state: "active" },
    digestMarks: marks.map(([sequence, mark]) => ({ sequence, digest: mark })),
    ...changes,
  }) as ReplicaStatus;

test.each([
  ["equal to one that is as far", "equal", said(9, "a"), [said(9, "a")]],
  ["equal where nothing is common", "equal", said(9, "a"), [said(8, "b")]],
  [
    "equal to one that follows another log, or whose state counts for nothing",
    "equal",
    said(9, "a"),
    [said(9, "b", [], { incarnation: "j" }), said(9, "b", [], { state: "stale" })],
  ],
  [
    "compared at the latest mark that both have",
    "equal",
    said(600, "x", [
      [256, "a"],
      [512, "b"],
    ]),
    [
      said(520, "y", [
        [256, "other"],
        [512, "b"],
      ]),
    ],
  ],
  ["undecided between two", "undecided", said(600, "x", [[512, "b"]]), [said(520, "y", [[512, "c"]])]],
  ["outvoted by two", "minority", said(9, "a"), [said(9, "b"), said(9, "b")]],
  ["with the majority", "majority", said(9, "a"), [said(9, "a"), said(9, "b")]],
  ["undecided among three", "undecided", said(9, "a"), [said(9, "b"), said(9, "c")]],
] as const)("a replica is found %s", (_, verdict, own, others) => {
  expect(compareDigests(own, others)).toBe(verdict);
});

let world: World;
let replicas: Map<string, Replica>;
let closing: AbortController;
let comparer: Comparer | undefined;
beforeEach(async () => {
  world = await World.make();
  replicas = new Map();
  closing = new AbortController();
  comparer = undefined;
  for (const name of ["a", "b"]) await start(name);
});
afterEach(async () => {
  closing.abort();
  await comparer?.close();
  await world.end();
});

async function start(name: string): Promise<void> {
  const other = name === "a" ? "b" : "a";
  const peers = {
    fetch: async (wanted: Parameters<typeof given>[1]) => ({
      ...(await given(replicas.get(other) as Replica, wanted)),
      from: other,
    }),
  };
  replicas.set(name, await world.open({ name, peers }));
}

async function write(count: number): Promise<void> {
  for (let id = 0; id < count; id++) await world.append([upsert([{ id, vector: [id, 0, 0, 0], payload: { id } }])]);
  await eventually(() => {
    for (const replica of replicas.values())
      expect(replica.status()).toMatchObject({ state: "active", pointCount: count });
  });
}

/** Writes over a value of the closed replica, with a checksum that fits. */
async function change(name: string, how: (batch: ReturnType<PointStore["batch"]>) => void): Promise<void> {
  await replicas.get(name)?.close();
  const store = await PointStore.open(join(world.replicaDirectory(name), "db"));
  const batch = store.batch();
  how(batch);
  await store.write(batch, { sync: true });
  await store.close();
  await start(name);
}

const anyPace = (): Promise<void> => Promise.resolve();

test("replicas agree with themselves, and remember digests under writes", async () => {
  await write(300);
  for (const replica of replicas.values()) expect(await replica.verify(anyPace)).toBeUndefined();
  const marks = [...replicas.values()].map((replica) => replica.status().digestMarks);
  expect(marks[0]).toMatchObject([{ sequence: 256 }]);
  expect(marks[1]).toEqual(marks[0]);
});

test.each([
  [
    "vector",
    (batch: ReturnType<PointStore["batch"]>) =>
      batch.putVector(0, idFromNum(3), 4, floatsToBytes(Float32Array.of(9, 9, 9, 9))),
    /a vector of the field ""/,
  ],
  [
    "payload",
    (batch: ReturnType<PointStore["batch"]>) => batch.putPayload(idFromNum(3), 4, Buffer.from('{"id":7}')),
    /a payload of a point/,
  ],
] as const)(
  "a replica with a %s that was changed is found out, stops answering, and takes a copy of the other one",
  async (_, how, expected) => {
    await write(20);
    await change("b", how);
    const [a, b] = ["a", "b"].map((name) => replicas.get(name) as Replica) as [Replica, Replica];
    await eventually(() => expect(b.state).toBe("active"));
    // Its digest is the other one's: nobody but itself can find it.
    expect(b.status().digest).toBe(a.status().digest);
    expect(await a.verify(anyPace)).toBeUndefined();
    expect(await b.verify(anyPace)).toMatch(expected);
    comparer = new Comparer({
      ...{ clock: systemClock, logger: silentLogger, signal: closing.signal, compareEveryMs: 10, verifyEveryMs: 20 },
      replicas: () =>
        [...replicas].map(([name, replica]) => ({
          name: world.logName,
          collection: "things",
          replica,
          others: [name === "a" ? "b" : "a"],
        })),
      statusOf: async (node) => (replicas.get(node) as Replica).status(),
    });
    await eventually(async () => {
      expect(world.alarms.map(({ kind }) => kind)).toEqual(["diverged", "copy_started", "copied"]);
      expect(b.state).toBe("active");
      expect(await b.verify(anyPace)).toBeUndefined();
    });
    expect(world.alarms[0]?.message).toMatch(/quarantined: it disagrees with itself/);
    expect(a.state).toBe("active");
    expect(b.status()).toMatchObject({ digest: a.status().digest, pointCount: 20, fault: "" });
  },
);

test("a replica that two others contradict is quarantined and copies one of them", async () => {
  await write(20);
  const [a, b] = ["a", "b"].map((name) => replicas.get(name) as Replica) as [Replica, Replica];
  const other = { ...a.status(), digest: "0123456789abcdef", digestMarks: [] };
  let isCured = false;
  comparer = new Comparer({
    ...{ clock: systemClock, logger: silentLogger, signal: closing.signal, compareEveryMs: 10 },
    replicas: () => [{ name: world.logName, collection: "things", replica: b, others: ["a", "c"] }],
    // Once it has copied, it is as they are.
    statusOf: async () => (isCured ? a.status() : other),
  });
  await eventually(() => {
    expect(world.alarms.map(({ kind }) => kind)).toContain("diverged");
    isCured = true;
  });
  await eventually(() => expect(b.status()).toMatchObject({ state: "active", digest: a.status().digest }));
  expect(world.alarms[0]?.message).toMatch(/most other replicas have other content/);
});
