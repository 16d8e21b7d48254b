import { abortReason, type Clock, type Random, sleep } from "../../base/index.js";
import { type Datatype, datatypes, type IdKey, type Metric } from "../../model/index.js";
import type { PointStore, StoredField } from "../../storage/index.js";
import type { DenseGeneration } from "../index/dense-index.js";
import type { SlotTable } from "../index/slots.js";
import { similarity } from "../../query/index.js";

/** A build of a field's index whose recall is measured. */
export interface MeasuredGeneration {
  generation: DenseGeneration;
  datatype: Datatype;
}

export interface RecallOptions {
  store: PointStore;
  slots: SlotTable;
  clock: Clock;
  random: Random;
  field: StoredField;
  metric: Metric;
  /** Beam width of the searches. */
  ef: number;
  k: number;
  /** Points whose vectors are the queries; fewer where there are not so many. */
  samples: number;
  signal: AbortSignal;
}

export interface MeasuredRecall {
  /** Of each generation, in [0, 1]; 1 where there is nothing to find. */
  recalls: number[];
  /** Queries that it was measured with. */
  samples: number;
}

/** Rows beyond the k nearest that count where they are as near as the last of these. */
const tiesMax = 16;
/** An exact search by coarse codes gives so many times more rows, which are ordered by the vectors as they were written. */
const coarseFactor = 5;
/** Slots that are tried for each point that is wanted. */
const triesPerSample = 20;

/**
 * recall@k of generations of one index against an exact search, with vectors of the collection as queries. A point itself is no result of its own query.
 * Searches of the native pool, one at a time, and as long a pause after each: writes and queries go on beside.
 */
export async function measureRecall(
  generations: readonly MeasuredGeneration[],
  options: RecallOptions,
): Promise<MeasuredRecall> {
  const { store, slots, clock, field, k, signal } = options;
  const found = generations.map(() => 0);
  let wanted = 0;
  let samples = 0;
  if (generations.length === 0) return { recalls: [], samples };
  const chosen = sampledSlots(slots, options.samples, options.random);
  for (const slot of chosen) {
    const startMs = clock.monotonicMs();
    const [stored] = slots.isAlive(slot) ? await store.vectors(field, [slots.idOf(slot)]) : [];
    if (signal.aborted) throw abortReason(signal);
    // Of another field alone, or overwritten meanwhile.
    if (stored === undefined) continue;
    const query = stored.value;
    const truth = await nearestSlots(query, generations, { ...options, own: slot });
    if (truth.size > 0) {
      samples++;
      const places = Math.min(k, truth.size);
      wanted += places;
      for (const [i, { generation }] of generations.entries()) {
        const ef = Math.max(options.ef, k + 1);
        const result = await generation.search(query, { k: k + 1, ef, signal });
        const others = Array.from(result.slots).filter((each) => each !== slot);
        const hits = others.slice(0, k).filter((each) => truth.has(each)).length;
        found[i] = (found[i] as number) + Math.min(hits, places);
      }
    }
    await sleep(clock, clock.monotonicMs() - startMs, signal);
  }
  return { recalls: found.map((count) => (wanted === 0 ? 1 : count / wanted)), samples };
}

/** Alive slots by chance, each once. */
export function sampledSlots(slots: SlotTable, count: number, random: Random): Set<number> {
  const chosen = new Set<number>();
  if (slots.aliveCount <= count) {
    for (let slot = 0; slot < slots.end; slot++) if (slots.isAlive(slot)) chosen.add(slot);
    return chosen;
  }
  for (let tries = 0; chosen.size < count && tries < count * triesPerSample; tries++) {
    const slot = Math.floor(random.float() * slots.end);
    if (slots.isAlive(slot)) chosen.add(slot);
  }
  return chosen;
}

export interface NearestOptions extends Pick<RecallOptions, "store" | "slots" | "field" | "metric" | "k" | "signal"> {
  /** A slot that is no result: that of the query itself. */
  own?: number;
  /** Of the slots that may be found; undefined: all. */
  filter?: Uint8Array | undefined;
}

/**
 * The slots of the k nearest rows, by an exact search of the finest of the generations, with those that are as near as the last of them. Empty where there
 * is no generation.
 */
export async function nearestSlots(
  query: Float32Array,
  generations: readonly MeasuredGeneration[],
  { store, slots, field, metric, k, signal, own, filter }: NearestOptions,
): Promise<Set<number>> {
  const finest = [...generations].sort((a, b) => datatypes.indexOf(a.datatype) - datatypes.indexOf(b.datatype))[0];
  if (finest === undefined) return new Set();
  const { generation, datatype } = finest;
  const isExact = datatype === "f32";
  const count = (k + 1 + tiesMax) * (isExact ? 1 : coarseFactor);
  const scope = { k: count, ef: 1, exact: true, signal, ...(filter !== undefined && { filter }) };
  const result = await generation.search(query, scope);
  let rows = Array.from(result.slots, (slot, i) => ({ slot, distance: result.distances[i] as number }));
  if (!isExact) {
    const alive = rows.filter(({ slot }) => slots.isAlive(slot));
    const ids: IdKey[] = alive.map(({ slot }) => slots.idOf(slot));
    const vectors = await store.vectors(field, ids);
    rows = alive.flatMap(({ slot }, i) => {
      const vector = vectors[i]?.value;
      return vector === undefined ? [] : [{ slot, distance: -similarity(metric, query, vector) }];
    });
  }
  const others = rows.filter(({ slot }) => slot !== own).sort((a, b) => a.distance - b.distance);
  const last = others[Math.min(k, others.length) - 1]?.distance ?? 0;
  const limit = last + Math.abs(last) * 1e-6;
  return new Set(others.filter(({ distance }) => distance <= limit).map(({ slot }) => slot));
}
