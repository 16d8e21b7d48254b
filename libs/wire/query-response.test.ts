import fc from "fast-check";
import { expect, test } from "vitest";
import { type Hit, type IdKey, idFromName, idFromNum, idFromUuid } from "../model/index.js";
import {
  encodeBatchInTurns,
  encodeBatchResponse,
  encodeGroupsInTurns,
  encodePageInTurns,
  encodePointsInTurns,
  encodeQueryInTurns,
  encodeQueryResponse,
  encodeStreamedInTurns,
  encodeStreamedPointsInTurns,
  encodeStreamedResponse,
  isLargeAnswer,
  isLargeBatch,
  pb,
  pointsBytes,
  turnBytes,
  type QueryAnswer,
  structOfJson,
} from "./index.js";

const u64 = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.constantFrom(0n, 127n, 128n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 35n, 2n ** 63n),
);
const safe = fc.oneof(fc.nat(300), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));
const ids: fc.Arbitrary<{ key: IdKey; id: pb.PointId }> = fc.oneof(
  u64.map((value) => ({ key: idFromNum(value), id: { id: { $case: "num" as const, value } } })),
  fc.uuid().map((value) => ({ key: idFromUuid(value), id: { id: { $case: "uuid" as const, value } } })),
  fc
    .string({ minLength: 1, maxLength: 60, unit: "grapheme" })
    .map((value) => ({ key: idFromName(value), id: { id: { $case: "name" as const, value } } })),
);
const floats = fc.float32Array({ minLength: 1, maxLength: 9, noNaN: true });
const hits = fc.array(
  fc.record({
    id: ids,
    score: fc.float({ noNaN: true, min: -1e6, max: 1e6 }),
    version: safe,
    payload: fc.uint8Array({ maxLength: 300 }),
    vectors: fc.option(fc.dictionary(fc.string({ maxLength: 5 }), floats, { maxKeys: 2, noNullPrototype: true })),
    highlights: fc.option(
      fc.dictionary(fc.string({ maxLength: 5 }), fc.array(fc.string({ unit: "grapheme" }), { maxLength: 3 }), {
        maxKeys: 2,
        noNullPrototype: true,
      }),
    ),
  }),
  { maxLength: 12 },
);
const answers = fc.record({
  hits,
  missing: fc.array(fc.record({ first: fc.nat(16383), last: fc.nat(16383) }), { maxLength: 2 }),
  spans: fc.array(fc.string(), { maxLength: 2 }),
  tookUs: safe,
  sequences: fc.uniqueArray(fc.record({ shard: fc.nat(0xffff_ffff), sequence: safe }), {
    maxLength: 4,
    selector: ({ shard }) => shard,
  }),
  collectionId: fc.constantFrom("c1", "0a9z"),
});
type Drawn = typeof answers extends fc.Arbitrary<infer T> ? T : never;

/** A drawn answer in both forms: what is encoded, and the message that it must decode to. */
function both(drawn: Drawn): { answer: QueryAnswer; message: pb.QueryResponse } {
  const { missing, tookUs, sequences, collectionId } = drawn;
  const trace = drawn.spans.map((name): pb.TraceSpan => pb.TraceSpan.fromPartial({ name }));
  const found = drawn.hits.map(
    ({ id, score, version, payload, vectors, highlights }): Hit => ({
      id: id.key,
      score,
      version,
      payload,
      ...(vectors && { vectors: new Map(Object.entries(vectors)) }),
      ...(highlights && { highlights }),
    }),
  );
  const message: pb.QueryResponse = {
    explain: undefined,
    points: drawn.hits.map(({ id, score, version, payload, vectors, highlights }) => ({
      id: id.id,
      // As f32, and without the sign of zero.
      score: Math.fround(score) + 0,
      version,
      payload,
      vectors: Object.fromEntries(
        Object.entries(vectors ?? {}).map(([name, values]) => [name, { values, indices: [] }]),
      ),
      highlights: Object.fromEntries(
        Object.entries(highlights ?? {}).map(([path, fragments]) => [path, { fragments }]),
      ),
    })),
    missing,
    trace,
    tookUs,
    token: {
      shards: sequences.filter(({ sequence }) => sequence !== 0),
      collectionId,
    },
  };
  return { answer: { hits: found, missing, trace, tookUs, sequences, collectionId }, message };
}

/** Bytes and floats compare by their values, whatever they are views of. */
function plain(value: unknown): unknown {
  if (value instanceof Float32Array || value instanceof Uint8Array) return Array.from(value, (x) => x + 0);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

test("a query's answer decodes to its message, alone, in a stream and in a batch", () => {
  const failure: pb.Failure = pb.Failure.fromPartial({ code: "UNKNOWN_VECTOR", message: "é" });
  fc.assert(
    fc.property(answers, safe, (drawn, requestId) => {
      const { answer, message } = both(drawn);
      const alone = encodeQueryResponse(answer).bytes;
      expect(plain(pb.QueryResponse.decode(alone))).toEqual(plain(message));
      const streamed = pb.QueryStreamResponse.decode(encodeStreamedResponse(requestId, answer).bytes);
      expect(plain(streamed)).toEqual(plain({ requestId, outcome: { $case: "response", value: message } }));
      const batch = pb.QueryBatchResponse.decode(encodeBatchResponse([answer, failure, answer]).bytes);
      const response = { outcome: { $case: "response", value: message } };
      expect(plain(batch.results)).toEqual(
        plain([response, { outcome: { $case: "failure", value: failure } }, response]),
      );
    }),
    { numRuns: 300, seed: 1 },
  );
});

test("a large answer that is written in turns is the same message, and no turn writes more than its share", async () => {
  const drawn = fc.sample(answers, { numRuns: 40, seed: 3 });
  for (const each of drawn) {
    const { answer, message } = both(each);
    const alone = await encodeQueryInTurns(answer, () => Promise.resolve());
    expect(plain(pb.QueryResponse.decode(alone.bytes))).toEqual(plain(message));
  }
  const { answer } = both(drawn.find(({ hits }) => hits.length > 0) as Drawn);
  const [hit] = answer.hits as [Hit];
  const payload = new Uint8Array(100_000).fill(7);
  const sparse = new Map([["s", { indices: new Uint32Array(200).fill(1e9), values: new Float32Array(200) }]]);
  const large = { ...answer, hits: Array.from({ length: 40 }, (): Hit => ({ ...hit, payload, sparse })) };
  expect(isLargeAnswer(large)).toBe(true);
  expect(isLargeAnswer(answer)).toBe(false);
  let turns = 0;
  const pause = async (): Promise<void> => void turns++;
  const written = await encodeQueryInTurns(large, pause);
  const { length } = written.bytes;
  // 1 MiB a turn, and a hit.
  expect(turns).toBeGreaterThan(length / 1_500_000);
  // Encoded again by the generated code: to compare values one by one takes minutes.
  const again = ({ bytes }: { bytes: Buffer }): Uint8Array =>
    pb.QueryResponse.encode(pb.QueryResponse.decode(bytes)).finish();
  expect(Buffer.compare(again(written), again(encodeQueryResponse(large)))).toBe(0);
  const streamedAgain = ({ bytes }: { bytes: Buffer }): Uint8Array =>
    pb.QueryStreamResponse.encode(pb.QueryStreamResponse.decode(bytes)).finish();
  for (const requestId of [0, 7, 2 ** 40, 2n ** 64n - 1n]) {
    const streamed = await encodeStreamedInTurns(requestId, large, pause);
    expect(Buffer.compare(streamedAgain(streamed), streamedAgain(encodeStreamedResponse(requestId, large)))).toBe(0);
  }
  const failure = pb.Failure.fromPartial({ code: "NOT_FOUND", message: "none" });
  const outcomes = [
    failure,
    large,
    answer,
    failure,
    ...Array.from({ length: 20 }, () => ({ ...large, hits: large.hits.slice(0, 3) })),
  ];
  expect([isLargeBatch(outcomes), isLargeBatch([failure, answer])]).toEqual([true, false]);
  turns = 0;
  const batch = await encodeBatchInTurns(outcomes, pause);
  expect(turns).toBeGreaterThan(batch.bytes.length / 1_500_000);
  expect(Buffer.compare(batch.bytes, encodeBatchResponse(outcomes).bytes)).toBe(0);
});

test("points that are written in turns are the same message", async () => {
  const points = Array.from({ length: 30 }, (_, i) =>
    pb.Point.fromPartial({
      id: { id: { $case: "num", value: BigInt(i) } },
      vectors: { "": { values: Float32Array.of(i, 1) } },
      payload: new Uint8Array(100_000).fill(i),
    }),
  );
  const response = pb.GetPointsResponse.fromPartial({ points, token: { collectionId: "c1" } });
  expect(pointsBytes(points)).toBeGreaterThan(turnBytes);
  let turns = 0;
  const pause = async (): Promise<void> => void turns++;
  const written = await encodePointsInTurns(response, pause);
  expect(turns).toBe(2);
  expect(Buffer.compare(written.bytes, pb.GetPointsResponse.encode(response).finish())).toBe(0);

  const page = pb.ScrollResponse.fromPartial({
    points,
    nextCursor: Buffer.from("next"),
    orders: points.map((_, i) => i),
  });
  const again = (bytes: Uint8Array): Uint8Array =>
    pb.QueryStreamResponse.encode(pb.QueryStreamResponse.decode(bytes)).finish();
  const pageBytes = pb.ScrollResponse.encode(page).finish();
  expect(Buffer.compare((await encodePageInTurns(page, pause)).bytes, pageBytes)).toBe(0);

  const scored = points.map(({ id, payload, vectors }, i) => ({
    ...pb.ScoredPoint.create({ score: i }),
    ...{ id, payload, vectors },
  }));
  const groups = pb.QueryGroupsResponse.fromPartial({
    groups: [
      { value: { $case: "text", value: "a" }, points: scored.slice(0, 25), lookup: points[0] },
      { value: { $case: "integer", value: -7 }, points: scored.slice(25) },
      ...scored.map((point, i) => ({ value: { $case: "integer" as const, value: i }, points: [point] })),
    ],
    tookUs: 5,
    token: { collectionId: "c1" },
  });
  turns = 0;
  const groupsInTurns = await encodeGroupsInTurns(groups, pause);
  expect(turns).toBeGreaterThan(4);
  const sameGroups = pb.QueryGroupsResponse.encode(pb.QueryGroupsResponse.decode(groupsInTurns.bytes)).finish();
  expect(Buffer.compare(sameGroups, pb.QueryGroupsResponse.encode(groups).finish())).toBe(0);
  for (const outcome of [
    { $case: "scroll", value: page },
    { $case: "groups", value: groups },
  ] as const) {
    const streamed = await encodeStreamedPointsInTurns(300, outcome, pause);
    const whole = pb.QueryStreamResponse.encode(
      pb.QueryStreamResponse.fromPartial({ requestId: 300, outcome }),
    ).finish();
    expect(Buffer.compare(again(streamed.bytes), whole)).toBe(0);
  }
});

test("an answer larger than the writer's first buffer, and one that cannot be written, leave the next one whole", () => {
  const { answer, message } = both({
    hits: [
      {
        id: { key: idFromNum(1), id: { id: { $case: "num", value: 1n } } },
        score: 4,
        version: 1,
        payload: new Uint8Array(5_000_000).fill(7),
        vectors: null,
        highlights: null,
      },
    ],
    missing: [],
    spans: [],
    tookUs: 1,
    sequences: [{ shard: 7, sequence: 3 }],
    collectionId: "c1",
  });
  const large = encodeQueryResponse(answer);
  expect(() =>
    encodeQueryResponse({ ...answer, hits: [{ ...(answer.hits[0] as Hit), id: new Uint8Array([9]) }] }),
  ).toThrow(/not the key form/);
  expect(encodeQueryResponse(answer).bytes.equals(large.bytes)).toBe(true);
  const decoded = pb.QueryResponse.decode(large.bytes);
  expect(decoded.points[0]?.payload.length).toBe(5_000_000);
  expect(plain({ ...decoded, points: [] })).toEqual(plain({ ...message, points: [] }));
});

test("a score of 0 is there, and payloads are where they were asked for", () => {
  const struct = structOfJson(Buffer.from('{"n":1}'));
  const hits: Hit[] = [{ id: idFromNum(1), score: -0, version: 1, payload: struct }];
  const answer = { hits, missing: [], trace: [], tookUs: 1, sequences: [], collectionId: "c" };
  const decoded = (asStruct: boolean): pb.ScoredPoint | undefined =>
    pb.QueryResponse.decode(encodeQueryResponse({ ...answer, payloadAsStruct: asStruct }).bytes).points[0];
  expect(decoded(true)).toMatchObject({ score: 0, payload: new Uint8Array(0) });
  expect(Object.is(decoded(true)?.score, 0)).toBe(true);
  expect(plain(decoded(true)?.payloadStruct)).toEqual(plain(struct));
  expect(decoded(false)).toMatchObject({ payloadStruct: undefined });
  expect(plain(decoded(false)?.payload)).toEqual(plain(struct));
});

test("pages of points are the bytes of their message, however large", () => {
  const bytesOf = (answer: pb.GetPointsResponse) => pb.GetPointsResponse.encode(answer).finish();
  const getOf = (points: pb.Point[]) => pb.GetPointsResponse.fromPartial({ points, token: { collectionId: "c1" } });
  const scrollOf = (points: pb.Point[]) =>
    pb.ScrollResponse.fromPartial({ points, orders: [1, 2], nextCursor: Buffer.of(7) });
  const pointOf = (size: number): pb.Point =>
    pb.Point.create({
      id: { id: { $case: "num", value: 1n } },
      payload: new Uint8Array(size).fill(7),
      vectors: { "": { values: Float32Array.of(1, 2) }, é: { values: new Float32Array(size / 8) } },
      version: 3,
    });
  for (const points of [[], [pointOf(8)], Array.from({ length: 80 }, () => pointOf(80_000))]) {
    const get = pb.GetPointsResponse.decode(pb.PointsService.get.responseSerialize(getOf(points)));
    expect(Buffer.compare(bytesOf(get), bytesOf(getOf(points)))).toBe(0);
    const scroll = pb.ScrollResponse.decode(pb.PointsService.scroll.responseSerialize(scrollOf(points)));
    const again = pb.ScrollResponse.encode(scroll).finish();
    expect(Buffer.compare(again, pb.ScrollResponse.encode(scrollOf(points)).finish())).toBe(0);
  }
});
