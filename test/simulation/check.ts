import { type Collection, idFromNum, idMapKey, type ShardPlacement, type SlotRange } from "../../libs/model/index.js";
import { xxh64 } from "../../libs/hash/index.js";
import { Model, type ModelPoint, partOf } from "../../libs/engine/testing.js";
import { parseFilter } from "../../libs/filter/index.js";
import { hashSlotCount, hashSlotOf } from "../../libs/sharding/index.js";
import { decodeRecord, type ipb, type pb } from "../../libs/wire/index.js";
import { numOf } from "./client.js";
import type { Entry, ReadContent, ReadEntry, WriteEntry } from "./history.js";
import type { Ledger, RecordedLog } from "./nats.js";

/** What an operation did, and to the points of which hash slots. */
interface Done {
  slots: SlotRange;
  outcome: OperationOutcome;
}

type OperationOutcome = NonNullable<ReturnType<Model["done"]["get"]>>;

/** What a shard begins with that is made of the files of a backup, and the sequence of that. */
interface Restored {
  state: Model;
  sequence: number;
}

/** What a shard has from those whose hash slots it has got: all until their seals, of its own slots. */
interface Beginning {
  parents: readonly ShardPast[];
  slots: SlotRange;
  /** Of a shard that was merged: the record with which it had all of them. Nobody sees it before. */
  wholeAt?: number;
}

/**
 * A shard's content after each record of its log, and what each operation did: by the naive model, one record after the other. What stands behind a
 * seal counts for nothing.
 */
export class ShardPast {
  /** By id of the operation: what the shards of before did, and this one. */
  readonly outcomes = new Map<string, readonly Done[]>();
  /** Ids of operations, by sequence. */
  readonly operations = new Map<number, readonly string[]>();
  /** Of the first of the states. */
  readonly #first: number;
  readonly #states: Model[];
  readonly #slots: SlotRange;

  /** `afterSequence`: behind which the records begin. */
  constructor(
    records: readonly Uint8Array[],
    afterSequence: number,
    slots: SlotRange,
    beginning?: Beginning,
    restored?: Restored,
  ) {
    this.#slots = slots;
    const { parents = [], wholeAt } = beginning ?? {};
    const [parent] = parents;
    if (restored !== undefined) {
      this.#first = restored.sequence;
      this.#states = [copyOf(restored.state)];
    } else if (wholeAt !== undefined) {
      this.#first = wholeAt;
      this.#states = [unionOf(parents, wholeAt)];
    } else {
      this.#first = parent === undefined ? 0 : parent.#first;
      this.#states = parent === undefined ? [new Model()] : parent.#states.map((state) => copyOf(state, slots));
    }
    for (const { outcomes } of parents) {
      for (const [id, done] of outcomes) {
        const known = this.outcomes.get(id) ?? [];
        this.outcomes.set(id, [...known, ...done.filter((each) => !known.includes(each))]);
      }
    }
    const model = copyOf(this.last);
    for (const [i, data] of records.entries()) {
      const sequence = afterSequence + 1 + i;
      if (sequence <= (wholeAt ?? 0)) continue;
      const record = decodeRecord(data);
      this.#apply(record, model);
      this.#states.push(copyOf(model));
      this.operations.set(
        sequence,
        record.operations.map(({ operationId }: ipb.Operation) => idMapKey(operationId)),
      );
      if (record.operations.some(({ mutation }) => mutation?.$case === "seal")) break;
    }
  }

  #apply({ operations, appendedAtMs }: ipb.LogRecord, model: Model): void {
    model.sequence++;
    for (const operation of operations) {
      const { mutation, operationId } = operation;
      // The schema does not change what points are, and what is adopted late counts for nothing.
      if (mutation?.$case === "changeSchema" || mutation?.$case === "adopt") continue;
      const id = idMapKey(operationId);
      const known = this.outcomes.get(id) ?? [];
      if (known.length > 0 && isCovered(known, this.#slots)) continue;
      const isDone = (key: Uint8Array): boolean => known.some(({ slots }) => isIn(slots, hashSlotOf(key)));
      const rest = known.length === 0 ? operation : partOf(operation, (key) => !isDone(key));
      if (rest === undefined) continue;
      // What a filter or a truncation would find of them is not there for it.
      const aside = [...model.points].filter(([, point]) => known.length > 0 && isDone(point.id));
      const isByIds = rest !== operation || aside.length === 0;
      if (!isByIds) for (const [key] of aside) model.points.delete(key);
      model.done.delete(id);
      model.sequence--;
      model.apply([rest], appendedAtMs);
      if (!isByIds) for (const [key, point] of aside) model.points.set(key, point);
      const outcome = model.done.get(id);
      if (outcome !== undefined) this.outcomes.set(id, [...known, { slots: this.#slots, outcome }]);
    }
  }

  get last(): Model {
    return this.#states.at(-1) as Model;
  }

  /** Sequence of the last state. */
  get end(): number {
    return this.#first + this.#states.length - 1;
  }

  has(sequence: number): boolean {
    return this.#states[sequence - this.#first] !== undefined;
  }

  /** The states from one sequence to another, the newest first. */
  between(from: number, to: number): Model[] {
    return this.#states.slice(Math.max(0, from - this.#first), to - this.#first + 1).reverse();
  }
}

/** Whether what was done was about all of the slots. */
function isCovered(done: readonly Done[], { firstSlot, lastSlot }: SlotRange): boolean {
  let next = firstSlot;
  for (const { slots } of [...done].sort((a, b) => a.slots.firstSlot - b.slots.firstSlot)) {
    if (slots.firstSlot <= next) next = Math.max(next, slots.lastSlot + 1);
  }
  return next > lastSlot;
}

/** All that the shards had at their ends. */
function unionOf(parents: readonly ShardPast[], sequence: number): Model {
  const union = new Model();
  for (const { last } of parents) for (const [key, point] of copyOf(last).points) union.points.set(key, point);
  union.sequence = sequence;
  return union;
}

/**
 * The record with which a shard had all of those that were merged into it; undefined where it never had. The records of each reader count in their order, up
 * to those of a later one.
 */
function wholeAt(records: readonly Uint8Array[], afterSequence: number): number | undefined {
  const readers = new Map<number, { term: number; part: number; isWhole: boolean }>();
  for (const [i, data] of records.entries()) {
    for (const { mutation } of decodeRecord(data).operations) {
      if (mutation?.$case !== "adopt") continue;
      const { shard, term, part, isWhole, shardCount } = mutation.value;
      const before = readers.get(shard);
      if (before !== undefined && (term < before.term || (term === before.term && part <= before.part))) continue;
      readers.set(shard, { term, part, isWhole });
      const all = [...readers.values()];
      if (all.length === shardCount && all.every((each) => each.isWhole)) return afterSequence + 1 + i;
    }
  }
  return undefined;
}

/** `slots`: only the points in these. */
function copyOf(model: Model, slots?: SlotRange): Model {
  const copy = new Model();
  copy.sequence = model.sequence;
  for (const [id, point] of model.points) {
    if (slots === undefined || isIn(slots, hashSlotOf(point.id))) {
      copy.points.set(id, { ...point, vectors: new Map(point.vectors) });
    }
  }
  return copy;
}

function isIn({ firstSlot, lastSlot }: SlotRange, slot: number): boolean {
  return firstSlot <= slot && slot <= lastSlot;
}

/** What a point is, in one line. */
export function printPoint(version: number, payload: string, vector: ArrayLike<number> | undefined): string {
  return `version ${version}, ${payload === "" ? "no payload" : payload}, ${vector === undefined ? "no vector" : Array.from(vector).join("/")}`;
}

export function printModelPoint(point: ModelPoint): string {
  return printPoint(point.version, point.payload.value, point.vectors.get("")?.value);
}

/** As `printPoint`, without the version. */
export function printContent({ payload, vectors }: ModelPoint): string {
  return printPoint(0, payload.value, vectors.get("")?.value);
}

function printWirePoint({ version, payload, vectors }: Pick<pb.Point, "version" | "payload" | "vectors">): string {
  return printPoint(version, Buffer.from(payload).toString(), vectors[""]?.values);
}

const everySlot: SlotRange = { firstSlot: 0, lastSlot: hashSlotCount - 1 };

/** Everything that happened, judged: by the logs, which say what is true, and by what clients were told. */
export class Judge {
  readonly violations: string[] = [];
  readonly #pasts = new Map<string, ShardPast>();
  readonly #collections: ReadonlyMap<string, Collection>;
  /** All that ever were, by id of the collection. */
  readonly #shards: ReadonlyMap<string, ReadonlyMap<number, ShardPlacement>>;

  constructor(ledger: Ledger) {
    this.#collections = ledger.collections;
    this.#shards = ledger.shards;
    // A shard that comes from another one has a higher id.
    const isRestored = ({ name }: RecordedLog): number => (ledger.restored.has(name.collectionId) ? 1 : 0);
    const logs = [...ledger.logs.values()].sort((a, b) => isRestored(a) - isRestored(b) || a.name.shard - b.name.shard);
    for (const { name, records, afterSequence } of logs) {
      const { collectionId, shard } = name;
      const placement = this.#shards.get(collectionId)?.get(shard);
      const { parents: ids = [], merge } = placement?.origin ?? {};
      const parents = ids.flatMap((parent) => this.pastOf(collectionId, parent) ?? []);
      const slots = placement ?? everySlot;
      const whole = merge === undefined ? undefined : wholeAt(records, afterSequence);
      const end = Math.max(0, ...parents.map((parent) => parent.end));
      const isBehind = merge === undefined ? afterSequence === end : afterSequence > end;
      if (parents.length > 0 && !isBehind) {
        this.#fail(
          `the log ${collectionId}/${shard} begins behind ${afterSequence}, and the one before ended at ${end}`,
        );
      }
      // It was given up before anybody saw it.
      if (merge !== undefined && whole === undefined) continue;
      const beginning = { parents, slots, ...(whole !== undefined && { wholeAt: whole }) };
      const restored = this.#restoredOf(ledger, collectionId, shard);
      if (restored !== undefined && afterSequence !== restored.sequence) {
        this.#fail(
          `the log ${collectionId}/${shard} begins behind ${afterSequence}, and its backup is of ${restored.sequence}`,
        );
      }
      const past = new ShardPast(records, afterSequence, slots, parents.length === 0 ? undefined : beginning, restored);
      this.#pasts.set(`${collectionId}/${shard}`, past);
    }
  }

  /** Undefined where a shard begins with nothing, or with what other shards of its collection had. */
  #restoredOf({ restored, backups }: Ledger, collectionId: string, shard: number): Restored | undefined {
    const { backup = "", parts } = restored.get(collectionId) ?? {};
    const part = parts?.[shard];
    const source = backups.get(backup)?.collectionId;
    if (part === undefined || source === undefined) return undefined;
    const { shard: number, sequence } = part;
    const state = this.pastOf(source, number)?.between(sequence, sequence)[0];
    return state && { state, sequence };
  }

  /** What a token asks of a shard: what it says of it, or of those that had its hash slots before. */
  sequenceOf(token: pb.Token, shard: number): number {
    const ancestors = this.#shards.get(token.collectionId)?.get(shard)?.origin?.ancestors ?? [];
    return Math.max(...[shard, ...ancestors].map((each) => sequenceOf(token, each)));
  }

  pastOf(collectionId: string, shard: number): ShardPast | undefined {
    return this.#pasts.get(`${collectionId}/${shard}`);
  }

  judge(history: readonly Entry[]): void {
    for (const entry of history) {
      if (entry.kind === "write") this.#judgeWrite(entry);
      else if (entry.kind === "read") this.#judgeRead(entry);
    }
  }

  /** What all active replicas had when it was acknowledged, any read that begins later sees. Where connections break, not all are asked. */
  judgeAcknowledgedByAll(history: readonly Entry[]): void {
    const writes = history.filter((entry) => entry.kind === "write");
    for (const read of history) {
      if (read.kind !== "read") continue;
      for (const { shard, sequence } of read.token.shards) {
        for (const write of writes) {
          const isBefore = write.ack === "all" && write.outcome === "ok" && write.endMs <= read.startMs;
          if (!isBefore || write.token?.collectionId !== read.token.collectionId) continue;
          const min = this.sequenceOf(write.token, shard);
          if (sequence >= min) continue;
          this.#fail(
            `the ${read.answer.kind} of ${read.client} at ${read.startMs.toFixed(1)} shows ${shard}:${sequence}, and the write ${write.key} was acknowledged by all at ${shard}:${min}`,
          );
        }
      }
    }
  }

  #fail(text: string): void {
    this.violations.push(text);
  }

  #judgeWrite(entry: WriteEntry): void {
    const { key, what, outcome, token } = entry;
    const name = `the write ${key} (${what})`;
    const found = this.#findOperations(entry);
    if (outcome === "failed") {
      if (found.length > 0) this.#fail(`${name} was refused, and is in the log ${found.map(({ at }) => at).join()}`);
      return;
    }
    if (outcome !== "ok" || token === undefined) return;
    let affected = 0;
    const errors: string[] = [];
    /** What an operation did before a split or a merge is told once, whichever shards are asked. */
    const counted = new Set<object>();
    for (const { shard, sequence } of token.shards) {
      const at = `${token.collectionId}/${shard}`;
      const own = found.filter((each) => each.at === at);
      if (!own.some((each) => each.sequence === sequence)) {
        this.#fail(
          `${name} was acknowledged at ${at}:${sequence}, and is not there: ${own.map((each) => each.sequence).join() || "nowhere"}`,
        );
      }
      for (const id of new Set(own.map((each) => each.id))) {
        for (const told of this.#pasts.get(at)?.outcomes.get(id) ?? []) {
          if (counted.has(told)) continue;
          counted.add(told);
          affected += told.outcome.affected;
          errors.push(...told.outcome.failures.map(({ code }) => code));
        }
      }
    }
    if (entry.affected !== undefined && entry.affected !== affected) {
      this.#fail(`${name} told of ${entry.affected} points, and wrote ${affected}`);
    }
    if (entry.errors !== undefined && entry.errors.join() !== errors.sort().join()) {
      this.#fail(`${name} told of the errors ${entry.errors.join()}, and had ${errors.join()}`);
    }
  }

  /** Where the operations of a write are: their ids follow from its key. */
  #findOperations({ key, collection }: WriteEntry): { at: string; sequence: number; id: string }[] {
    const found: { at: string; sequence: number; id: string }[] = [];
    for (const { id: collectionId, name } of this.#collections.values()) {
      if (name !== collection) continue;
      const ids = new Set(Array.from({ length: operationsMax }, (_, part) => operationId(collectionId, key, part)));
      for (const [at, { operations }] of this.#pasts) {
        if (!at.startsWith(`${collectionId}/`)) continue;
        for (const [sequence, present] of operations) {
          for (const id of present) if (ids.has(id)) found.push({ at, sequence, id });
        }
      }
    }
    return found;
  }

  /** An answer is that of one state of each shard, which is no later than it says, and no earlier than it was asked for. */
  #judgeRead({ token, atLeast, answer, client, startMs }: ReadEntry): void {
    const collection = this.#collections.get(token.collectionId);
    const name = `the ${answer.kind} of ${client} at ${startMs.toFixed(1)}`;
    if (collection === undefined) return this.#fail(`${name} names a collection ${token.collectionId} that never was`);
    const windows: { shard: number; states: Model[] }[] = [];
    for (const { shard, sequence } of token.shards) {
      const past = this.pastOf(token.collectionId, shard);
      const min = atLeast?.collectionId === token.collectionId ? this.sequenceOf(atLeast, shard) : 0;
      if (sequence < min)
        this.#fail(`${name} is stale: it shows ${shard}:${sequence}, and was to show ${min} at least`);
      if (past?.has(sequence) !== true)
        return this.#fail(`${name} names the record ${shard}:${sequence} that never was`);
      windows.push({
        shard,
        states: past.between(Math.max(Math.min(min, sequence), sequence - spanMax), sequence),
      });
    }
    const wrong = judgeContent(answer, windows, (id) => {
      const slot = hashSlotOf(idFromNum(id));
      const read = token.shards.flatMap(({ shard }) => this.#shards.get(token.collectionId)?.get(shard) ?? []);
      return read.find((placement) => isIn(placement, slot))?.shard;
    });
    if (wrong !== undefined)
      this.#fail(`${name} at ${token.shards.map(({ shard, sequence }) => `${shard}:${sequence}`).join(" ")} ${wrong}`);
  }
}

/** Operations of one write: for each of three writes of a batch, one for each shard. */
const operationsMax = 12;
/** States of several shards that are tried together. */
const combinationsMax = 1_000;
/** Records that may come between what an answer shows and what it says that it may show. */
const spanMax = 10;

function sequenceOf(token: pb.Token, shard: number): number {
  return token.shards.find((each) => each.shard === shard)?.sequence ?? 0;
}

/** As the router makes it: see OperationIds in services/router/write/writes.ts. */
function operationId(collectionId: string, key: string, part: number): string {
  const input = Buffer.concat([Buffer.from(`${collectionId}\0${key}\0`), Buffer.from(String(part))]);
  const id = Buffer.alloc(16);
  id.writeBigUInt64BE(xxh64(input, 0n), 0);
  id.writeBigUInt64BE(xxh64(input, 0x6b697468n), 8);
  return idMapKey(id);
}

interface Window {
  shard: number;
  /** Newest first. */
  states: Model[];
}

/** What is wrong with an answer; undefined where some state of each shard explains it. */
function judgeContent(
  answer: ReadContent,
  windows: readonly Window[],
  shardOf: (id: number) => number | undefined,
): string | undefined {
  switch (answer.kind) {
    case "get":
    case "scroll": {
      const told = new Map(answer.points.map((point) => [numOf(point.id), printWirePoint(point)]));
      if (told.size !== answer.points.length) return "has a point twice";
      for (const { shard, states } of windows) {
        const ids = answer.kind === "get" ? answer.ids.filter((id) => shardOf(id) === shard) : undefined;
        const own = [...told].filter(([id]) => shardOf(id) === shard).sort(([a], [b]) => a - b);
        const fits = states.some((state) => {
          const expected = state.sorted().flatMap((point): [number, string][] => {
            const id = numFromKey(point.id);
            return ids === undefined || ids.includes(id) ? [[id, printModelPoint(point)]] : [];
          });
          return JSON.stringify(expected) === JSON.stringify(own);
        });
        if (!fits) {
          const newest = states[0]?.sorted().map((point) => `${numFromKey(point.id)}: ${printModelPoint(point)}`);
          return `is of no state of shard ${shard}: it has ${own.map(([id, text]) => `${id}: ${text}`).join("; ")}, and the newest is ${newest?.join("; ")}`;
        }
      }
      return undefined;
    }
    case "count":
      return someCombination(windows, (states) => {
        const filter = answer.filter === "" ? undefined : parseFilter(answer.filter);
        const count = states.reduce(
          (sum, state) => sum + (filter === undefined ? state.points.size : state.matching(filter).length),
          0,
        );
        return count === answer.count;
      })
        ? undefined
        : `counts ${answer.count}, which no state has`;
    case "query": {
      const told = answer.points.map(
        ({ id, score = 0, ...point }): Found => ({ id: numOf(id), score, text: printWirePoint(point) }),
      );
      const fits = someCombination(windows, (states) =>
        areNearest(told, nearest(states, answer.vector, answer.filter), answer.limit),
      );
      if (fits) return undefined;
      const newest = nearest(
        windows.flatMap(({ states }) => states.slice(0, 1)),
        answer.vector,
        answer.filter,
      );
      return `finds ${printFound(told)}, which no state has; the newest: ${printFound(newest.slice(0, answer.limit))}`;
    }
  }
}

/** A point that a search finds. */
export interface Found {
  id: number;
  score: number;
  /** The point, as `printPoint` gives it. */
  text: string;
}

export function printFound(found: readonly Found[]): string {
  return found.map(({ id, score, text }) => `${id} at ${score.toFixed(3)}: ${text}`).join("; ");
}

/** All points of all shards, the nearest first; ties by id. */
export function nearest(states: readonly Model[], vector: Float32Array, filterText: string): Found[] {
  const filter = filterText === "" ? undefined : parseFilter(filterText);
  const points = states.flatMap((state) => (filter === undefined ? state.sorted() : state.matching(filter)));
  const found = points.flatMap((point): Found[] => {
    const own = point.vectors.get("")?.value;
    if (own === undefined) return [];
    const squares =
      ((own[0] as number) - (vector[0] as number)) ** 2 + ((own[1] as number) - (vector[1] as number)) ** 2;
    return [{ id: numFromKey(point.id), score: Math.fround(Math.sqrt(squares)), text: printModelPoint(point) }];
  });
  return found.sort((a, b) => a.score - b.score || a.id - b.id);
}

/** Whether `told` are the `limit` first of `all`. Which of those that are equally far away come in at the end, nobody promises. */
export function areNearest(told: readonly Found[], all: readonly Found[], limit: number): boolean {
  const expected = all.slice(0, limit);
  if (told.length !== expected.length) return false;
  const lastScore = expected.at(-1)?.score;
  const byId = new Map(all.map((found) => [found.id, found]));
  return told.every(({ id, score, text }, i) => {
    const before = told[i - 1];
    const isInOrder = before === undefined || before.score < score || (before.score === score && before.id < id);
    const own = expected[i] as Found;
    const isRight = byId.get(id)?.text === text && byId.get(id)?.score === score;
    return isInOrder && isRight && (score === lastScore ? own.score === score : own.id === id);
  });
}

function someCombination(windows: readonly Window[], fits: (states: Model[]) => boolean): boolean {
  let combinations: Model[][] = [[]];
  for (const { states } of windows) {
    combinations = combinations.flatMap((each) => states.map((state) => [...each, state])).slice(0, combinationsMax);
  }
  return combinations.some(fits);
}

/** The number of an id in key form. */
export function numFromKey(key: Uint8Array): number {
  return Number(Buffer.from(key).readBigUInt64BE(1));
}
