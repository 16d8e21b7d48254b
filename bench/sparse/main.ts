/**
 * Sparse vectors of one replica: how fast they are indexed and searched, in how much memory, and whether answers are those of all dot products.
 *
 *     npm run bench:sparse -- [--vectors 100000] [--entries 120] [--query-entries 30] [--vocabulary 30000] [--queries 1000] [--seed 7]
 *
 * Vectors are seeded, and like those of SPLADE: indices by Zipf's law among a vocabulary, log-normal weights that are larger for rarer indices.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import type { PostingsResult } from "../../libs/ann/index.js";
import { SeededRandom } from "../../libs/base/index.js";
import { SparseGeneration } from "../../libs/engine/testing.js";
import { type SparseVector, sparseDot, sparseOf, sparseToBytes } from "../../libs/model/index.js";

const { values } = parseArgs({
  options: {
    vectors: { type: "string", default: "100000" },
    entries: { type: "string", default: "120" },
    "query-entries": { type: "string", default: "30" },
    vocabulary: { type: "string", default: "30000" },
    queries: { type: "string", default: "1000" },
    seed: { type: "string", default: "7" },
  },
});
const count = Number(values.vectors);
const vocabulary = Number(values.vocabulary);
const queryCount = Number(values.queries);
const random = new SeededRandom(Number(values.seed));
const k = 10;

function drawn(entries: number): SparseVector {
  const length = Math.max(1, Math.round(entries * (0.5 + random.float())));
  const weights = new Map<number, number>();
  while (weights.size < Math.min(length, vocabulary)) {
    const index = Math.floor(vocabulary ** random.float()) - 1;
    const rarity = 0.3 + Math.log(index + 2) / Math.log(vocabulary + 1);
    weights.set(index, rarity * Math.exp(0.6 * random.gaussian() - 1));
  }
  return sparseOf([...weights.keys()], [...weights.values()], () => "the vector");
}

function search(index: SparseGeneration, query: SparseVector): Promise<PostingsResult> {
  const terms = Array.from(query.indices, (term, i) => ({ term, weight: query.values[i] as number, clause: 0 }));
  return index.postings.search({ clauses: ["should"], terms }, { k });
}

const stored = Array.from({ length: count }, () => drawn(Number(values.entries)));
const queries = Array.from({ length: queryCount }, () => drawn(Number(values["query-entries"])));
const postingCount = stored.reduce((sum, { indices }) => sum + indices.length, 0);
const index = new SparseGeneration();
const begin = performance.now();
const batch = 500;
for (let from = 0; from < count; from += batch) {
  const part = stored.slice(from, from + batch);
  await index.add({ slots: Uint32Array.from(part, (_, i) => from + i), vectors: part.map(sparseToBytes) });
}
const addedMs = performance.now() - begin;
await index.flush();
const mergedMs = performance.now() - begin;
const { memoryBytes, segmentCount } = index.postings.stats();
console.log(
  `indexed ${count} vectors of ${(postingCount / count).toFixed(0)} entries: ${Math.round(count / (addedMs / 1000))}/s, merged after ${(mergedMs / 1000).toFixed(1)} s; ` +
    `${(memoryBytes / 1e6).toFixed(1)} MB in ${segmentCount} segments, ${(memoryBytes / postingCount).toFixed(2)} bytes an entry`,
);

let found = 0;
let wanted = 0;
for (const query of queries.slice(0, 50)) {
  const { distances } = await search(index, query);
  const best = stored.map((vector) => sparseDot(query, vector)).sort((a, b) => b - a);
  const least = (best[Math.min(k, count) - 1] as number) * (1 - 1e-6);
  // Equal scores may come in either order: what counts is that each is among the best.
  found += distances.filter((distance) => -distance >= least).length;
  wanted += Math.min(k, count);
}
console.log(`recall@${k} against all dot products: ${(found / wanted).toFixed(4)}`);

for (const inFlight of [1, 16]) {
  const before = process.cpuUsage();
  const started = performance.now();
  const times: number[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      for (let query = queries[next++]; query !== undefined; query = queries[next++]) {
        const at = performance.now();
        await search(index, query);
        times.push(performance.now() - at);
      }
    }),
  );
  const tookMs = performance.now() - started;
  const cpu = process.cpuUsage(before);
  times.sort((a, b) => a - b);
  console.log(
    `${inFlight} in flight on ${availableParallelism()} cores: ${Math.round(queryCount / (tookMs / 1000))} queries/s of ${values["query-entries"]} entries, top ${k}; ` +
      `p50 ${(times[Math.floor(queryCount * 0.5)] ?? 0).toFixed(2)} ms, p99 ${(times[Math.floor(queryCount * 0.99)] ?? 0).toFixed(2)} ms, CPU ${Math.round((cpu.user + cpu.system) / queryCount)} us a query`,
  );
}
await index.close();
