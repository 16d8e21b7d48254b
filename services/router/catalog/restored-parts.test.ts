import { expect, test } from "vitest";
import type { BackupRecord } from "../../../libs/backup/index.js";
import { storeFormat, type VectorField } from "../../../libs/model/index.js";
import { evenRanges } from "../../../libs/sharding/index.js";
import { restoredParts } from "./restored-parts.js";

const field: VectorField = {
  ...{ name: "", dimension: 2, metric: "l2", datatype: "f32", m: 16, efConstruction: 128, efSearch: 64 },
};

type Part = BackupRecord["parts"][number];

/** Two shards, of which the one with the later slots is named first. */
function backup(change: Partial<Part> = {}): Pick<BackupRecord, "collection" | "parts"> {
  const [low, high] = evenRanges(2) as [Part["slots"], Part["slots"]];
  const part = { incarnation: "i", digest: "0", pointCount: 1, sizeBytes: 1, crc32c: 1, storeFormat, schemaVersion: 2 };
  return {
    collection: {
      ...{ id: "c", name: "c", fields: [field], payloadIndexes: [], schemaVersion: 2 },
      ...{ replicationFactor: 1, labels: {} },
    },
    parts: [
      { ...part, shard: 7, slots: high, sequence: 70, ...change },
      { ...part, shard: 4, slots: low, sequence: 40 },
    ],
  };
}

test("the shards of a backup are numbered anew in order of their hash slots, with their sequences", () => {
  const found = restoredParts(backup(), 2);
  expect(found?.parts).toEqual([
    { shard: 4, sequence: 40 },
    { shard: 7, sequence: 70 },
  ]);
  expect(found?.collection).toMatchObject({ schemaVersion: 2, shards: [{ shard: 0 }, { shard: 1 }] });
  expect(found?.collection.shards.map(({ firstSlot, lastSlot }) => ({ firstSlot, lastSlot }))).toEqual(evenRanges(2));
});

test.each<[string, ReturnType<typeof backup>, number]>([
  ["there are other shards", backup(), 3],
  ["a part is of points", backup({ storeFormat: undefined }), 2],
  ["a store has another format", backup({ storeFormat: storeFormat + 1 }), 2],
  ["a shard has another state of the schema", backup({ schemaVersion: 1 }), 2],
  ["hash slots are missing", backup({ slots: { firstSlot: 9_000, lastSlot: 16_383 } }), 2],
  ["none are there", { ...backup(), parts: [] }, 0],
])("points are read out where %s", (_why, { collection, parts }, shards) => {
  expect(restoredParts({ collection, parts }, shards)).toBeUndefined();
});

test("points are read out while a generation is being built", () => {
  const { collection, parts } = backup();
  const other = { number: 1, datatype: "f16", m: 16, efConstruction: 128, state: "building" } as const;
  expect(restoredParts({ collection: { ...collection, fields: [{ ...field, other }] }, parts }, 2)).toBeUndefined();
});
