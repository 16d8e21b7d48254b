import { connect, type KithClient } from "../../libs/client/index.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatNumber, formatTable } from "../lib/table.js";

interface Flags {
  count: number;
  atOnce: number;
  rounds: number;
}

interface Row {
  server: string;
  atOnce: number;
  perSecond: number;
  medianMs: number;
  slowestMs: number;
}

const servers = { embedded: "kith dev", up: "kith up (JetStream)" } as const;
const columns = ["server", "at once", "creations a second", "median ms", "slowest ms"].map((title, i) => ({
  title,
  ...(i === 0 && { align: "left" as const }),
}));

/**
 * How fast collections of one shard are made: one after the other and many at once, in turns, with the log embedded and on JetStream. Each
 * round drops what it has made, outside of what is measured, so that no part finds more collections than another.
 */
export async function measureCreations({ count, atOnce, rounds }: Flags): Promise<void> {
  console.log(`machine: ${describeMachine()}`);
  const rows: Row[] = [];
  for (const kind of ["embedded", "up"] as const) {
    const server = await OwnServer.start({ kind, shards: 1, replicas: 1 });
    try {
      const client = await connect(server.target);
      // The first one opens logs and files that the others find open.
      await create(client, ["warm"], 1);
      const measured = new Map([1, atOnce].map((width) => [width, { seconds: 0, ms: [] as number[] }]));
      for (let round = 0; round < rounds; round++) {
        for (const [width, sum] of measured) {
          const names = Array.from({ length: count }, (_, i) => `made-${round}-${width}-${i}`);
          const { seconds, ms } = await create(client, names, width);
          sum.seconds += seconds;
          sum.ms.push(...ms);
          await each(names, atOnce, (name) => client.collection(name).drop());
        }
      }
      client.close();
      for (const [width, { seconds, ms }] of measured) {
        const sorted = ms.sort((a, b) => a - b);
        rows.push({
          ...{ server: servers[kind], atOnce: width, perSecond: ms.length / seconds },
          medianMs: sorted[sorted.length >> 1] ?? 0,
          slowestMs: sorted.at(-1) ?? 0,
        });
      }
    } finally {
      await server.stop();
    }
  }
  const cells = rows.map(({ server, atOnce: width, perSecond, medianMs, slowestMs }) => [
    ...[server, String(width), formatNumber(perSecond), medianMs.toFixed(1), slowestMs.toFixed(1)],
  ]);
  console.log(`\n${formatTable(columns, cells)}\n\n${writeResult("scale-creations", { count, rounds, rows })}`);
}

/** Makes the collections, so many at once; each is ready when its call returns. */
async function create(client: KithClient, names: string[], width: number): Promise<{ seconds: number; ms: number[] }> {
  const ms: number[] = [];
  const startedMs = performance.now();
  await each(names, width, async (name) => {
    const beganMs = performance.now();
    await client.collection(name).create({ vectors: { dimension: 4 } });
    ms.push(performance.now() - beganMs);
  });
  return { seconds: (performance.now() - startedMs) / 1000, ms };
}

async function each(names: readonly string[], width: number, work: (name: string) => Promise<unknown>): Promise<void> {
  const left = names.values();
  const worker = async (): Promise<void> => {
    for (const name of left) await work(name);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
