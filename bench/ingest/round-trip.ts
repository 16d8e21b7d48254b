import { KithError } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";
import type { Api } from "../lib/api.js";
import type { Matrix } from "../lib/data.js";
import { rowOf } from "../lib/data.js";
import { Histogram, type LatencySummary } from "../lib/histogram.js";

export interface RoundTrips {
  ack: "log" | "applied";
  /** From the upsert to the answer of the query that must find the point. */
  total: LatencySummary;
  write: LatencySummary;
  query: LatencySummary;
}

export interface RoundTripOptions {
  collection: string;
  vectors: Matrix;
  /** Ids from here on are free. */
  firstId: number;
  count: number;
  ack: "log" | "applied";
}

/**
 * Read your own write, one after the other: upsert one point, then query its vector with the token of the write. A query that
 * does not find the point ends the benchmark: a fast wrong answer is worth nothing.
 */
export async function measureRoundTrips(api: Api, options: RoundTripOptions): Promise<RoundTrips> {
  const { collection, vectors, firstId, count, ack } = options;
  const total = new Histogram();
  const write = new Histogram();
  const query = new Histogram();
  for (let i = 0; i < count; i++) {
    const id = BigInt(firstId + i);
    const vector = unlike(vectors, i);
    const startMs = performance.now();
    const { token } = await api.upsertColumns({
      collection,
      idColumn: { $case: "nums", value: new Uint8Array(BigUint64Array.of(id).buffer) },
      sparseVectors: [],
      vectors: [{ name: "", matrix: new Uint8Array(vector.buffer), rows: [] }],
      payloads: [],
      mode: pb.UpsertMode.UNSPECIFIED,
      options: { ack: ack === "log" ? pb.Ack.LOG : pb.Ack.APPLIED, idempotencyKey: "" },
      expectedVersions: [],
      onlyIf: undefined,
      expiresAtMs: [],
    });
    const writtenMs = performance.now();
    const consistency: pb.Consistency = { level: token && { $case: "atLeast", value: token } };
    const found = await api.query(pb.QueryRequest.fromPartial({ collection, vector, limit: 1, consistency }));
    const endMs = performance.now();
    const first = found.points[0]?.id?.id;
    if (first?.$case !== "num" || first.value !== id) {
      throw new KithError("INTERNAL", `the point ${id} was written, but the query with its token does not find it`);
    }
    total.record((endMs - startMs) * 1000);
    write.record((writtenMs - startMs) * 1000);
    query.record((endMs - writtenMs) * 1000);
  }
  return { ack, total: total.summary(), write: write.summary(), query: query.summary() };
}

/** A vector like those of the set, but none of them: the middle of two. */
function unlike(vectors: Matrix, i: number): Float32Array {
  const one = rowOf(vectors, (i * 7919) % vectors.rowCount);
  const other = rowOf(vectors, (i * 104_729 + 1) % vectors.rowCount);
  return one.map((value, at) => (value + (other[at] as number)) / 2 + 1e-3 * (i % 997));
}
