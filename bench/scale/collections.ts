import { sleep, systemClock } from "../../libs/base/index.js";
import { connect } from "../../libs/client/index.js";
import { Api } from "../lib/api.js";
import { readMemory } from "../lib/process-stats.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatNumber, formatTable } from "../lib/table.js";

const atOnce = 8;
const settleMs = 3_000;
const readyTimeoutMs = 120_000;
const columns = ["collections", "made a second", "private MiB", "KiB a collection", "start s"].map((title) => ({
  title,
}));

interface Flags {
  counts: number[];
  points: number;
  dimension: number;
}

/** Collections of a few points on one node: what each takes, and how long the node takes to start with them. */
export async function measureCollections({ counts, points, dimension }: Flags): Promise<void> {
  console.log(`machine: ${describeMachine()}`);
  const server = await OwnServer.start({ kind: "embedded" });
  const rows: Record<string, number>[] = [];
  try {
    const empty = privateBytes(server.pids);
    let made = 0;
    for (const count of counts) {
      const startedMs = performance.now();
      const before = made;
      await makeCollections(server.target, made, count, points, dimension);
      made = count;
      const perSecond = (made - before) / ((performance.now() - startedMs) / 1000);
      await sleep(systemClock, settleMs);
      const bytes = privateBytes(server.pids);
      await server.end();
      const startMs = performance.now();
      await server.launch();
      const api = new Api(server.target);
      await api.ready(readyTimeoutMs);
      api.close();
      rows.push({
        made,
        perSecond,
        bytes,
        each: (bytes - empty) / made,
        startSeconds: (performance.now() - startMs) / 1000,
      });
    }
  } finally {
    await server.stop();
  }
  const cells = rows.map(({ made = 0, perSecond = 0, bytes = 0, each = 0, startSeconds = 0 }) => [
    formatNumber(made),
    formatNumber(perSecond),
    formatNumber(bytes / 1024 / 1024),
    formatNumber(each / 1024),
    startSeconds.toFixed(2),
  ]);
  console.log(`\n${formatTable(columns, cells)}\n\n${writeResult("scale-collections", { points, dimension, rows })}`);
}

async function makeCollections(
  target: string,
  from: number,
  to: number,
  points: number,
  dimension: number,
): Promise<void> {
  const client = await connect(target);
  let next = from;
  const worker = async (): Promise<void> => {
    while (next < to) {
      const collection = client.collection(`small-${next++}`);
      await collection.create({ vectors: { dimension } });
      const vector = (id: number): Float32Array =>
        Float32Array.from({ length: dimension }, (_, i) => Math.sin(id * 31 + i));
      await collection.upsert(Array.from({ length: points }, (_, id) => ({ id, vector: vector(id) })));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  client.close();
}

function privateBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + (readMemory(pid)?.privateBytes ?? 0), 0);
}
