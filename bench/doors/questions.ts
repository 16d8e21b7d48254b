import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { QdrantClient, type QueryPoints, QueryPointsSchema } from "@qdrant/js-client-grpc";
import { KithError } from "../../libs/base/index.js";
import { Api } from "../lib/api.js";
import { type Matrix, rowOf } from "../lib/data.js";
import type { OwnServer } from "../lib/server.js";
import { encodeRequests, queryRequest, type QueryShape } from "../load/requests.js";

/** The same queries in the words of each door. */
export interface Questions {
  /** Encoded messages. */
  grpc: Buffer[];
  qdrantGrpc: Buffer[];
  /** JSON texts. */
  rest: string[];
  qdrantRest: string[];
  paths: { rest: string; qdrantGrpc: string; qdrantRest: string };
}

export function questionsOf(shape: QueryShape, queries: Matrix): Questions {
  const { collection, ef, limit, withPayload } = shape;
  const rows = Array.from({ length: queries.rowCount }, (_, row) => Float32Array.from(rowOf(queries, row)));
  const params = ef > 0 ? { params: { hnsw_ef: ef } } : {};
  return {
    grpc: encodeRequests(shape, queries),
    qdrantGrpc: rows.map((row) => Buffer.from(toBinary(QueryPointsSchema, queryPoints(shape, row)))),
    rest: rows.map((row) =>
      JSON.stringify({ vector: digitsOf(row), limit, ...(ef > 0 && { ef }), select: { payload: withPayload } }),
    ),
    qdrantRest: rows.map((row) =>
      JSON.stringify({ query: digitsOf(row), limit, ...params, with_payload: withPayload }),
    ),
    paths: {
      rest: `/v1/collections/${collection}/query`,
      qdrantGrpc: "/qdrant.Points/Query",
      qdrantRest: `/collections/${collection}/points/query`,
    },
  };
}

/** What Qdrant's clients send for the nearest points to a vector. */
function queryPoints({ collection, ef, limit, withPayload }: QueryShape, row: Float32Array): QueryPoints {
  const input = { variant: { case: "dense", value: { data: Array.from(row) } } } as const;
  return create(QueryPointsSchema, {
    collectionName: collection,
    query: { variant: { case: "nearest", value: input } },
    limit: BigInt(limit),
    ...(ef > 0 && { params: { hnswEf: BigInt(ef) } }),
    withPayload: { selectorOptions: { case: "enable", value: withPayload } },
  });
}

/** The digits that an f32 needs. */
function digitsOf(row: Float32Array): number[] {
  return Array.from(row, (value) => Number(value.toPrecision(9)));
}

const compared = 10;

/** All doors must be asked the same: a driver looks at the status of an answer alone. */
export async function sameAnswers(
  server: OwnServer,
  shape: QueryShape,
  queries: Matrix,
  asked: Questions,
): Promise<void> {
  const api = new Api(server.target);
  const qdrant = new QdrantClient({ url: `http://${server.targetOf("qdrantGrpc")}`, checkCompatibility: false });
  try {
    for (let row = 0; row < Math.min(compared, queries.rowCount); row++) {
      const vector = Float32Array.from(rowOf(queries, row));
      const { points } = await api.query(queryRequest(shape, vector));
      const expected = points.map(({ id }) => String(id?.id?.value));
      const message = fromBinary(QueryPointsSchema, asked.qdrantGrpc[row] ?? Buffer.alloc(0));
      const found: Record<string, string[]> = {
        REST: idsIn(await post(server.httpTarget, asked.paths.rest, asked.rest[row] ?? "")),
        "Qdrant's REST": idsIn(
          await post(server.targetOf("qdrant"), asked.paths.qdrantRest, asked.qdrantRest[row] ?? ""),
        ),
        "Qdrant's gRPC": (await qdrant.api("points").query(message)).result.map(({ id }) =>
          String(id?.pointIdOptions.value),
        ),
      };
      for (const [door, ids] of Object.entries(found)) {
        if (expected.length === 0 || ids.join() !== expected.join()) {
          throw new KithError("INTERNAL", `query ${row} finds ${expected.join()} by gRPC and ${ids.join()} by ${door}`);
        }
      }
    }
  } finally {
    api.close();
  }
}

interface Found {
  points?: { id: number }[];
  result?: Found;
}

async function post(target: string, path: string, body: string): Promise<Found> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`http://${target}${path}`, { method: "POST", headers, body });
  const text = await response.text();
  if (!response.ok) throw new KithError("INTERNAL", `${path} is answered ${response.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text) as Found;
}

function idsIn({ points, result }: Found): string[] {
  return (points ?? result?.points ?? []).map(({ id }) => String(id));
}
