import { connect, type ScoredPoint } from "../../../libs/client/index.js";
import { type Embedder, fitEmbedder } from "../../../libs/embedding/index.js";
import type { CommandContext } from "../context.js";
import { escapeControls } from "../cells.js";
import { formatCount, formatDuration, shorten } from "../output.js";
import { type DocPassage, gatherPassages } from "./docs.js";
import { installationRoot } from "../version.js";

export const demoCollection = "docs";
/** 512 elements make too many unlike words collide over this many passages: unrelated ones came first for half of the questions. */
const dimension = 1024;

const questions = [
  "progress bar with speed and ETA",
  "publish a message and wait for the acknowledgement",
  "atomic batch of put and delete operations",
  "cancel a promise with an abort signal",
];
const resultsShown = 3;

export interface DemoReport {
  target: string;
  collection: string;
  passages: number;
  packages: number;
  embedMs: number;
  importMs: number;
  searches: { question: string; tookMs: number; results: ScoredPoint<DocPassage>[] }[];
}

/** Fills a collection of the running Kith with real text and searches in it. */
export async function runDemo(context: CommandContext, target: string, shards: number): Promise<DemoReport> {
  const { out, io } = context;
  const say = (text: string): Promise<void> => (out.json ? out.note(text) : out.line(text));
  const { signal } = io;

  let startedMs = performance.now();
  const took = (): string => formatDuration(performance.now() - startedMs);
  const passages = await gatherPassages(installationRoot, signal);
  const packages = new Set(passages.map((passage) => passage.package)).size;
  await say(
    `read     ${formatCount(passages.length)} passages from the documentation of ${packages} installed packages (${took()})`,
  );

  startedMs = performance.now();
  const { embedder, matrix } = await embedAll(passages, signal);
  const embedMs = performance.now() - startedMs;
  await say(
    `embedded them as ${embedder.dimension}-d vectors (${took()}). The built-in embedder is lexical: it compares words and parts of\n` +
      "         words, not meaning. With a model of your own the rest stays the same.",
  );

  const client = await connect(target, { signal });
  try {
    const docs = client.collection<DocPassage>(demoCollection);
    if (await docs.exists({ signal })) await docs.drop({ signal });
    startedMs = performance.now();
    await docs.create({ vectors: { dimension: embedder.dimension, metric: "cosine" }, shards, signal });
    const points = passages.map((payload, index) => ({
      id: index + 1,
      vector: matrix.subarray(index * embedder.dimension, (index + 1) * embedder.dimension),
      payload,
    }));
    const { upserted } = await docs.upsertMany(points, { signal });
    const importMs = performance.now() - startedMs;
    await say(
      `imported ${formatCount(upserted)} points into the collection "${demoCollection}" (${took()}), each one durable in the log`,
    );
    await docs.waitIndexed({ signal });

    const searches: DemoReport["searches"] = [];
    for (const question of questions) {
      startedMs = performance.now();
      const vector = embedder.embed(question);
      const { points: results } = await docs.query({ vector, limit: resultsShown, signal });
      const tookMs = performance.now() - startedMs;
      searches.push({ question, tookMs, results });
      if (!out.json) await showResults(context, question, tookMs, results);
    }
    return { target, collection: demoCollection, passages: passages.length, packages, embedMs, importMs, searches };
  } finally {
    client.close();
  }
}

/** Embeds in slices, so that Ctrl-C and the server in the same process get their turn. */
async function embedAll(
  passages: readonly DocPassage[],
  signal: AbortSignal,
): Promise<{ embedder: Embedder; matrix: Float32Array }> {
  const texts = passages.map(({ package: name, title, text }) => `${name}\n${title}\n${text}`);
  const embedder = fitEmbedder(texts, { dimension });
  const matrix = new Float32Array(texts.length * dimension);
  for (const [index, text] of texts.entries()) {
    matrix.set(embedder.embed(text), index * dimension);
    if (index % 100 === 99) await new Promise<void>((resolve) => setImmediate(resolve));
    signal.throwIfAborted();
  }
  return { embedder, matrix };
}

async function showResults(
  { out, io }: CommandContext,
  question: string,
  tookMs: number,
  results: readonly ScoredPoint<DocPassage>[],
): Promise<void> {
  const width = Math.max(60, Math.min(120, io.columns ?? 100));
  await out.line();
  await out.line(`${out.paint("bold", `"${question}"`)}  ${out.paint("dim", formatDuration(tookMs))}`);
  for (const { score, payload } of results) {
    if (payload === undefined) continue;
    const where = [payload.package, payload.file, payload.title].filter((part) => part !== "").join(" › ");
    await out.line(`  ${score.toFixed(3)}  ${out.paint("cyan", shorten(escapeControls(where), width - 9))}`);
    await out.line(`         ${shorten(escapeControls(excerpt(payload.text, question)), width - 9)}`);
  }
}

/** The part of a text that has the most words of the question near one another. */
function excerpt(text: string, question: string): string {
  const words = question.toLowerCase().match(/\w{4,}/g) ?? [];
  const sentences = text.split(/(?<=[.!?:])\s+|\n+/).filter((sentence) => sentence.trim() !== "");
  let best = 0;
  let bestHits = -1;
  for (const [index, sentence] of sentences.entries()) {
    const lower = sentence.toLowerCase();
    const hits = words.filter((word) => lower.includes(word)).length;
    if (hits > bestHits) {
      best = index;
      bestHits = hits;
    }
  }
  return sentences.slice(best, best + 2).join(" ");
}
