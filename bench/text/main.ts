/**
 * BM25 of one replica: how well it ranks the documents of judged queries, and how fast it indexes and answers.
 *
 *     npm run bench:text -- --docs docs.jsonl --queries queries.jsonl --qrels qrels.tsv [--split test] [--fields title,text] [--speed]
 *
 * Documents and queries are JSON lines with "id" and texts; qrels a table of query, document and relevance with a head. The relevance is nDCG@10 with linear gain, over
 * the queries that have judgments. With --speed the documents are split into passages of about 100 words and repeated, a tenth of their words exchanged, until there are
 * 100,000 of them.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { SeededRandom } from "../../libs/base/index.js";
import { TextGeneration } from "../../libs/engine/testing.js";
import { analyzerDefaults, type Bm25Options } from "../../libs/model/index.js";
import { inverseDocumentFrequency, parseText } from "../../libs/text/index.js";

const { values } = parseArgs({
  options: {
    docs: { type: "string" },
    queries: { type: "string" },
    qrels: { type: "string" },
    split: { type: "string", default: "" },
    fields: { type: "string", default: "title,text" },
    language: { type: "string", default: "english" },
    k1: { type: "string", default: "1.2" },
    b: { type: "string", default: "0.75" },
    speed: { type: "boolean", default: false },
  },
});

interface Document {
  id: string;
  [field: string]: string;
}

function lines(path: string | undefined): Document[] {
  if (path === undefined) throw new Error("give --docs, --queries and --qrels");
  const rows = readFileSync(path, "utf8").split("\n");
  return rows.filter((row) => row !== "").map((row) => JSON.parse(row) as Document);
}

const fields = values.fields.split(",");
const options: Bm25Options = {
  fields: fields.map((path) => ({ path, weight: 1, b: Number(values.b) })),
  k1: Number(values.k1),
  analyzer: { ...analyzerDefaults, ...(values.language !== "none" && { language: values.language as "english" }) },
};

async function indexOf(docs: readonly Document[], batch = 500): Promise<TextGeneration> {
  const index = new TextGeneration(options);
  for (let from = 0; from < docs.length; from += batch) {
    const part = docs.slice(from, from + batch);
    await index.add({
      slots: Uint32Array.from(part, (_, i) => from + i),
      payloads: part.map((doc) => Object.fromEntries(fields.map((field) => [field, doc[field] ?? ""]))),
    });
  }
  return index;
}

async function search(index: TextGeneration, text: string, k: number): Promise<Uint32Array> {
  const { clauses } = parseText(text, index.analyzer, true);
  const terms = clauses.flatMap(({ terms: each }) => {
    const [term] = each;
    const number = term && index.dictionary.find(term.text);
    return number === undefined || term === undefined ? [] : [{ number, boost: term.boost }];
  });
  if (terms.length === 0) return new Uint32Array(0);
  const { aliveCount, lengths } = index.postings.stats();
  const counts = index.postings.termCounts(Uint32Array.from(terms, ({ number }) => number));
  const { slots } = await index.postings.search(
    {
      clauses: ["should"],
      averages: lengths.map((length) => length / aliveCount),
      terms: terms.map(({ number, boost }, i) => ({
        term: number,
        weight: boost * inverseDocumentFrequency(aliveCount, counts[i] ?? 0),
        clause: 0,
      })),
    },
    { k },
  );
  return slots;
}

function gain(relevances: readonly number[]): number {
  return relevances.slice(0, 10).reduce((sum, relevance, rank) => sum + relevance / Math.log2(rank + 2), 0);
}

async function relevance(): Promise<void> {
  const docs = lines(values.docs);
  const index = await indexOf(docs);
  const judged = new Map<string, Map<string, number>>();
  for (const row of readFileSync(values.qrels ?? "", "utf8")
    .split("\n")
    .slice(1)) {
    const [query, doc, value] = row.split("\t");
    if (query === undefined || doc === undefined || value === undefined) continue;
    const own = judged.get(query) ?? new Map<string, number>();
    judged.set(query, own.set(doc, Number(value)));
  }
  let sum = 0;
  let found = 0;
  let count = 0;
  for (const query of lines(values.queries)) {
    const own = judged.get(query.id);
    if (own === undefined || (values.split !== "" && query["split"] !== values.split)) continue;
    const slots = await search(index, query["text"] ?? "", 100);
    const ranked = Array.from(slots, (slot) => own.get(docs[slot]?.id ?? "") ?? 0);
    const best = [...own.values()].sort((a, b) => b - a);
    sum += gain(ranked) / gain(best);
    found += ranked.filter((value) => value > 0).length / own.size;
    count++;
  }
  console.log(
    `${docs.length} documents, ${count} queries: nDCG@10 ${(sum / count).toFixed(4)}, recall@100 ${(found / count).toFixed(4)}`,
  );
  await index.close();
}

async function speed(): Promise<void> {
  const wanted = 100_000;
  const passageWords = 100;
  const random = new SeededRandom(7);
  const passages: string[] = [];
  for (const doc of lines(values.docs)) {
    const words = fields
      .map((field) => doc[field] ?? "")
      .join(" ")
      .split(/\s+/);
    for (let from = 0; from < words.length; from += passageWords)
      passages.push(words.slice(from, from + passageWords).join(" "));
  }
  const docs = Array.from({ length: wanted }, (_, i): Document => {
    const text = passages[i % passages.length] ?? "";
    // Repeated ones are not the same: a tenth of their words come from another passage.
    const other = (passages[random.below(passages.length)] ?? "").split(" ");
    const mixed = text
      .split(" ")
      .map((word) => (random.float() < 0.1 ? (other[random.below(other.length)] ?? word) : word));
    return { id: String(i), [fields[0] ?? "text"]: `${mixed.join(" ")}` };
  });
  const textBytes = docs.reduce((sum, doc) => sum + Buffer.byteLength(doc[fields[0] ?? "text"] ?? ""), 0);
  const startedCpu = process.cpuUsage();
  const startedMs = performance.now();
  const index = await indexOf(docs);
  const tookMs = performance.now() - startedMs;
  await index.flush();
  const settledMs = performance.now() - startedMs;
  const cpu = process.cpuUsage(startedCpu);
  const { memoryBytes, segmentCount } = index.postings.stats();
  console.log(
    `indexed ${wanted} passages (${(textBytes / 1e6).toFixed(1)} MB of text, ${passages.length} different ones): ${Math.round(wanted / (tookMs / 1000))}/s, ` +
      `merged after ${(settledMs / 1000).toFixed(1)} s, CPU ${((cpu.user + cpu.system) / 1e6).toFixed(1)} s`,
  );
  console.log(
    `postings ${(memoryBytes / 1e6).toFixed(1)} MB, ${((100 * memoryBytes) / textBytes).toFixed(1)} % of the text, in ${segmentCount} segments; ` +
      `terms ${(index.dictionary.memoryBytes / 1e6).toFixed(1)} MB`,
  );
  const queries = Array.from({ length: 4_000 }, () => {
    const words = (passages[random.below(passages.length)] ?? "").split(" ");
    return Array.from({ length: 3 + random.below(3) }, () => words[random.below(words.length)]).join(" ");
  });
  for (const query of queries.slice(0, 200)) await search(index, query, 10);
  for (const inFlight of [1, 16]) {
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const before = process.cpuUsage();
    const begin = performance.now();
    const times: number[] = [];
    let next = 0;
    await Promise.all(
      Array.from({ length: inFlight }, async () => {
        for (let query = queries[next++]; query !== undefined; query = queries[next++]) {
          const at = performance.now();
          await search(index, query, 10);
          times.push(performance.now() - at);
        }
      }),
    );
    const spentMs = performance.now() - begin;
    const used = process.cpuUsage(before);
    delay.disable();
    times.sort((a, b) => a - b);
    const p99 = times[Math.floor(times.length * 0.99)] ?? 0;
    console.log(
      `${inFlight} in flight on ${availableParallelism()} cores: ${Math.round(queries.length / (spentMs / 1000))} queries/s of 3 to 5 words, top 10; ` +
        `p99 ${p99.toFixed(2)} ms, event loop p99 ${(delay.percentile(99) / 1e6 - 1).toFixed(1)} ms, ` +
        `CPU ${Math.round((used.user + used.system) / queries.length)} us a query`,
    );
  }
  await index.close();
}

if (values.speed) await speed();
else await relevance();
