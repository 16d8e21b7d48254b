import { abortReason, assert, type Cancellation } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import { fieldConditions, listTenant, parsePayload, runSteps } from "../../filter/index.js";
import { type Filter, type IdKey, idMapKey, type JsonObject, type Metric, type Select } from "../../model/index.js";
import type { ShardHits, ShardScope } from "../../shard-api/index.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { ReadNotes } from "./explain.js";
import { cancellationOf, type FoundRows, type Hydrator } from "./hydrator.js";
import { readTurns } from "../apply/turns.js";
import type { SlotMask } from "./mask.js";
import { sampleOf, slotsIn } from "./sampled-slots.js";
import { keepFirst } from "./tied.js";
import { type ScoredScope } from "./scores.js";

/** A read whose points were overwritten while it ran is run again; the last time while the applier stands still. */
const attemptsMax = 3;
/** Points that are read at once. */
export const chunkPoints = 256;
/** Points that are read for an estimate. */
const sampledPoints = 4_000;

/** The slots that a read is about. */
export interface Scope {
  mask: SlotMask | undefined;
  /** Only these, where given. */
  slots: Uint32Array | undefined;
  /** Whether these were listed because they pass the filter. */
  isListed: boolean;
  /** Keys of ids that are no results. */
  exclude: ReadonlySet<string>;
}

/** What the reads of a filter, or of named points, have in common. */
export class Scopes {
  readonly #replica: OpenReplica;
  readonly #hydrator: Hydrator;

  constructor(replica: OpenReplica, hydrator: Hydrator) {
    this.#replica = replica;
    this.#hydrator = hydrator;
  }

  /** Runs a read until nothing was overwritten under it. */
  async repeated<T>(
    call: CallContext,
    notes: ReadNotes | undefined,
    attempt: (call: CallContext) => Promise<T | undefined>,
  ): Promise<T> {
    for (let n = 1; n < attemptsMax; n++) {
      const result = await attempt(call);
      if (result !== undefined) return result;
      notes?.retry();
      await this.#replica.writing;
    }
    const result = await this.#replica.fairLock.read(() => attempt(call), cancellationOf(call));
    assert(result !== undefined, "points were overwritten while the applier stood still");
    return result;
  }

  /** Where the read is to be explained. */
  notes(explain: boolean | undefined): ReadNotes | undefined {
    const { context, pointCount } = this.#replica;
    return explain === true ? new ReadNotes(context.clock, pointCount) : undefined;
  }

  /** What the filter and the ids of a read come to now. */
  async scope(
    { filter, ids, exclude }: ShardScope,
    call: CallContext,
    notes: ReadNotes | undefined,
    mayList = true,
  ): Promise<Scope> {
    const signal = cancellationOf(call);
    if (filter !== undefined && ids === undefined && mayList) {
      notes?.enter("tenant");
      const rows = this.tenantRows(filter);
      if (rows !== undefined) {
        notes?.listed(rows.length);
        return { mask: undefined, slots: rows, isListed: true, exclude: new Set(exclude.map(idMapKey)) };
      }
    }
    if (ids !== undefined) notes?.enter("ids");
    const named = ids === undefined ? undefined : await this.#aliveSlots(ids);
    // Last, since it is right until the next turn of the event loop.
    const passing = filter === undefined ? undefined : await this.maskOf(filter, signal, notes);
    const mask = this.#replica.expiries.visible(passing);
    const slots = mask === undefined ? named : named?.filter((slot) => isIn(mask, slot));
    return { mask, slots, isListed: false, exclude: new Set(exclude.map(idMapKey)) };
  }

  /** The rows of one tenant that pass a filter, where an index lists them; undefined where a mask is to tell. Right until the next turn. */
  tenantRows(filter: Filter): Uint32Array | undefined {
    const { indexes, slots, pointCount, schema, usage, expiries, whole } = this.#replica;
    if (!schema.payloadIndexes.some(({ isTenant }) => isTenant)) return undefined;
    // A large batch is becoming visible, in several steps.
    if (whole !== undefined) return undefined;
    const source = { indexes: indexes.payloadIndexes(), alive: slots.alive, aliveCount: pointCount };
    const rows = listTenant(filter, { ...source, idOf: (slot) => slots.idOf(slot) }, schema.payloadIndexes);
    if (rows === undefined) return undefined;
    usage.filtered(fieldConditions(filter), schema.payloadIndexes);
    const { over } = expiries;
    return over.size === 0 ? rows : rows.filter((slot) => !over.has(slot));
  }

  maskOf(filter: Filter, signal: Cancellation | undefined, notes: ReadNotes | undefined): Promise<SlotMask> {
    const { masks } = this.#replica;
    return notes === undefined ? masks.of(filter, signal) : notes.mask((note) => masks.of(filter, signal, note));
  }

  async #aliveSlots(ids: readonly IdKey[]): Promise<Uint32Array> {
    const { store, slots } = this.#replica;
    const heads = await store.heads(ids);
    // A batch that is on the disk and not in memory yet names slots that are not taken.
    return Uint32Array.from(
      heads.flatMap((head) => (head !== undefined && slots.isAlive(head.slot) ? [head.slot] : [])),
    );
  }

  /** All slots in scope as of the call, in a fresh array. */
  async slotsOf({ mask, slots }: Scope, call: CallContext): Promise<Uint32Array> {
    if (slots !== undefined) return slots.slice();
    const { slots: table, context } = this.#replica;
    const signal = cancellationOf(call);
    const steps = slotsIn(table.alive.slice(), mask?.words.slice());
    return runSteps(steps, { clock: context.clock, ...(signal && { signal }) });
  }

  /**
   * Calls `visit` with the payload of each point in scope that has one, or of a sample of 4,000 of them; gives how many points each
   * stands for.
   */
  async eachPayload(
    request: ShardScope,
    call: CallContext,
    notes: ReadNotes | undefined,
    visit: (slot: number, id: IdKey, payload: JsonObject) => void,
    isSampled = false,
  ): Promise<number> {
    const signal = cancellationOf(call);
    const scope = await this.scope(request, call, notes);
    notes?.enter("read");
    const { slots: table, store, context } = this.#replica;
    let readBytes = 0;
    const all = await this.slotsOf(scope, call);
    const slots = isSampled ? sampleOf(all, sampledPoints, context.random) : all;
    const turns = readTurns(context.clock, this.#replica.stopped);
    for (let from = 0; from < slots.length; from += chunkPoints) {
      const chunk: { slot: number; id: IdKey }[] = [];
      for (const slot of slots.subarray(from, from + chunkPoints)) {
        if (table.hasPayload(slot)) chunk.push({ slot, id: table.idOf(slot) });
      }
      const payloads = await store.payloads(
        chunk.map(({ id }) => id),
        signal,
      );
      turns.begin();
      for (const [i, { slot, id }] of chunk.entries()) {
        if (turns.isDue()) await turns.pass();
        if (signal?.aborted) throw abortReason(signal);
        const payload = payloads[i];
        if (payload === undefined || scope.exclude.has(idMapKey(id))) continue;
        readBytes += payload.value.length;
        visit(slot, id, parsePayload(payload.value));
      }
    }
    notes?.read(slots.length, readBytes);
    notes?.enter("collect");
    return slots.length === 0 ? 1 : all.length / slots.length;
  }

  async answer(
    metric: Metric,
    rows: FoundRows,
    select: Select,
    call: CallContext,
    notes: ReadNotes | undefined,
    sequence = this.#replica.appliedSequence,
    slotEpoch = this.#replica.slotEpoch,
    isChosen = false,
    k = rows.slots.length,
  ): Promise<ShardHits | undefined> {
    const isStored = select.payload || select.vectors.length > 0;
    const found = this.#hydrator.collect(metric, rows, sequence, slotEpoch, isStored, isChosen);
    if (found === undefined) return undefined;
    keepFirst(found, k);
    if (isStored && found.hits.length > 0) {
      notes?.enter("read");
      if (!(await this.#hydrator.hydrate(found, select, call, notes))) return undefined;
      notes?.enter("collect");
    }
    return { hits: found.hits, sequence: this.#replica.appliedSequence };
  }

  scoredScope(scope: Scope, k: number, exact: boolean, call: CallContext): ScoredScope {
    const { slots: table } = this.#replica;
    return {
      count: scope.slots?.length ?? scope.mask?.count ?? table.aliveCount,
      slots: () => this.slotsOf(scope, call),
      ...{ exact, k },
      byId: (one, other) => table.compare(one, other),
    };
  }
}

/** Whether the points of the answer were chosen by what they hold, so that a point that changes meanwhile may be none of them. */
export function isChosen({ mask, isListed }: Scope): boolean {
  return mask !== undefined || isListed;
}

/** What the native search is told of the slots in scope. */
export function within({ slots, mask }: Scope): { slots?: Uint32Array; filter?: Uint8Array } {
  return slots !== undefined ? { slots } : mask !== undefined ? { filter: mask.bytes } : {};
}

function isIn({ bytes }: SlotMask, slot: number): boolean {
  return (((bytes[slot >> 3] ?? 0) >> (slot & 7)) & 1) === 1;
}
