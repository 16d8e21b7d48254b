import { KithError, limits } from "../../base/index.js";
import { compileFilter, filterSchemaOf, type PointTest, runSteps, StoredFilterPoint } from "../../filter/index.js";
import type { Filter, IdKey, ItemFailureCode } from "../../model/index.js";
import { filterFromWire, type ipb, pb } from "../../wire/index.js";
import { type Schema, vectorFieldsOf } from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { type Effect, effectOf, type PayloadTest } from "./effects.js";
import type { TargetedMutation } from "./mutation.js";
import { failureOf, noFailures, type Outcome, refusal } from "./outcome.js";
import type { Turns } from "./turns.js";
import { checkIds } from "./upserts.js";
import { slotsIn } from "../read/sampled-slots.js";
import {
  exists,
  hasVector,
  payloadBytesOf,
  payloadOf,
  type TouchedPoint,
  vectorBytesOf,
  type WriteSet,
} from "./write-set.js";

/** Heads that are read at once of points that a filter selects. */
const selectedAtOnce = 256;

/** Where in the log a mutation stands. */
export interface Place {
  sequence: number;
  schema: Schema;
  /** Wall clock of the record's router, milliseconds since the Unix epoch: what has expired by then is not there. */
  nowMs: number;
  /** What the record's mutations have rewritten so far. */
  rewritten: { bytes: number };
  /** Whether the mutation is about a point; undefined: about all. */
  about?: ((id: IdKey) => boolean) | undefined;
}

interface Conditions {
  filter: Filter | undefined;
  /** What does not pass does not exist for the caller, and is nothing that it may leave; undefined: all points pass. */
  rule: PointTest | undefined;
  onlyIf: PointTest | undefined;
  expectedVersions: readonly number[];
}

/** Evaluates mutations that are about a target, against the write set of a batch of records. */
export class TargetedWrites {
  readonly #replica: OpenReplica;
  readonly #writeSet: WriteSet;
  readonly #turns: Turns;

  constructor(replica: OpenReplica, writeSet: WriteSet, turns: Turns) {
    this.#replica = replica;
    this.#writeSet = writeSet;
    this.#turns = turns;
  }

  /**
   * What the mutation does; `points` are those that it names by ids. Decided by the mutation and by what the points hold where it
   * stands in the log, so that all replicas decide alike: indexes only find sooner what a filter selects. What is refused as a
   * whole has changed nothing. `rule`: the filter of the points that exist for the caller. A KithError where the mutation should have got past no router; rejects where the store fails.
   */
  async evaluate(
    mutation: TargetedMutation,
    rule: Uint8Array | undefined,
    points: readonly TouchedPoint[],
    place: Place,
  ): Promise<Outcome | KithError> {
    let effect: Effect;
    let conditions: Conditions;
    try {
      effect = effectOf(mutation, place.schema, place.sequence);
      conditions = conditionsOf(mutation.value.target, rule, place.schema);
    } catch (error) {
      if (error instanceof KithError) return error;
      throw error;
    }
    const { filter } = conditions;
    const selected = filter === undefined ? points : await this.#select(filter, place);
    if (selected instanceof KithError) return refusal(selected);
    const tooMuch = this.#charge(effect, selected, place);
    if (tooMuch !== undefined) return refusal(tooMuch);
    const { wanted } = effect;
    const payload = wanted.payload || conditions.onlyIf !== undefined || conditions.rule !== undefined;
    await this.#writeSet.load(selected, { payload, vectors: wanted.vectors }, vectorFieldsOf(place.schema));
    return this.#apply(effect, conditions, selected, place);
  }

  /** Plans all, then changes all: what is refused as a whole has changed nothing. */
  async #apply(
    effect: Effect,
    conditions: Conditions,
    points: readonly TouchedPoint[],
    { schema, nowMs }: Place,
  ): Promise<Outcome> {
    const { filter, rule, onlyIf, expectedVersions } = conditions;
    const changes: (() => void)[] = [];
    const failures: number[] = [];
    let affected = 0;
    for (let row = 0; row < points.length; row++) {
      if (this.#turns.isDue()) await this.#turns.pass();
      const point = points[row] as TouchedPoint;
      const isSeen = point.live && (rule === undefined || rule(filterPoint(point, schema)));
      const isStored = exists(point, nowMs);
      const isThere = isSeen && isStored;
      const isHidden = isStored && !isSeen;
      const decided = decide(effect, point, row, { isThere, isSeen, isHidden }, expectedVersions[row] ?? 0, {
        passes: () => onlyIf === undefined || (isThere && onlyIf(filterPoint(point, schema))),
        allows: (bytes) => rule === undefined || rule(new StoredFilterPoint(point.id, bytes, noVectors)),
      });
      if (typeof decided === "function") {
        changes.push(decided);
        if (isThere || effect.missing === "write") affected++;
      } else if (decided !== undefined) {
        if (filter === undefined) failures.push(failureOf(row, decided));
        else if (decided !== "CONDITION_FAILED" && decided !== "POINT_NOT_FOUND") return refusal(wholeFailure(decided));
      }
    }
    for (const change of changes) {
      change();
      if (this.#turns.isDue()) await this.#turns.pass();
    }
    return { affected, failures: failures.length === 0 ? noFailures : Uint32Array.from(failures) };
  }

  /** The points that pass the filter where the mutation stands: those of before the record, and what the record has made of points. */
  async #select(filter: Filter, { schema, nowMs, about }: Place): Promise<TouchedPoint[] | KithError> {
    const { slots, masks } = this.#replica;
    const writeSet = this.#writeSet;
    const changed = [...writeSet.points.values()].filter((point) => point.changed);
    const selected: TouchedPoint[] = [];
    if (changed.length > 0) {
      const live = changed.filter((point) => point.live);
      await writeSet.load(live, { payload: true, vectors: false }, []);
      const test = compileFilter(filter, filterSchemaOf(schema.payloadIndexes));
      for (const point of live) {
        if (exists(point, nowMs) && test(filterPoint(point, schema))) selected.push(point);
        if (this.#turns.isDue()) await this.#turns.pass();
      }
    }
    // The applier alone changes points, and stands here: the mask is of the state before the record.
    const mask = await masks.of(filter, undefined);
    if (mask.count > limits.filterTargets + changed.length) return tooMany(mask.count);
    const steps = slotsIn(mask.words.slice());
    const matching = await runSteps(steps, { clock: this.#replica.context.clock, signal: this.#replica.stopped });
    for (let from = 0; from < matching.length; from += selectedAtOnce) {
      const ids: IdKey[] = Array.from(matching.subarray(from, from + selectedAtOnce), (slot) => slots.idOf(slot));
      const points = writeSet.touch(ids);
      await writeSet.readHeads();
      // What the record has changed was tested as it is now.
      for (const point of points) if (!point.changed && exists(point, nowMs)) selected.push(point);
      if (this.#turns.isDue(ids.length)) await this.#turns.pass();
    }
    const meant = about === undefined ? selected : selected.filter(({ id }) => about(id));
    return meant.length > limits.filterTargets ? tooMany(meant.length) : meant;
  }

  /** Bounds what a record makes the replica read, hold and write beside what it brings itself. */
  #charge(effect: Effect, points: readonly TouchedPoint[], { schema, rewritten }: Place): KithError | undefined {
    const { wanted, pointBytes } = effect;
    if (!wanted.payload && !wanted.vectors) return undefined;
    const fields = vectorFieldsOf(schema);
    let bytes = 0;
    for (const point of points) {
      bytes += pointBytes + (wanted.payload ? payloadBytesOf(point) : 0);
      if (!wanted.vectors) continue;
      for (const field of fields) bytes += vectorBytesOf(point, field);
    }
    if (rewritten.bytes + bytes <= limits.rewrittenBytes) {
      rewritten.bytes += bytes;
      return undefined;
    }
    return new KithError(
      "BATCH_TOO_LARGE",
      `the write would have ${bytes} bytes of stored points rewritten; at most ${limits.rewrittenBytes} are rewritten at once: write fewer points at a time`,
      { details: { sizeBytes: bytes, limitBytes: limits.rewrittenBytes } },
    );
  }
}

/** Rules ask for none. */
const noVectors = { has: (): boolean => false };

/**
 * A change, a failure, or neither for a point that the mutation passes over. `isSeen`: it is stored, expired or not, and the caller may see
 * it; `isThere`: and has not expired. `isHidden`: it is there, and the caller may not see it.
 */
function decide(
  effect: Effect,
  point: TouchedPoint,
  row: number,
  { isThere, isSeen, isHidden }: { isThere: boolean; isSeen: boolean; isHidden: boolean },
  expectedVersion: number,
  { passes, allows }: { passes: () => boolean; allows: PayloadTest },
): (() => void) | ItemFailureCode | undefined {
  const refused = effect.refuse?.(isThere);
  if (refused !== undefined) return refused;
  if (!isThere && effect.missing === "refuse") return "POINT_NOT_FOUND";
  // What has expired and is stored still is removed by its version.
  const version = isThere || (effect.missing === "pass" && isSeen) ? point.version : 0;
  if (expectedVersion !== 0 && version !== expectedVersion) return "VERSION_MISMATCH";
  if (!passes()) return "CONDITION_FAILED";
  // Its id is taken, which is all that is told.
  if (isHidden && effect.missing === "write") return effect.refuse?.(true) ?? "CONDITION_FAILED";
  if (effect.missing === "pass" && !isSeen) return undefined;
  return effect.plan(point, row, allows);
}

function conditionsOf(
  target: ipb.Target | undefined,
  ruleBytes: Uint8Array | undefined,
  { payloadIndexes }: Schema,
): Conditions {
  if (target === undefined) throw new KithError("INVALID_ARGUMENT", "the write says nothing of its points");
  const { ids, expectedVersions } = target;
  checkIds(ids);
  if (expectedVersions.length !== 0 && expectedVersions.length !== ids.length) {
    throw new KithError("INVALID_ARGUMENT", `${ids.length} ids come with ${expectedVersions.length} expected versions`);
  }
  const filter = target.filter.length === 0 ? undefined : decodeFilter(target.filter);
  if (filter !== undefined && ids.length > 0) {
    throw new KithError("INVALID_ARGUMENT", "a write is about ids or about a filter, not about both");
  }
  const meaning = filterSchemaOf(payloadIndexes);
  const onlyIf = target.onlyIf.length === 0 ? undefined : compileFilter(decodeFilter(target.onlyIf), meaning);
  const rule = ruleBytes && compileFilter(decodeFilter(ruleBytes), meaning);
  return { filter, rule, onlyIf, expectedVersions };
}

function decodeFilter(bytes: Uint8Array): Filter {
  return filterFromWire(pb.Filter.decode(bytes));
}

function filterPoint(point: TouchedPoint, schema: Schema): StoredFilterPoint {
  const fields = vectorFieldsOf(schema);
  const has = (name: string): boolean => fields.some((field) => field.name === name && hasVector(point, field.number));
  return new StoredFilterPoint(point.id, payloadOf(point), { has });
}

function tooMany(count: number): KithError {
  return new KithError(
    "BATCH_TOO_LARGE",
    `${count} points of the shard pass the filter; one write may touch ${limits.filterTargets} at most: narrow the filter, for example by slices`,
    { details: { count, limit: limits.filterTargets } },
  );
}

function wholeFailure(code: ItemFailureCode): KithError {
  return new KithError(code, "one of the points that pass the filter cannot take the write, so none was written");
}
