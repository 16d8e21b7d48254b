import { afterEach, beforeEach, expect, test } from "vitest";
import { type Deferred, deferred, KithError } from "../../base/index.js";
import type { Log } from "../../log/index.js";
import { active, call, eventually, upsert, World } from "../testing/harness.fixture.js";
import type { Replica } from "../index.js";

/** When a replica may answer reads that ask for no sequence. */

let world: World;
/** Whether the log can be asked how far it goes. */
let isAway: boolean;
/** What delivering the record waits for, by sequence. */
let gates: Map<number, Deferred<void>>;
beforeEach(async () => {
  world = await World.make();
  isAway = false;
  gates = new Map();
});
afterEach(async () => {
  for (const gate of gates.values()) gate.resolve();
  await world.end();
});

const write = (id: number): Promise<number> => world.append([upsert([{ id, vector: [id, 0, 0, 0] }])]);

function hold(sequence: number): Deferred<void> {
  const gate = deferred<void>();
  gates.set(sequence, gate);
  return gate;
}

function open(changed: Partial<Log> = {}): Promise<Replica> {
  const log: Pick<Log, "state" | "subscribe"> = {
    state: async (name) => {
      if (isAway) throw new KithError("LOG_UNAVAILABLE", "the log is away");
      return world.log.state(name);
    },
    subscribe: (name, options) =>
      world.log.subscribe(name, {
        ...options,
        onEntries: async (entries) => {
          for (const entry of entries) {
            await gates.get(entry.sequence)?.promise;
            await options.onEntries([entry]);
          }
        },
      }),
  };
  return world.open({ log: { ...log, ...changed } as Log });
}

const applied = (replica: Replica, sequence: number): Promise<boolean> =>
  eventually("applied", () => replica.appliedSequence === sequence);

test("one that never had all of its log is not active without it, after however many starts", async () => {
  for (let id = 1; id <= 5; id++) await write(id);
  const gate = hold(4);
  let replica = await open();
  await applied(replica, 3);
  await closeHeld(replica, gate);
  isAway = true;
  for (let start = 0; start < 2; start++) {
    world.alarms.length = 0;
    replica = await open();
    await eventually("it looked for the log", () => world.alarms.some(({ kind }) => kind === "log_unreachable"));
    expect(replica.status().state).toBe("catching_up");
    await expect(replica.read("count", { minSequence: 0 }, call)).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
    if (start === 0) await replica.close();
  }
  gates.clear();
  isAway = false;
  await active(replica);
  expect(await replica.read("count", { minSequence: 0 }, call)).toEqual({ count: 5, sequence: 5 });
});

/** The subscription ends with its handler, which the gate holds. */
async function closeHeld(replica: Replica, gate: Deferred<void>): Promise<void> {
  const closed = replica.close();
  gate.resolve();
  await closed;
  expect(replica.appliedSequence).toBe(3);
}

test("one that is active without its log catches up first when the log is back and has gone on", async () => {
  for (let id = 1; id <= 3; id++) await write(id);
  let replica = await active(await open());
  await replica.close();
  isAway = true;
  replica = await active(await open());
  expect((await replica.read("count", { minSequence: 0 }, call)).count).toBe(3);
  const last = await write(4);
  const gate = hold(last);
  isAway = false;
  await eventually("catching up", () => replica.status().state === "catching_up");
  await expect(replica.read("count", { minSequence: 0 }, call)).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  expect((await replica.read("count", { minSequence: 3 }, call)).count).toBe(3);
  gate.resolve();
  await active(replica);
  expect((await replica.read("count", { minSequence: 0 }, call)).count).toBe(4);
});

test("whoever is told that it is not active can count on what it must have applied when it is", async () => {
  for (let id = 1; id <= 3; id++) await write(id);
  const third = hold(3);
  const fourth = hold(4);
  const replica = await open();
  await applied(replica, 2);
  const last = await write(4);
  expect(replica.status(last).state).toBe("catching_up");
  third.resolve();
  await applied(replica, 3);
  expect(replica.status().state).toBe("catching_up");
  fourth.resolve();
  await active(replica);
  expect(await replica.read("count", { minSequence: 0 }, call)).toEqual({ count: 4, sequence: 4 });
});

test("a log that seems shorter for a while does not stop it", async () => {
  for (let id = 1; id <= 3; id++) await write(id);
  let replica = await active(await open());
  await replica.close();
  let shorterCount = 2;
  replica = await open({
    state: async (name) => {
      const state = await world.log.state(name);
      return shorterCount-- > 0 ? { ...state, lastSequence: 1 } : state;
    },
  });
  await active(replica);
  expect(world.alarms.map(({ kind }) => kind)).toEqual(["log_misread", "log_misread"]);
  expect(await replica.read("count", { minSequence: 0 }, call)).toEqual({ count: 3, sequence: 3 });
});

test("a log that stays shorter stops it", async () => {
  for (let id = 1; id <= 3; id++) await write(id);
  let replica = await active(await open());
  await replica.close();
  replica = await open({ state: async (name) => ({ ...(await world.log.state(name)), lastSequence: 1 }) });
  await eventually("stale", () => replica.status().state === "stale");
  expect(replica.status().fault).toMatch(
    /the log, which ends at 1 .* is not the one of which this replica has applied 3 records/,
  );
});

test("that its log is gone is not believed at once", async () => {
  for (let id = 1; id <= 3; id++) await write(id);
  let replica = await active(await open());
  await replica.close();
  let goneCount = 2;
  replica = await open({
    state: async (name) => {
      if (goneCount-- > 0) throw new KithError("NOT_FOUND", "there is no log c1-0");
      return world.log.state(name);
    },
  });
  await active(replica);
  expect(await replica.read("count", { minSequence: 0 }, call)).toEqual({ count: 3, sequence: 3 });
});

test("one whose process stood still is not active before it has what the log holds by now", async () => {
  const replica = await active(await open());
  const gate = hold(1);
  await write(1);
  expect(replica.status().state).toBe("active");
  await replica.recheck();
  expect(replica.status().state).toBe("catching_up");
  await expect(replica.read("count", { minSequence: 0 }, call)).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  gate.resolve();
  await active(replica);
  expect(await replica.read("count", { minSequence: 0 }, call)).toEqual({ count: 1, sequence: 1 });
});
