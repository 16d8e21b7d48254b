/**
 * Sparse vectors and matrices that are none, as clients without the checks of an SDK may send them, in every call that takes them: a typed error that names
 * the place and the value, and nothing written.
 */
import { afterAll, expect, test } from "vitest";
import { type CollectionHandle, KithError, type KithClient } from "../../libs/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { rawCalls, type RawCalls } from "../cluster/raw.js";

let client: KithClient;
let raw: RawCalls;
let kinds: CollectionHandle;

const num = (value: bigint) => ({ id: { $case: "num" as const, value } });
const good = { dense: { values: Float32Array.of(1, 2), indices: [] } };
type Wire = Partial<Pick<pb.Vector, "values" | "indices" | "rows">>;

/** Two points, of which the second has this beside its good vector. */
const put = (name: string, vector: Wire) => (): Promise<unknown> =>
  raw.upsert(
    pb.UpsertRequest.fromPartial({
      collection: "kinds",
      points: [
        { id: num(1n), vectors: { ...good, ...(name === "dense" ? {} : goodOf(name)) } },
        { id: num(2n), vectors: { ...good, [name]: vector } },
      ],
    }),
  );
const goodOf = (name: string): Record<string, Wire> =>
  name === "words"
    ? { words: { indices: [1], values: Float32Array.of(1) } }
    : { [name]: { values: Float32Array.of(1, 1) } };
const update = (name: string, vector: Wire) => (): Promise<unknown> =>
  raw.call(
    pb.PointsService.updateVectors,
    pb.UpdateVectorsRequest.fromPartial({
      collection: "kinds",
      points: [{ id: num(1n), vectors: { [name]: vector } }],
    }),
  );
const ask = (using: string, vector: Wire) => (): Promise<unknown> =>
  raw.query({
    collection: "kinds",
    using,
    query: pb.Query.fromPartial({
      query: { $case: "nearest", value: { example: { example: { $case: "vector", value: vector } } } },
    }),
  });
const bytes = (...numbers: number[]): Buffer => Buffer.from(Uint32Array.from(numbers).buffer);
const columns =
  (parts: { sparse?: Partial<pb.SparseVectorColumn>; tokens?: Partial<pb.VectorColumn> }) => (): Promise<unknown> =>
    raw.upsertColumns(
      pb.UpsertColumnsRequest.fromPartial({
        collection: "kinds",
        idColumn: { $case: "nums", value: Buffer.concat([Buffer.alloc(8, 1), Buffer.alloc(8, 2)]) },
        vectors: [
          { name: "dense", matrix: Buffer.from(Float32Array.of(1, 2, 3, 4).buffer) },
          ...(parts.tokens === undefined ? [] : [{ name: "tokens", ...parts.tokens }]),
        ],
        sparseVectors: parts.sparse === undefined ? [] : [{ name: "words", ...parts.sparse }],
      }),
    );

const f32 = (...values: number[]): Float32Array => Float32Array.from(values);
const many = Array.from({ length: 20_000 }, (_, i) => i);

const cases: [what: string, call: () => Promise<unknown>, code: string, message: RegExp][] = [
  [
    "an index twice",
    put("words", { indices: [7, 3, 7], values: f32(1, 2, 3) }),
    "INVALID_ARGUMENT",
    /points\[1\].*"words".*index 7 twice/,
  ],
  [
    "fewer values than indices",
    put("words", { indices: [1, 2], values: f32(1) }),
    "DIMENSION_MISMATCH",
    /points\[1\].*2 indices and 1 values/,
  ],
  [
    "values without indices",
    put("words", { values: f32(1, 2) }),
    "DIMENSION_MISMATCH",
    /points\[1\].*0 indices and 2 values/,
  ],
  ["no entries", put("words", {}), "INVALID_ARGUMENT", /points\[1\].*no entries/],
  [
    "a weight that is NaN",
    put("words", { indices: [1, 9], values: f32(1, NaN) }),
    "VECTOR_NOT_FINITE",
    /points\[1\].*NaN at the index 9/,
  ],
  [
    "an infinite weight",
    put("words", { indices: [9], values: f32(Infinity) }),
    "VECTOR_NOT_FINITE",
    /points\[1\].*Infinity at the index 9/,
  ],
  [
    "a weight beyond the sums",
    put("words", { indices: [9], values: f32(1e30) }),
    "VECTOR_OUT_OF_RANGE",
    /points\[1\].*at the index 9/,
  ],
  [
    "too many entries",
    put("words", { indices: many, values: f32(...many) }),
    "LIMIT_OUT_OF_RANGE",
    /points\[1\].*20000 entries/,
  ],
  [
    "indices of a dense vector",
    put("dense", { indices: [1, 2], values: f32(1, 2) }),
    "INVALID_ARGUMENT",
    /points\[1\].*"dense" has indices/,
  ],
  [
    "indices of a matrix",
    put("tokens", { indices: [1, 2], values: f32(1, 2) }),
    "INVALID_ARGUMENT",
    /points\[1\].*"tokens" has indices/,
  ],
  [
    "an update with an index twice",
    update("words", { indices: [7, 7], values: f32(1, 2) }),
    "INVALID_ARGUMENT",
    /"words".*index 7 twice/,
  ],
  [
    "an update with NaN",
    update("words", { indices: [7], values: f32(NaN) }),
    "VECTOR_NOT_FINITE",
    /NaN at the index 7/,
  ],
  [
    "a query with an index twice",
    ask("words", { indices: [7, 7], values: f32(1, 2) }),
    "INVALID_ARGUMENT",
    /index 7 twice/,
  ],
  ["a query of NaN", ask("words", { indices: [7], values: f32(NaN) }), "VECTOR_NOT_FINITE", /NaN at the index 7/],
  ["a query without entries", ask("words", {}), "INVALID_ARGUMENT", /entries|indices/],
  ["a sparse query of a dense field", ask("dense", { indices: [7], values: f32(1) }), "INVALID_ARGUMENT", /"dense"/],
  ["a dense query of a sparse field", ask("words", { values: f32(1, 2) }), "INVALID_ARGUMENT", /"words"/],
  [
    "a sparse query of a field of matrices",
    ask("tokens", { indices: [7], values: f32(1) }),
    "INVALID_ARGUMENT",
    /"tokens"/,
  ],
  [
    "offsets of too few rows",
    columns({ sparse: { offsets: bytes(0, 1), indices: bytes(1), values: bytes(0) } }),
    "INVALID_ARGUMENT",
    /"words" has 2 offsets for 2 ids/,
  ],
  [
    "offsets that go back",
    columns({ sparse: { offsets: bytes(0, 2, 1), indices: bytes(1), values: bytes(0) } }),
    "INVALID_ARGUMENT",
    /"words" has offsets that do not ascend/,
  ],
  [
    "indices that are cut",
    columns({ sparse: { offsets: bytes(0, 1, 2), indices: Buffer.alloc(7), values: bytes(0, 0) } }),
    "INVALID_ARGUMENT",
    /7 bytes of indices/,
  ],
  [
    "a row without entries",
    columns({ sparse: { offsets: bytes(0, 0, 1), indices: bytes(1), values: bytes(0) } }),
    "INVALID_ARGUMENT",
    /row 0.*no entries/,
  ],
  [
    "a row with an index twice",
    columns({ sparse: { offsets: bytes(0, 1, 3), indices: bytes(1, 5, 5), values: bytes(0, 0, 0) } }),
    "INVALID_ARGUMENT",
    /row 1.*index 5 twice/,
  ],

  ["ragged rows", put("tokens", { values: f32(1, 2, 3) }), "DIMENSION_MISMATCH", /points\[1\].*"tokens"/],
  [
    "rows that are said otherwise",
    put("tokens", { values: f32(1, 2, 3, 4), rows: 3 }),
    "DIMENSION_MISMATCH",
    /points\[1\].*"tokens"/,
  ],
  ["a matrix without rows", put("tokens", { values: f32() }), "DIMENSION_MISMATCH", /points\[1\].*"tokens"/],
  ["a row of zeros", put("tokens", { values: f32(1, 2, 0, 0) }), "ZERO_VECTOR", /points\[1\].*row 1/],
  ["a row with NaN", put("tokens", { values: f32(1, 2, 3, NaN) }), "VECTOR_NOT_FINITE", /points\[1\].*row 1.*NaN/],
  [
    "too many rows",
    put("tokens", { values: new Float32Array(2 * 2_049).fill(1) }),
    "LIMIT_OUT_OF_RANGE",
    /points\[1\].*2049.*2048/,
  ],
  [
    "rows of a dense field",
    put("dense", { values: f32(1, 2, 3, 4), rows: 2 }),
    "DIMENSION_MISMATCH",
    /points\[1\].*"dense"/,
  ],
  ["an update with ragged rows", update("tokens", { values: f32(1, 2, 3) }), "DIMENSION_MISMATCH", /"tokens"/],
  ["a query with ragged rows", ask("tokens", { values: f32(1, 2, 3) }), "DIMENSION_MISMATCH", /"tokens"|rows/],
  ["a query without rows", ask("tokens", { values: f32() }), "DIMENSION_MISMATCH", /"tokens"|rows/],
  ["a query with a row of zeros", ask("tokens", { values: f32(0, 0) }), "ZERO_VECTOR", /row 0/],
  ["a query with NaN", ask("tokens", { values: f32(1, NaN) }), "VECTOR_NOT_FINITE", /row 0.*NaN/],
  [
    "rows for other ids",
    columns({ tokens: { matrix: bytes(1, 1), rows: [1] } }),
    "DIMENSION_MISMATCH",
    /"tokens".*1 matrices for 2 ids/,
  ],
  [
    "rows that do not fit the numbers",
    columns({ tokens: { matrix: bytes(1, 1, 1, 1), rows: [1, 2] } }),
    "DIMENSION_MISMATCH",
    /"tokens" have 4 numbers/,
  ],
  [
    "no rows of one id",
    columns({ tokens: { matrix: Buffer.from(f32(1, 1).buffer), rows: [0, 1] } }),
    "DIMENSION_MISMATCH",
    /row 0/,
  ],
];

useCluster(startInProcess, async (started) => {
  client = await started.connect();
  raw = rawCalls(started.target);
  kinds = client.collection("kinds");
  await kinds.create({
    vectors: {
      dense: { dimension: 2, metric: "dot" },
      tokens: { dimension: 2, metric: "cosine", multivector: "maxSim" },
    },
    sparse: { words: {} },
  });
});
afterAll(() => raw?.close());

test.each(cases)("%s", async (_, call, code, message) => {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(KithError);
  expect({ code: (error as KithError).code, message: (error as KithError).message }).toEqual({
    code,
    message: expect.stringMatching(message) as string,
  });
  expect(await kinds.count()).toBe(0);
});

test("indices in any order, weights below zero and of zero are taken, and sorted", async () => {
  await put("words", { indices: [9, 0, 4_294_967_295], values: f32(-1.5, 0, 2) })();
  expect((await kinds.get(2, { withVectors: ["words"] }))?.sparse).toEqual({
    words: { indices: Uint32Array.of(0, 9, 4_294_967_295), values: f32(0, -1.5, 2) },
  });
  const { points } = await kinds.query({ sparse: { indices: [9, 0], values: [2, 1] }, using: "words" });
  expect(points.map(({ id, score }) => [id, score])).toEqual([[2, -3]]);
  await kinds.delete([1, 2]);
});
