import { expect, test } from "vitest";
import type { ReplicaStatus } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { hintsOf } from "./hints.js";

const index = (path: string) => ({ path, kind: "keyword" as const, isTenant: false, isPrincipal: false });
const status = (
  unindexedFields: ReplicaStatus["unindexedFields"],
  uses: Record<string, [count: number, sinceMs: number]>,
): ReplicaStatus => ({
  state: "active",
  appliedSequence: 0,
  pointCount: 0,
  indexedVectorCount: 0,
  unindexedVectorCount: 0,
  memoryBytes: 0,
  diskBytes: 0,
  digest: "",
  digestFormat: 2,
  fault: "",
  schemaVersion: 1,
  unindexedFields,
  payloadIndexes: Object.entries(uses).map(([path, [useCount, countedSinceMs]]) => {
    return { path, useCount, countedSinceMs, isReady: true, pointCount: 0, valuePointCount: 0, memoryBytes: 0 };
  }),
});
const genre = (count: number) => ({ path: "genre", kinds: ["keyword" as const], count });

test("replicas of a shard are summed up, shards are not; an index is unused where no replica has used it", () => {
  const shards = [
    [status([genre(2)], { a: [0, 10], b: [0, 10] }), status([genre(3)], { a: [0, 30], b: [1, 10] })],
    [status([genre(4), { path: "x", kinds: ["geo"], count: 9 }], { a: [0, 20], b: [0, 10] })],
  ];
  expect(hintsOf([index("a"), index("b"), index("c")], shards)).toEqual({
    unindexedFields: [
      { path: "x", kinds: [pb.PayloadIndexKind.GEO], count: 9 },
      { path: "genre", kinds: [pb.PayloadIndexKind.KEYWORD], count: 5 },
    ],
    unusedIndexes: [{ path: "a", since: new Date(30) }],
  });
});
