import { expect, test } from "vitest";
import { parseCollection } from "./index.js";

/** As the first version wrote it. */
const first = `{"id":"4f1c0a9d2b7e66a0c1d3","name":"films","fields":[{"name":"","dimension":8,"metric":"cosine","storage":"f16","m":16,
  "efConstruction":128,"efSearch":64}],"replicationFactor":2,"epoch":1,"createdAtMs":1764000000000,"labels":{"team":"a"},"state":"ready",
  "shards":[{"shard":0,"firstSlot":0,"lastSlot":8191,"nodes":["s1","s2"]},{"shard":1,"firstSlot":8192,"lastSlot":16383,"nodes":["s2","s3"]}]}`;

test("a record of the first version is read as one of the present", () => {
  const active = (node: string) => ({ node, state: "active", sinceMs: 1764000000000 });
  expect(parseCollection(first)).toEqual({
    id: "4f1c0a9d2b7e66a0c1d3",
    name: "films",
    fields: [{ name: "", dimension: 8, metric: "cosine", datatype: "f16", m: 16, efConstruction: 128, efSearch: 64 }],
    replicationFactor: 2,
    epoch: 1,
    createdAtMs: 1764000000000,
    labels: { team: "a" },
    state: "ready",
    nextShard: 2,
    shards: [
      {
        shard: 0,
        firstSlot: 0,
        lastSlot: 8191,
        epoch: 1,
        state: "active",
        replicas: [active("s1"), active("s2")],
      },
      {
        shard: 1,
        firstSlot: 8192,
        lastSlot: 16383,
        epoch: 1,
        state: "active",
        replicas: [active("s2"), active("s3")],
      },
    ],
  });
});

test("one that was not placed yet has no replicas", () => {
  const creating = first.replace(/"nodes":\[[^\]]*\]/g, '"nodes":[]').replace("ready", "creating");
  expect(parseCollection(creating).shards.map(({ replicas }) => replicas)).toEqual([[], []]);
});

test("what is written is read as it was, whatever the ids of the shards", () => {
  const present = parseCollection(first);
  const [a, b] = present.shards as [(typeof present.shards)[0], (typeof present.shards)[0]];
  const split = {
    ...present,
    epoch: 2,
    nextShard: 9,
    shards: [
      { ...a, shard: 7 },
      { ...b, shard: 3, epoch: 2 },
    ],
  };
  expect(parseCollection(JSON.stringify(split))).toEqual(split);
});

test.each([
  ["twice", [3, 3], 9],
  ["not below the next one", [3, 9], 9],
])("a record with a shard's id %s is refused", (_, ids, nextShard) => {
  const present = parseCollection(first);
  const shards = present.shards.map((shard, i) => ({ ...shard, shard: ids[i] }));
  expect(() => parseCollection(JSON.stringify({ ...present, nextShard, shards }))).toThrow(/films.*3, 9|films.*: 3$/);
});
