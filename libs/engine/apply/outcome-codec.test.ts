import { expect, test } from "vitest";
import { KithError } from "../../base/index.js";
import { failureOf, noFailures, publicOutcome } from "./outcome.js";
import { decodeOutcomes, encodeOutcomes, type StoredOutcomes } from "./outcome-codec.js";

const failures = Uint32Array.of(failureOf(1, "POINT_EXISTS"), failureOf(9_999, "POINT_NOT_FOUND"));
const operations: StoredOutcomes["operations"] = [
  { id: "a".repeat(16), outcome: { affected: 1, failures: noFailures, contentHash: -5 } },
  { id: "\u00ff".repeat(16), outcome: { affected: 3, failures, contentHash: 7 } },
  {
    id: "c@9",
    outcome: {
      affected: 0,
      failures: noFailures,
      refused: { code: "UNKNOWN_VECTOR", message: "no ä" },
      contentHash: undefined,
    },
  },
];

test("what is stored comes back", () => {
  const timeMs = 1_700_000_000_001;
  expect(decodeOutcomes(encodeOutcomes(timeMs, operations))).toEqual({ timeMs, operations });
  expect(publicOutcome(operations[1]?.outcome)).toMatchObject({
    affected: 3,
    failures: [
      { index: 1, code: "POINT_EXISTS" },
      { index: 9_999, code: "POINT_NOT_FOUND" },
    ],
  });
});

test("what the first release stored is read, with content hashes and without", () => {
  const hashes = "fbffffff0700000000000000";
  const body =
    "00008056febc7842030000001061616161616161616161616161616161010000000000000000000010626262626262626262626262626262620300" +
    "00000200000002000000050000000000000363403900000000000000000e554e4b4e4f574e5f564543544f5205006e6f20c3a4";
  const former = (text: string): StoredOutcomes => decodeOutcomes(Buffer.from(text, "hex"));
  const [first, second, third] = former(body + hashes).operations;
  expect(first).toEqual(operations[0]);
  expect(second?.outcome.contentHash).toBe(7);
  expect(publicOutcome(second?.outcome)).toMatchObject({
    affected: 3,
    failures: [
      { index: 1, code: "POINT_EXISTS" },
      { index: 2, code: "POINT_NOT_FOUND" },
    ],
  });
  expect(third).toEqual(operations[2]);
  expect(former(body).timeMs).toBe(1_700_000_000_000);
  expect(former(body).operations.map(({ outcome }) => outcome.contentHash)).toEqual([undefined, undefined, undefined]);
});

test("what a newer release knows of an operation is not made up", () => {
  const unknown = { affected: 1, failures: Uint32Array.of(0xff00_0001) };
  expect(publicOutcome(unknown)).toMatchObject({ code: "FAILED_PRECONDITION" });
  const refused = { code: "OF_A_NEWER_RELEASE" as "INTERNAL", message: "why" };
  const body = encodeOutcomes(1, [{ id: "a", outcome: { affected: 0, failures: noFailures, refused } }]);
  const [read] = decodeOutcomes(body).operations;
  expect(publicOutcome(read?.outcome)).toEqual(new KithError("FAILED_PRECONDITION", "why"));
});
