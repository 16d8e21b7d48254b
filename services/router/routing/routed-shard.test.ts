import { expect, test } from "vitest";
import { deferred, KithError, systemRandom } from "../../../libs/base/index.js";
import { ManualClock } from "../../../libs/base/testing.js";
import type { ReplicaPlacementState, ReplicaState, ShardPlacement } from "../../../libs/model/index.js";
import type { ShardApi } from "../../../libs/shard-api/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { noTrace } from "../../../libs/telemetry/index.js";
import { ReplicaHandle } from "./replica-handle.js";
import { RoutedShard } from "./routed-shard.js";

const call: CallContext = { trace: noTrace };

/** A shard whose replicas answer as the test says; time stands still unless the test moves it. */
class Scene {
  readonly clock = new ManualClock();
  readonly asked: string[] = [];
  readonly answers = new Map<string, (call: CallContext) => Promise<string>>();
  readonly replicas: ReplicaHandle[] = [];
  #shard: RoutedShard | undefined;

  add(
    id: string,
    state: ReplicaState | "unknown" = "active",
    zone = "here",
    placed: ReplicaPlacementState = "active",
  ): ReplicaHandle {
    const node = { id, zone, usable: true, api: { id } as unknown as ShardApi };
    const replica = new ReplicaHandle(node, { node: id, state: placed, sinceMs: 0 });
    this.replicas.push(replica);
    if (state !== "unknown") this.apply(replica, 0, state);
    this.answers.set(id, () => Promise.resolve(id));
    return replica;
  }

  /** As if its state had been polled. */
  apply(
    replica: ReplicaHandle,
    appliedSequence: number,
    state: ReplicaState = "active",
    digest = "",
    digestFormat = 2,
  ): void {
    const counts = { pointCount: 0, indexedVectorCount: 0, unindexedVectorCount: 0, memoryBytes: 0, diskBytes: 0 };
    replica.status = {
      state,
      appliedSequence,
      digest,
      digestFormat,
      fault: "",
      schemaVersion: 1,
      payloadIndexes: [],
      unindexedFields: [],
      ...counts,
    };
  }

  get shard(): RoutedShard {
    const runtime = { clock: this.clock, random: systemRandom };
    const replicas = this.replicas.map(({ placement }) => placement);
    const slots = { firstSlot: 0, lastSlot: 16_383 };
    const placement: ShardPlacement = { shard: 3, ...slots, epoch: 1, state: "active", replicas };
    this.#shard ??= new RoutedShard({ collectionId: "c", shard: 3 }, placement, this.replicas, "here", runtime);
    return this.#shard;
  }

  readonly request = (api: ShardApi, context: CallContext): Promise<string> => {
    const { id } = api as unknown as { id: string };
    this.asked.push(id);
    return (this.answers.get(id) as (call: CallContext) => Promise<string>)(context);
  };

  ask = (): Promise<string> => this.shard.ask(call, this.request);
  query = (): Promise<string> => this.shard.askHedged(call, this.request);

  /** So many queries that the shard's 95th percentile is known; each takes no time. */
  async warm(): Promise<void> {
    for (let i = 0; i < 128; i++) await this.query();
    this.asked.length = 0;
  }

  /** The replica's answers fail, or hang until they are cancelled. */
  fails(id: string, code: "INTERNAL" | "SHARD_UNAVAILABLE" | "INVALID_ARGUMENT"): void {
    this.answers.set(id, () => Promise.reject(new KithError(code, `${id} fails`)));
  }
  hangs(id: string): Promise<void> {
    const cancelled = deferred<void>();
    this.answers.set(id, ({ signal }) => {
      return new Promise((_, reject) => {
        signal?.addEventListener("abort", () => {
          cancelled.resolve();
          reject(new KithError("CANCELLED", "given up"));
        });
      });
    });
    return cancelled.promise;
  }
}

test("a hedge goes to the other active replica, and the slower one is cancelled", async () => {
  for (let round = 0; round < 8; round++) {
    const scene = new Scene();
    scene.add("a");
    scene.add("b");
    await scene.warm();
    let first: string | undefined;
    let cancelled: Promise<void> | undefined;
    for (const id of ["a", "b"]) {
      scene.answers.set(id, (context) => {
        if (first !== undefined) return Promise.resolve(id);
        first = id;
        cancelled = scene.hangs(id);
        return (scene.answers.get(id) as (call: CallContext) => Promise<string>)(context);
      });
    }
    const answered = scene.query();
    await scene.clock.advance(10);
    expect(await answered).toBe(first === "a" ? "b" : "a");
    expect(scene.asked.toSorted()).toEqual(["a", "b"]);
    await cancelled;
  }
});

test("the first queries of a shard are hedged too", async () => {
  const scene = new Scene();
  scene.add("a");
  scene.add("b");
  // Whichever is asked first hangs.
  for (const id of ["a", "b"]) {
    scene.answers.set(id, (context) => {
      if (scene.asked.length > 1) return Promise.resolve(id);
      void scene.hangs(id);
      return (scene.answers.get(id) as (call: CallContext) => Promise<string>)(context);
    });
  }
  let answer: string | undefined;
  void scene.query().then((id) => (answer = id));
  await scene.clock.advance(1_000);
  expect(answer).toBe(["a", "b"].find((id) => id !== scene.asked[0]));
});

test.each(["catching_up", "initializing", "unknown"] as const)(
  "a query is not hedged to a replica in the state %s",
  async (state) => {
    const scene = new Scene();
    scene.add("a");
    scene.add("b", state);
    await scene.warm();
    const slow = deferred<string>();
    scene.answers.set("a", () => slow.promise);
    const answer = scene.query();
    await scene.clock.advance(1_000);
    slow.resolve("a");
    expect(await answer).toBe("a");
    expect(scene.asked).toEqual(["a"]);
  },
);

test("a query that hangs is hedged once another replica is heard to be active", async () => {
  const scene = new Scene();
  scene.add("a");
  const late = scene.add("b", "unknown");
  await scene.warm();
  void scene.hangs("a");
  let answer: string | undefined;
  void scene.query().then((id) => (answer = id));
  await scene.clock.advance(1_000);
  expect(scene.asked).toEqual(["a"]);
  scene.apply(late, 0);
  await scene.clock.advance(200);
  expect(answer).toBe("b");
});

test.each<[string, (replica: ReplicaHandle) => void]>([
  ["is not heard to be active any more", (replica) => (replica.status = undefined)],
  ["lags", (replica) => (replica.lagging = true)],
  ["is cut off from its log", (replica) => Object.assign(replica.node, { silent: true })],
])("what one replica hangs with, another one is asked for once the first %s", async (_, happens) => {
  const scene = new Scene();
  const hanging = scene.add("a");
  const other = scene.add("b");
  other.inFlight = 100;
  const cancelled = scene.hangs("a");
  let answer: string | undefined;
  void scene.ask().then((id) => (answer = id));
  // It may take its time: a count of all points, or a write that waits for its turn.
  await scene.clock.advance(60_000);
  expect(scene.asked).toEqual(["a"]);
  happens(hanging);
  await scene.clock.advance(200);
  expect(answer).toBe("b");
  await cancelled;
});

test("replicas that are not known to be active are asked last", async () => {
  const scene = new Scene();
  scene.add("unknown", "unknown");
  scene.add("replaying", "catching_up");
  const active = scene.add("active");
  scene.add("stale", "stale");
  active.inFlight = 100;
  for (let i = 0; i < 20; i++) expect(await scene.ask()).toBe("active");
  scene.fails("active", "SHARD_UNAVAILABLE");
  scene.asked.length = 0;
  expect(["unknown", "replaying"]).toContain(await scene.ask());
  expect(scene.asked[0]).toBe("active");
  // It has just refused, so the next call goes elsewhere at once.
  scene.asked.length = 0;
  await scene.ask();
  expect(scene.asked).not.toContain("active");
});

test("where none can answer, each has been asked once", async () => {
  const scene = new Scene();
  for (const id of ["a", "b", "c"]) {
    scene.add(id);
    scene.fails(id, "SHARD_UNAVAILABLE");
  }
  await expect(scene.ask()).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE", retryAfterMs: 500 });
  expect(scene.asked.toSorted()).toEqual(["a", "b", "c"]);
});

test("an error inside one replica is made good by another, twice it is passed on", async () => {
  const scene = new Scene();
  scene.add("a").inFlight = 1;
  scene.add("b").inFlight = 2;
  scene.add("c").inFlight = 3;
  scene.fails("a", "INTERNAL");
  expect(await scene.ask()).toBe("b");
  scene.fails("b", "INTERNAL");
  scene.asked.length = 0;
  await expect(scene.ask()).rejects.toMatchObject({ code: "INTERNAL" });
  expect(scene.asked).toEqual(["a", "b"]);
  scene.fails("a", "INVALID_ARGUMENT");
  scene.asked.length = 0;
  await expect(scene.ask()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  expect(scene.asked).toEqual(["a"]);
});

test("the router's own zone comes first, until it is overloaded, slow or out of order", async () => {
  const scene = new Scene();
  const near = scene.add("near", "active", "here");
  scene.add("far", "active", "there");
  for (const inFlight of [0, 4, 12]) {
    near.inFlight = inFlight;
    for (let i = 0; i < 20; i++) expect(await scene.ask()).toBe("near");
  }
  near.inFlight = 40;
  expect(await scene.ask()).toBe("far");
  near.inFlight = 0;
  scene.apply(near, 0, "catching_up");
  expect(await scene.ask()).toBe("far");
});

test("the faster of two replicas gets the queries, and the slower one is tried again later", async () => {
  const scene = new Scene();
  const slow = scene.add("slow");
  const fast = scene.add("fast");
  slow.measure(20, scene.clock.monotonicMs());
  fast.measure(10, scene.clock.monotonicMs());
  for (let i = 0; i < 20; i++) expect(await scene.ask()).toBe("fast");
  // As many in flight as make up for the difference.
  fast.inFlight = 3;
  expect(await scene.ask()).toBe("slow");
  fast.inFlight = 0;
  scene.clock.jump(60_000);
  for (let i = 0; i < 50; i++) await scene.ask();
  expect(new Set(scene.asked.slice(-50))).toEqual(new Set(["slow", "fast"]));
});

test("a query that was given up counts for the replica's latency", async () => {
  const scene = new Scene();
  const near = scene.add("near", "active", "here");
  scene.add("far", "active", "there");
  await scene.warm();
  const cancelled = scene.hangs("near");
  const answered = scene.query();
  scene.clock.jump(700);
  await scene.clock.advance(0);
  expect(await answered).toBe("far");
  await cancelled;
  await expect.poll(() => near.averageMs ?? 0).toBeGreaterThan(100);
});

test("a replica that does not apply what others have applied leaves the rotation until it does", async () => {
  const scene = new Scene();
  const behind = scene.add("behind");
  const ahead = scene.add("ahead");
  const poll = (afterMs: number, sequences: [number, number]): void => {
    scene.clock.jump(afterMs);
    scene.apply(behind, sequences[0]);
    scene.apply(ahead, sequences[1]);
    scene.shard.judgeLag();
  };
  const chosen = async (): Promise<Set<string>> => {
    const all = new Set<string>();
    for (let i = 0; i < 50; i++) all.add(await scene.ask());
    return all;
  };
  poll(0, [10, 1_000]);
  poll(1_000, [10, 5_000]);
  expect(await chosen()).toEqual(new Set(["behind", "ahead"]));
  poll(5_000, [999, 9_000]);
  expect(await chosen()).toEqual(new Set(["ahead"]));
  scene.fails("ahead", "SHARD_UNAVAILABLE");
  expect(await scene.ask()).toBe("behind");
  scene.answers.set("ahead", () => Promise.resolve("ahead"));
  poll(5_000, [9_000, 9_001]);
  expect(await chosen()).toEqual(new Set(["behind", "ahead"]));
});

test("a difference between two replicas at the same sequence is seen, and only there", () => {
  const scene = new Scene();
  const [a, b, c] = [scene.add("a"), scene.add("b"), scene.add("c")];
  scene.apply(a, 7, "active", "aa");
  scene.apply(b, 8, "active", "bb");
  scene.apply(c, 7, "stale", "cc");
  expect(scene.shard.diverged()).toBeUndefined();
  scene.apply(b, 7, "active", "aa");
  expect(scene.shard.diverged()).toBeUndefined();
  scene.apply(b, 7, "catching_up", "bb");
  expect(scene.shard.diverged()).toEqual([a, b]);
  // Not yet of this release: its digest is another one for the same content.
  scene.apply(b, 7, "active", "bb", 1);
  expect(scene.shard.diverged()).toBeUndefined();
  scene.apply(c, 7, "active", "cc", 1);
  expect(scene.shard.diverged()).toEqual([b, c]);
});

test("a cancelled call asks nobody else", async () => {
  const scene = new Scene();
  scene.add("a");
  scene.add("b");
  const abort = new AbortController();
  for (const id of ["a", "b"]) {
    scene.answers.set(id, () => {
      abort.abort();
      return Promise.reject(new KithError("SHARD_UNAVAILABLE", "no"));
    });
  }
  await expect(scene.shard.ask({ ...call, signal: abort.signal }, scene.request)).rejects.toMatchObject({
    code: "CANCELLED",
  });
  expect(scene.asked).toHaveLength(1);
});

test("a replica that is joining is never asked, one that is leaving where no other can answer", async () => {
  const scene = new Scene();
  scene.add("joining", "active", "here", "joining");
  const leaving = scene.add("leaving", "active", "here", "leaving");
  const active = scene.add("active", "active", "there");
  active.inFlight = 100;
  for (let i = 0; i < 20; i++) expect(await scene.ask()).toBe("active");
  scene.fails("active", "SHARD_UNAVAILABLE");
  expect([await scene.ask(), await scene.query()]).toEqual(["leaving", "leaving"]);
  scene.asked.length = 0;
  (leaving.node as { usable: boolean }).usable = false;
  await expect(scene.ask()).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  await expect(scene.query()).rejects.toMatchObject({
    message: expect.stringMatching(
      /^shard 3 has .* \(placed on joining, joining; leaving, leaving; active\)/,
    ) as string,
  });
  expect(scene.asked).not.toContain("joining");
});

test.each(["joining", "leaving"] as const)("a query is not hedged to a replica that is %s", async (placed) => {
  const scene = new Scene();
  scene.add("a");
  scene.add("b", "active", "here", placed);
  await scene.warm();
  const slow = deferred<string>();
  scene.answers.set("a", () => slow.promise);
  const answer = scene.query();
  await scene.clock.advance(1_000);
  slow.resolve("a");
  expect(await answer).toBe("a");
  expect(scene.asked).toEqual(["a"]);
});

test("a shard whose only replica is joining has none that can answer", async () => {
  const scene = new Scene();
  scene.add("new", "active", "here", "joining");
  await expect(scene.query()).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  expect(scene.asked).toEqual([]);
});

test("a node that nobody hears of is asked only where no other active replica can answer", async () => {
  const scene = new Scene();
  const cutOff = scene.add("cut-off");
  Object.assign(cutOff.node, { silent: true });
  scene.add("active", "active", "there");
  for (let i = 0; i < 20; i++) expect(await scene.ask()).toBe("active");
  scene.fails("active", "SHARD_UNAVAILABLE");
  expect(await scene.ask()).toBe("cut-off");
});

test("a shard that cannot answer gives one advice, whatever its replicas advise", async () => {
  const scene = new Scene();
  scene.add("a");
  const refusal = new KithError("SHARD_UNAVAILABLE", "the index is still being built; try again later");
  scene.answers.set("a", () => Promise.reject(refusal));
  const message = await scene.ask().then(String, (error: unknown) => (error as Error).message);
  expect(message).toContain("the index is still being built; try again, or allow_partial");
  expect(message.match(/try again/g)).toHaveLength(1);
});
