import { abortReason, type Cancellation, type Random } from "../../base/index.js";
import { type BuildTrial, bytesPerNumber, type Datatype, type IdKey, keepsOriginals } from "../../model/index.js";
import type { PointStore } from "../../storage/index.js";
import type { SlotTable } from "../index/slots.js";
import type { SchemaField } from "../recover/schema.js";
import type { IndexFactory } from "../replica/options.js";
import { beamLadder, RecallCurve } from "./curve.js";
import { sampledSlots } from "./recall.js";

export interface TrialOptions {
  store: PointStore;
  slots: SlotTable;
  random: Random;
  field: SchemaField;
  indexes: Pick<IndexFactory, "create">;
  /** Where vectors are kept in a file meanwhile. */
  directory: string;
  target: number;
  signal: Cancellation | undefined;
}

/** Vectors that indexes are built of, and queries that are no part of them. */
const rowsMax = 8_000;
const queryCount = 100;
/** With fewer a graph says nothing of the whole. */
const rowsMin = 1_000;
const k = 10;
/** Bits say too little of fewer components: 0.82 of the ten nearest with 128. */
const binaryDimensionMin = 256;
/** Rows of an index are whole lines of memory. */
const lineBytes = 64;
/** Vectors that are read or added at once. */
const chunkRows = 1_000;

/** Tries datatypes on a sample of the field's vectors, one after the other; none where there are fewer than 1,100. `rows`: how many there were. */
export async function tryBuilds(options: TrialOptions): Promise<{ rows: number; trials: BuildTrial[] }> {
  const { field } = options;
  const { dimension } = field;
  const vectors = await sampleOf(options);
  const count = Math.floor(vectors.length / dimension) - queryCount;
  if (count < rowsMin) return { rows: count + queryCount, trials: [] };
  const rows = vectors.subarray(0, count * dimension);
  const queries = Array.from({ length: queryCount }, (_, i) => {
    return vectors.subarray((count + i) * dimension, (count + i + 1) * dimension);
  });
  const trials: BuildTrial[] = [];
  let truth: ReadonlySet<number>[] | undefined;
  for (const datatype of datatypesFor(field)) {
    const tried = await tryBuild(datatype, rows, queries, truth, options);
    truth = tried.truth;
    trials.push(tried.trial);
  }
  return { rows: count, trials };
}

/** Coarser codes are tried where they take less. */
export function datatypesFor({ metric, dimension }: Pick<SchemaField, "metric" | "dimension">): Datatype[] {
  const datatypes: Datatype[] = ["f32", "f16", "i8", "i4"];
  const lines = (datatype: Datatype): number => Math.ceil((dimension * bytesPerNumber[datatype]) / lineBytes);
  let least = lines("i4");
  for (const datatype of ["pq16", "pq32", "pq64"] as const) {
    if (lines(datatype) >= least) continue;
    datatypes.push(datatype);
    least = lines(datatype);
  }
  if (metric === "cosine" && dimension >= binaryDimensionMin) datatypes.push("binary");
  return datatypes;
}

/** Alive vectors of the field by chance, row-major. */
async function sampleOf({ store, slots, random, field, signal }: TrialOptions): Promise<Float32Array> {
  const { number, dimension } = field;
  const chosen = [...sampledSlots(slots, rowsMax + queryCount, random)];
  const vectors = new Float32Array(chosen.length * dimension);
  let count = 0;
  for (let from = 0; from < chosen.length; from += chunkRows) {
    if (signal?.aborted) throw abortReason(signal);
    const ids: IdKey[] = chosen
      .slice(from, from + chunkRows)
      .filter((slot) => slots.isAlive(slot))
      .map((slot) => slots.idOf(slot));
    for (const vector of await store.vectors({ number, dimension }, ids)) {
      if (vector !== undefined) vectors.set(vector.value, count++ * dimension);
    }
  }
  return vectors.subarray(0, count * dimension);
}

async function tryBuild(
  datatype: Datatype,
  rows: Float32Array,
  queries: readonly Float32Array[],
  known: ReadonlySet<number>[] | undefined,
  { field, indexes, directory, target, signal }: TrialOptions,
): Promise<{ trial: BuildTrial; truth: ReadonlySet<number>[] }> {
  const { dimension, metric, m, efConstruction } = field;
  // Codes of a byte and less are tried as they are best: with the vectors beside them.
  const isCoarse = keepsOriginals({ datatype, originals: datatype === "i8" });
  const given = isCoarse ? { givenFolder: directory } : {};
  // However few rows there are, a graph is what is tried.
  const index = indexes.create({ dimension, metric, datatype, m, efConstruction, graphThreshold: 1, ...given });
  try {
    const count = rows.length / dimension;
    for (let from = 0; from < count; from += chunkRows) {
      if (signal?.aborted) throw abortReason(signal);
      const end = Math.min(count, from + chunkRows);
      const slots = Uint32Array.from({ length: end - from }, (_, i) => from + i);
      await index.add(slots, rows.subarray(from * dimension, end * dimension));
    }
    await index.flush(signal as AbortSignal | undefined);
    const scope = { k, ...(signal && { signal }) };
    const truth =
      known ??
      (await Promise.all(queries.map((query) => index.search(query, { ...scope, ef: 1, exact: true })))).map(
        ({ slots }) => new Set(slots),
      );
    const curve = new RecallCurve();
    for (const [i, query] of queries.entries()) {
      const wanted = truth[i] ?? new Set();
      const recalls: number[] = [];
      for (const ef of beamLadder) {
        const { slots } = await index.search(query, { ...scope, ef });
        recalls.push(slots.reduce((sum, slot) => sum + (wanted.has(slot) ? 1 : 0), 0) / Math.max(1, wanted.size));
        if (recalls.at(-1) === 1) break;
      }
      curve.add(recalls);
    }
    const { ef, recall = 0, canHold } = curve.choose(target, k);
    let searchUs = 0;
    for (const query of queries) searchUs += (await index.search(query, { ...scope, ef })).searchUs / queries.length;
    const { arenaBytes, graphBytes } = index.stats();
    const vectorBytes = (arenaBytes + graphBytes) / count;
    return { trial: { datatype, ef, recall, canHold: canHold && recall >= target, searchUs, vectorBytes }, truth };
  } finally {
    await index.close();
  }
}
