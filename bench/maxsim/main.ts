/**
 * Late interaction of one replica: what comparing a query with matrices costs in each datatype, against the same in plain C++ loops over f32; and what the
 * first stage by encodings finds of it.
 *
 *     npm run bench:maxsim -- [--matrices 4000] [--rows 48] [--query-rows 32] [--dimension 128] [--queries 20] [--rounds 3] [--vocabulary 3000] [--seed 7]
 *
 * Matrices are seeded: rows are directions of a vocabulary with noise of half their length, as tokens of texts are alike; a query is made of the rows of one of
 * them. Rates are of CPU, in turns: each round asks every index. Rows of a query times rows of a matrix are pairs.
 */
import { parseArgs } from "node:util";
import { MatrixIndex } from "../../libs/ann/index.js";
import { forceSimd } from "../../libs/ann/testing.js";
import { SeededRandom } from "../../libs/base/index.js";
import { MultiGeneration } from "../../libs/engine/testing.js";
import type { Datatype, VectorField } from "../../libs/model/index.js";

const { values } = parseArgs({
  options: {
    matrices: { type: "string", default: "4000" },
    rows: { type: "string", default: "48" },
    "query-rows": { type: "string", default: "32" },
    dimension: { type: "string", default: "128" },
    queries: { type: "string", default: "20" },
    rounds: { type: "string", default: "3" },
    vocabulary: { type: "string", default: "3000" },
    seed: { type: "string", default: "7" },
  },
});
const count = Number(values.matrices);
const dimension = Number(values.dimension);
const queryRows = Number(values["query-rows"]);
const random = new SeededRandom(Number(values.seed));
const k = 10;

/** Of length 1, but for the noise. */
function direction(): Float32Array {
  const vector = Float32Array.from({ length: dimension }, () => random.gaussian());
  return vector.map((x) => x / Math.sqrt(dimension));
}
const noise = 0.5 / Math.sqrt(dimension);
const vocabulary = Array.from({ length: Number(values.vocabulary) }, direction);
const rowCounts = Uint32Array.from({ length: count }, () => {
  return Math.max(1, Math.round(Number(values.rows) * (0.6 + 0.8 * random.float())));
});
const rowCount = rowCounts.reduce((sum, rows) => sum + rows, 0);
const matrix = new Float32Array(rowCount * dimension);
for (let row = 0; row < rowCount; row++) {
  const word = vocabulary[random.below(vocabulary.length)] as Float32Array;
  for (let i = 0; i < dimension; i++) matrix[row * dimension + i] = (word[i] as number) + noise * random.gaussian();
}
const slots = Uint32Array.from({ length: count }, (_, i) => i);
const firstRows: number[] = [];
rowCounts.reduce((sum, rows) => (firstRows.push(sum), sum + rows), 0);
const queries = Array.from({ length: Number(values.queries) }, () => {
  const at = random.below(count);
  const from = firstRows[at] as number;
  const query = new Float32Array(queryRows * dimension);
  for (let row = 0; row < queryRows; row++) {
    const like = (from + random.below(rowCounts[at] as number)) * dimension;
    for (let i = 0; i < dimension; i++)
      query[row * dimension + i] = (matrix[like + i] as number) + noise * random.gaussian();
  }
  return query;
});

interface Compared {
  readonly name: string;
  readonly index: MatrixIndex;
  cpuUs: number;
  pairs: number;
  searches: number;
  found: number[][];
}

async function comparedWith(name: string, datatype: Datatype): Promise<Compared> {
  const index = MatrixIndex.create({ dimension, metric: "cosine", datatype });
  index.add({ slots, rowCounts, vectors: matrix });
  return Promise.resolve({ name, index, cpuUs: 0, pairs: 0, searches: 0, found: [] });
}

forceSimd("portable");
const plain = await comparedWith("plain f32 loop", "f32");
forceSimd(undefined);
const datatypes = ["f32", "f16", "bf16", "i8"] as const;
const indexes = [plain, ...(await Promise.all(datatypes.map((datatype) => comparedWith(datatype, datatype))))];
for (let round = 0; round < Number(values.rounds); round++) {
  for (const each of indexes) {
    each.found = [];
    for (const query of queries) {
      const before = process.cpuUsage();
      const { computed, slots: best } = await each.index.search(query, { k });
      const { user, system } = process.cpuUsage(before);
      each.cpuUs += user + system;
      each.pairs += computed;
      each.searches++;
      each.found.push([...best]);
    }
  }
}

function recall(found: readonly number[][]): number {
  let hits = 0;
  found.forEach((best, i) => {
    const wanted = new Set(plain.found[i]);
    hits += best.filter((slot) => wanted.has(slot)).length;
  });
  return hits / (found.length * k);
}

const perPair = (each: Compared): number => each.cpuUs / each.pairs;
console.log(
  `${count} matrices of ${values.rows} rows, ${dimension} dimensions; queries of ${queryRows} rows, top ${k}`,
);
console.log("datatype        CPU ms/query  ns a pair  ratio  pairs looked at  recall@10");
for (const each of indexes) {
  const all = queries.length * queryRows * rowCount * Number(values.rounds);
  console.log(
    `${each.name.padEnd(15)} ${(each.cpuUs / each.searches / 1000).toFixed(2).padStart(12)}  ${(1000 * perPair(each)).toFixed(2).padStart(9)}  ` +
      `${(perPair(plain) / perPair(each)).toFixed(2).padStart(5)}  ${((100 * each.pairs) / all).toFixed(1).padStart(13)} %  ${recall(each.found).toFixed(3).padStart(9)}`,
  );
}
for (const { index } of indexes) await index.close();

// What the encodings of all matrices find, of which the candidates are compared exactly.
const field: VectorField = {
  ...{ name: "tokens", dimension, metric: "cosine", datatype: "f32", multivector: "maxSim" },
  ...{ m: 16, efConstruction: 128, efSearch: 64 },
};
const generation = new MultiGeneration(field, { encodedRows: 1 });
const addedAt = performance.now();
for (let from = 0; from < count; from += 500) {
  const to = Math.min(count, from + 500);
  const [first, last] = [firstRows[from] as number, to === count ? rowCount : (firstRows[to] as number)];
  await generation.add({
    slots: slots.subarray(from, to),
    rowCounts: rowCounts.subarray(from, to),
    matrix: matrix.subarray(first * dimension, last * dimension),
  });
}
await generation.flush();
console.log(`encoded and linked: ${Math.round(count / ((performance.now() - addedAt) / 1000))} matrices/s`);
console.log("candidates  CPU ms/query  recall@10");
for (const ef of [256, 512, 1024]) {
  const before = process.cpuUsage();
  const found: number[][] = [];
  for (const query of queries) found.push([...(await generation.search(query, { k, ef })).slots]);
  const { user, system } = process.cpuUsage(before);
  console.log(
    `${String(ef).padStart(10)}  ${((user + system) / queries.length / 1000).toFixed(2).padStart(12)}  ${recall(found).toFixed(3).padStart(9)}`,
  );
}
await generation.close();
