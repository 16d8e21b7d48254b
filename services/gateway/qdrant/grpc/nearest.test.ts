/** The short way of a query asks the router the same as the operations of the REST API, and answers the same. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { systemClock, systemRandom } from "../../../../libs/base/index.js";
import { idFromName, idFromNum, idFromUuid, isJsonObject } from "../../../../libs/model/index.js";
import type { UnaryContext } from "../../../../libs/rpc/server/index.js";
import { encodeQueryResponse, pb } from "../../../../libs/wire/index.js";
import type { Backend } from "../../rest/backend.js";
import { GatheredBytes } from "../../rest/gathered.js";
import { qdrantCalls } from "./calls.js";
import { nearestResponse, readNearest } from "./nearest.js";
import { payloadResponse } from "./payload-response.js";
import { MessageReaders } from "./reader.js";
import { qdrantMethods } from "./schema.js";
import { textIn } from "./source.js";
import { MessageWriters } from "./writer.js";

const method = qdrantMethods().get("Points/Query");
const call = qdrantCalls.get("Points/Query");
if (method === undefined || call === undefined) throw new Error("there is no Points/Query");
const { input, output } = method;
const readers = new MessageReaders();
const writers = new MessageWriters();

/** What the operation asks the router, and what it answers with these points. */
async function byOperation(
  bytes: Uint8Array,
  points: pb.ScoredPoint[] = [],
): Promise<{ asked: pb.QueryRequest; answer: Uint8Array }> {
  const asked: object[] = [];
  const backend: Pick<Backend, "message"> = {
    message: <Req extends object, Res extends object>({ path: called }: { path: string }, request: Req) => {
      // Payloads may have shard keys, which collections tell.
      if (called.endsWith("/Get")) return Promise.resolve({ collection: pb.Collection.create({}) } as unknown as Res);
      asked.push(request);
      return Promise.resolve(pb.QueryResponse.create({ points }) as unknown as Res);
    },
  };
  const body = readers.decode(input, bytes);
  if (!isJsonObject(body)) throw new Error("no object");
  const path = { collection_name: textIn(body["collection_name"]) };
  const self = { version: "test", random: systemRandom, warn: () => undefined };
  const ask = {
    backend: backend as Backend,
    call: {} as UnaryContext,
    path,
    params: new Map<string, string>(),
    body,
    gathering: new GatheredBytes().begin(),
    self,
  };
  const reply = await call?.operation(ask);
  const answer = await writers.encode(output, { ...call?.answer(reply ?? null), time: 0.5 }, systemClock);
  return { asked: asked[0] as pb.QueryRequest, answer };
}

const off = { selectorOptions: { case: "enable", value: false } };
const on = { selectorOptions: { case: "enable", value: true } };
const maybe = <T>(name: string, values: fc.Arbitrary<T>) =>
  fc.option(values).map((value) => (value === null ? {} : { [name]: value }));
const requests = fc
  .tuple(
    fc.float32Array({ minLength: 1, maxLength: 9, noNaN: true }),
    maybe("using", fc.string({ maxLength: 5 })),
    maybe("limit", fc.bigInt({ min: 1n, max: 100_000n })),
    maybe("offset", fc.bigInt({ min: 0n, max: 100_000n })),
    maybe("scoreThreshold", fc.float({ noNaN: true, noDefaultInfinity: true })),
    maybe("params", fc.record({ hnswEf: fc.bigInt({ min: 0n, max: 2n ** 40n }), exact: fc.boolean() })),
    maybe("withPayload", fc.constantFrom(off, on)),
    maybe("withVectors", fc.constant(off)),
  )
  .map(([data, ...more]) => {
    const dense = { variant: { case: "dense", value: { data: Array.from(data) } } };
    const query = { variant: { case: "nearest", value: dense } };
    return toBinary(
      input,
      create(input, Object.assign({ collectionName: "films", query }, ...more) as Record<string, unknown>),
    );
  });

test("asks what the operation asks", async () => {
  await fc.assert(
    fc.asyncProperty(requests, async (bytes) => {
      const short = readNearest(bytes);
      const { asked } = await byOperation(bytes);
      expect(pb.QueryRequest.encode(short ?? pb.QueryRequest.create({})).finish()).toEqual(
        pb.QueryRequest.encode(asked).finish(),
      );
    }),
  );
});

const query = { variant: { case: "nearest", value: { variant: { case: "dense", value: { data: [1, 2] } } } } };
const id = { pointIdOptions: { case: "num", value: 3n } };
test.each([
  ["a filter", { filter: { must: [] } }],
  ["vectors", { withVectors: on }],
  ["some of the payload", { withPayload: { selectorOptions: { case: "include", value: { fields: ["a"] } } } }],
  ["a prefetch", { prefetch: [{}] }],
  ["a timeout", { timeout: 3n }],
  ["a shard key", { shardKeySelector: {} }],
  ["another quantization", { params: { quantization: {} } }],
  ["no results", { limit: 0n }],
  ["a limit beyond whole numbers", { limit: 2n ** 63n }],
  ["an empty vector", { query: { variant: { case: "nearest", value: { variant: { case: "dense", value: {} } } } } }],
  ["the vector of a point", { query: { variant: { case: "nearest", value: { variant: { case: "id", value: id } } } } }],
  ["another query", { query: { variant: { case: "fusion", value: 1 } } }],
  ["no query", { query: undefined }],
])("leaves to the operation what says more: %s", (_, more) => {
  expect(readNearest(toBinary(input, create(input, { collectionName: "a", query })))).toBeDefined();
  expect(readNearest(toBinary(input, create(input, { collectionName: "a", query, ...more })))).toBeUndefined();
});

test("leaves to the operation what is cut off, or has fields that nobody knows", () => {
  const bytes = toBinary(input, create(input, { collectionName: "a", query, using: "abc" }));
  for (let length = 1; length < bytes.length; length++) {
    const cut = readNearest(bytes.subarray(0, length));
    // At the end of a field it is a message without the others.
    if (cut !== undefined) expect(cut.using).toBe("");
  }
  expect(readNearest(Buffer.concat([bytes, Buffer.from([0xf8, 0x7c, 1])]))).toBeUndefined();
});

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const hits = fc.array(
  fc.record({
    id: fc.oneof(
      u64.map(idFromNum),
      fc.uuid().map(idFromUuid),
      fc.string({ minLength: 1, maxLength: 200 }).map(idFromName),
    ),
    score: fc.float({ noNaN: true }),
    version: fc.maxSafeNat(),
    payload: fc.constant(new Uint8Array()),
  }),
  { maxLength: 12 },
);

test("answers what the operation answers", async () => {
  const bytes = toBinary(input, create(input, { collectionName: "a", query }));
  await fc.assert(
    fc.asyncProperty(hits, async (found) => {
      const more = { missing: [], trace: [], tookUs: 7, sequences: [{ shard: 0, sequence: 9 }], collectionId: "abc" };
      const own = encodeQueryResponse({ hits: found, ...more }).bytes;
      const { answer } = await byOperation(bytes, pb.QueryResponse.decode(own).points);
      const short = nearestResponse(own, 0.5);
      expect(fromBinary(output, short ?? new Uint8Array())).toEqual(fromBinary(output, answer));
    }),
  );
});

const payloadTexts = fc.option(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 })), { nil: undefined });
const paid = fc.array(fc.tuple(hits, payloadTexts), { maxLength: 3 });

test("answers with payloads what the operation answers", async () => {
  const bytes = toBinary(input, create(input, { collectionName: "a", query, withPayload: on }));
  await fc.assert(
    fc.asyncProperty(paid, async (parts) => {
      const found = parts.flatMap(([some, object]) => {
        const payload = object === undefined ? new Uint8Array() : Buffer.from(JSON.stringify(object));
        return some.map((hit) => ({ ...hit, payload }));
      });
      const more = { missing: [], trace: [], tookUs: 7, sequences: [{ shard: 0, sequence: 9 }], collectionId: "abc" };
      const own = encodeQueryResponse({ hits: found, ...more }).bytes;
      const { answer } = await byOperation(bytes, pb.QueryResponse.decode(own).points);
      const short = payloadResponse(own, 0.5);
      expect(fromBinary(output, short ?? new Uint8Array())).toEqual(fromBinary(output, answer));
    }),
  );
});

test("points with shard keys in their payloads, and answers that are huge, are left to the operation", () => {
  const more = { missing: [], trace: [], tookUs: 7, sequences: [], collectionId: "abc" };
  const answered = (payload: string): Buffer | undefined => {
    const hit = { id: idFromNum(1), score: 1, version: 1, payload: Buffer.from(payload) };
    return payloadResponse(encodeQueryResponse({ hits: [hit], ...more }).bytes, 0.5);
  };
  expect(answered('{"n":18446744073709551615,"f":1.0}')).toBeDefined();
  expect(answered('{"_shard_key":"a"}')).toBeUndefined();
  expect(answered(JSON.stringify({ text: "x".repeat(8 * 1024 * 1024) }))).toBeUndefined();
});

test("answers with more than ids and scores are left to the operation", () => {
  const hit = { id: idFromNum(1), score: 1, version: 1, payload: Buffer.from("{}") };
  const more = { missing: [], trace: [], tookUs: 7, sequences: [], collectionId: "abc" };
  expect(nearestResponse(encodeQueryResponse({ hits: [hit], ...more }).bytes, 0.5)).toBeUndefined();
  expect(
    nearestResponse(encodeQueryResponse({ hits: [{ ...hit, payload: new Uint8Array() }], ...more }).bytes, 1),
  ).toBeDefined();
});
