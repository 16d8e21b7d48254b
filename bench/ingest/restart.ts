import { KithError, sleep, systemClock } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";
import { Api } from "../lib/api.js";
import { type Matrix, rowOf } from "../lib/data.js";
import type { OwnServer } from "../lib/server.js";

export interface RestartResult {
  /** From starting the process to its saying that it serves. */
  readySeconds: number;
  /** From starting the process to the first query that is answered with the right point. */
  firstCorrectSeconds: number;
  /** Share of sampled points that a query of their own vector finds, right after that. */
  selfRecall: number;
  pointCountBefore: number;
  pointCountAfter: number;
}

const samples = 200;
const retryMs = 10;
const giveUpMs = 600_000;

/** Ends all processes of the server as a crash would, starts it again on the same data, and asks until it answers right. */
export async function measureRestart(server: OwnServer, collection: string, vectors: Matrix): Promise<RestartResult> {
  const before = await withApi(server.target, (api) => api.stats(collection));
  await server.crash();
  const startMs = performance.now();
  await server.launch();
  const readySeconds = (performance.now() - startMs) / 1000;
  return withApi(server.target, async (api) => {
    let lastError = "";
    while (
      !(await findsItself(api, collection, vectors, 0).catch((error: Error) => void (lastError = error.message)))
    ) {
      if (performance.now() - startMs > giveUpMs) {
        throw new KithError(
          "SHARD_UNAVAILABLE",
          `no right answer ${giveUpMs} ms after the restart; last: ${lastError}`,
        );
      }
      await sleep(systemClock, retryMs);
    }
    const firstCorrectSeconds = (performance.now() - startMs) / 1000;
    let found = 0;
    for (let i = 0; i < samples; i++) {
      const row = Math.floor((i * vectors.rowCount) / samples);
      if (await findsItself(api, collection, vectors, row)) found++;
    }
    const after = await api.stats(collection);
    return {
      readySeconds,
      firstCorrectSeconds,
      selfRecall: found / samples,
      pointCountBefore: before.pointCount,
      pointCountAfter: after.pointCount,
    };
  });
}

async function withApi<T>(target: string, body: (api: Api) => Promise<T>): Promise<T> {
  const api = new Api(target);
  try {
    await api.ready(giveUpMs);
    return await body(api);
  } finally {
    api.close();
  }
}

async function findsItself(api: Api, collection: string, vectors: Matrix, row: number): Promise<boolean> {
  const vector = Float32Array.from(rowOf(vectors, row));
  // Ten, so that rows that are equal to this one cannot hide it.
  const { points } = await api.query(pb.QueryRequest.fromPartial({ collection, vector, limit: 10 }));
  return points.some(({ id }) => id?.id?.$case === "num" && id.id.value === BigInt(row));
}
