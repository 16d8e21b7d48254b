/** Independent checkers: they take what can be read from the cluster when it is well again, and the history, and know nothing of Kith. */
import { sleep, systemClock } from "../../libs/base/index.js";
import { type CollectionHandle, KithError, type KithClient } from "../../libs/client/index.js";
import { shardOf, type Stamp, vectorOf } from "./data.js";
import type { History, Write } from "./history.js";
import { judgePoint } from "./load.js";

export interface CheckOptions {
  client: KithClient;
  handle: CollectionHandle<Stamp>;
  history: History;
  /** Parts of the hash slots in each of which a write is whole: the shards, or what they were split into. */
  divisions: number;
  replicas: number;
  /** How long the cluster may take to be well again, in milliseconds. */
  withinMs?: number;
}

/** What a check has found out beside faults. */
export interface Checked {
  points: number;
  /** How long it took until all replicas were active and equal. */
  settledMs: number;
  recall: number;
  /** Points that are as a write of unknown outcome left them. */
  unknownTaken: number;
}

interface Found {
  serial: number;
  vector: Float32Array;
}

/** All replicas are active, at the end of their logs, and equal by digest; otherwise the first reason why not. */
async function unsettled({ client, replicas }: CheckOptions): Promise<string | undefined> {
  const { shards } = await client.cluster.describe();
  if (shards.length === 0) return "the cluster has no shards";
  for (const { shard, logSequence, replicas: all } of shards) {
    const states = all.map(({ node, state, placement, fault }) => `${node} ${placement} ${state} ${fault}`.trim());
    const isActive = all.every(({ state, placement }) => state === "active" && placement === "active");
    if (all.length !== replicas || !isActive) return `shard ${shard} has ${states.join(", ")}`;
    if (all.some(({ appliedSequence }) => appliedSequence !== logSequence)) return `shard ${shard} lags behind its log`;
    if (new Set(all.map(({ digest }) => digest)).size > 1)
      return `the replicas of shard ${shard} differ at the same sequence`;
  }
  return undefined;
}

async function untilSettled(options: CheckOptions): Promise<number> {
  const { history, withinMs = 90_000 } = options;
  const startMs = systemClock.monotonicMs();
  for (;;) {
    let why: string | undefined;
    try {
      why = await unsettled(options);
      if (why === undefined) return systemClock.monotonicMs() - startMs;
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      why = `${error.code}: ${error.message}`;
    }
    if (systemClock.monotonicMs() - startMs > withinMs) {
      history.violate(`the cluster is not well ${withinMs} ms after the last fault: ${why}`);
      return withinMs;
    }
    await sleep(systemClock, 100);
  }
}

/** Judges everything; what is wrong goes into the violations of the history. The load must have been stopped. */
export async function check(options: CheckOptions): Promise<Checked> {
  const { handle, history, divisions } = options;
  const settledMs = await untilSettled(options);
  const found = await readAll(options);
  let unknownTaken = 0;
  for (const id of history.ids()) unknownTaken += judgeId(history, id, found.get(id));
  judgeFresh(history, found, divisions);
  const count = await handle.count({ consistency: "linearizable" });
  if (count !== found.size) history.violate(`the count is ${count}, and a scroll shows ${found.size} points`);
  return { points: found.size, settledMs, recall: await recallOf(handle, found), unknownTaken };
}

async function readAll({ handle, history }: CheckOptions): Promise<Map<number, Found>> {
  const found = new Map<number, Found>();
  for await (const point of handle.scroll({ batch: 2_000, withVectors: true, consistency: "linearizable" })) {
    const id = Number(point.id);
    if (found.has(id)) history.violate(`a scroll shows point ${id} twice`);
    judgePoint(history, id, point.payload?.serial, "a scroll");
    history.seeVersion(id, point.version);
    const serial = point.payload?.serial ?? 0;
    const expected = vectorOf(id, serial);
    const { vector } = point;
    if (vector === undefined || !expected.every((value, i) => value === vector[i])) {
      history.violate(`point ${id} has the payload of write ${serial} and another vector`);
    }
    found.set(id, { serial, vector: vector ?? expected });
  }
  return found;
}

/** A write whose outcome is unknown may be under way for so long after its client has given it up, in milliseconds. */
const lateMs = 30_000;

function mayBeLast(unknown: Write, last: Write | undefined): boolean {
  return last === undefined || unknown.serial > last.serial || last.startMs - unknown.endMs < lateMs;
}

/**
 * No acknowledged write is lost, and no failed one visible: a point is as its last acknowledged write left it, or as one of unknown outcome
 * did. Gives 1 where the latter is so.
 */
function judgeId(history: History, id: number, found: Found | undefined): number {
  const writes = history.of(id);
  const last = writes.findLast(({ outcome }) => outcome === "ok");
  const isExpected = last === undefined || last.kind === "delete" ? found === undefined : found?.serial === last.serial;
  if (isExpected) return 0;
  const unknown = writes.filter((write) => write.outcome === "unknown" && mayBeLast(write, last));
  const isUnknown = unknown.some(({ kind, serial }) =>
    kind === "delete" ? found === undefined : found?.serial === serial,
  );
  if (isUnknown) return 1;
  const is = found === undefined ? "not there" : `as write ${found.serial} left it`;
  const was =
    last === undefined
      ? "was never written"
      : `was ${last.kind === "delete" ? "deleted" : "written"} by ${last.serial}`;
  history.violate(`point ${id} ${was} (acknowledged), and is ${is}`);
  return 0;
}

/** A batch of new ids is there as a whole in each shard, or not at all. */
function judgeFresh(history: History, found: ReadonlyMap<number, Found>, divisions: number): void {
  for (const { ids, isFresh, serial, kind } of history.writes) {
    if (!isFresh || kind !== "upsert") continue;
    const there = new Map<number, Set<boolean>>();
    for (const id of ids) {
      const shard = shardOf(id, divisions);
      const seen = there.get(shard) ?? new Set();
      there.set(shard, seen.add(found.has(id)));
    }
    for (const [shard, seen] of there) {
      if (seen.size > 1)
        history.violate(`write ${serial} of ${ids.length} new points is in part ${shard} of ${divisions} only partly`);
    }
  }
}

const recallQueries = 100;
const neighbours = 10;

/** Share of the ten true neighbours that searches find; what is true is computed here, from all points. */
async function recallOf(handle: CollectionHandle<Stamp>, found: ReadonlyMap<number, Found>): Promise<number> {
  let hits = 0;
  let wanted = 0;
  for (let i = 0; i < recallQueries; i++) {
    const query = vectorOf(i, 2_000_000_000);
    const truth = nearest(query, found);
    const { points } = await handle.query({ vector: query, limit: neighbours, deadlineMs: 20_000 });
    hits += points.filter(({ id }) => truth.has(Number(id))).length;
    wanted += truth.size;
  }
  return wanted === 0 ? 1 : hits / wanted;
}

function nearest(query: Float32Array, found: ReadonlyMap<number, Found>): Set<number> {
  const best: { id: number; distance: number }[] = [];
  for (const [id, { vector }] of found) {
    let distance = 0;
    for (let i = 0; i < query.length; i++) distance += ((query[i] as number) - (vector[i] as number)) ** 2;
    const worst = best.at(-1);
    if (best.length === neighbours && worst !== undefined && distance >= worst.distance) continue;
    const at = best.findIndex((each) => each.distance > distance);
    best.splice(at === -1 ? best.length : at, 0, { id, distance });
    if (best.length > neighbours) best.pop();
  }
  return new Set(best.map(({ id }) => id));
}
