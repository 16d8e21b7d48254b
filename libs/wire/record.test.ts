import { expect, test } from "vitest";
import { decodeRecord, encodeRecord, ipb, mutationHashes } from "./index.js";

/** As the first release wrote it: an upsert and a delete. */
const first =
  "4b4c52311960728d08031080d095ffbc311a3d0a1001010101010101010101010101010101120b30302d61612d62622d30311a1c080112090100000000" +
  "000000011a090a017612040000803f22027b7d1a1f0a1002020202020202020202020202020202220b0a09010000000000000002";
const firstHashes = [1_312_417_011, 429_493_794];

test("a record of the first release is read, and written as that release did", () => {
  const framed = Buffer.from(first, "hex");
  const record = decodeRecord(framed);
  expect(record).toMatchObject({ epoch: 3, appendedAtMs: 1_700_000_000_000, format: 0 });
  expect(record.operations.map(({ mutation }) => mutation?.$case)).toEqual(["upsert", "delete"]);
  expect(Buffer.from(encodeRecord(record)).toString("hex")).toBe(first);
  expect(mutationHashes(framed)).toEqual(firstHashes);
});

test("what an operation does is hashed whole, and who sends it is not", () => {
  const operation: ipb.Operation = {
    operationId: Buffer.alloc(16, 1),
    traceparent: "",
    mutation: { $case: "changeSchema", value: { version: 2, change: { $case: "dropVector", value: "a" } } },
  };
  const hashOf = (change: Partial<ipb.Operation>, tail: Buffer = Buffer.alloc(0)): number => {
    const encoded = Buffer.concat([ipb.Operation.encode({ ...operation, ...change }).finish(), tail]);
    const body = Buffer.concat([Buffer.of(0x1a, encoded.length), encoded]);
    return mutationHashes(Buffer.concat([Buffer.alloc(8), body]))[0] as number;
  };
  const hash = hashOf({});
  expect(hashOf({ operationId: Buffer.alloc(16, 2), traceparent: "00-a-b-01" })).toBe(hash);
  const other = { version: 3, change: { $case: "dropVector", value: "a" } } as const;
  expect(hashOf({ mutation: { $case: "changeSchema", value: other } })).not.toBe(hash);
  // A field that this release does not know, behind the mutation.
  expect(hashOf({}, Buffer.from("a00601", "hex"))).not.toBe(hash);
});
