import { expect, test } from "vitest";
import { changedCollection, firstFields, parseCollection, type SchemaChange, type VectorField } from "./index.js";

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
    payloadIndexes: [],
    schemaVersion: 1,
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

test("a change of the schema keeps the fields that a replay begins with, and is refused where it does not fit", () => {
  const before = parseCollection(first);
  const field = { ...(before.fields[0] as VectorField), name: "image" };
  const index = { path: "genre", kind: "keyword", isTenant: true, isPrincipal: false } as const;
  const changes: SchemaChange[] = [
    { version: 2, kind: "addVector", field },
    { version: 3, kind: "dropVector", name: "" },
    { version: 4, kind: "addPayloadIndex", index },
  ];
  const after = changes.reduce(changedCollection, before);
  expect(after).toEqual({
    ...before,
    initialFields: before.fields,
    fields: [field],
    payloadIndexes: [index],
    schemaVersion: 4,
  });
  expect(firstFields(after)).toEqual(before.fields);
  expect(parseCollection(JSON.stringify(after))).toEqual(after);
  const refused: [SchemaChange, string, RegExp][] = [
    [{ version: 5, kind: "addVector", field }, "INVALID_SCHEMA", /there is a vector field "image" already/],
    [{ version: 5, kind: "dropVector", name: "image" }, "INVALID_SCHEMA", /"image" is the only vector field/],
    [{ version: 5, kind: "dropVector", name: "x" }, "UNKNOWN_VECTOR", /no vector field "x"/],
    [
      { version: 5, kind: "addPayloadIndex", index },
      "INVALID_SCHEMA",
      /"genre" has an index already, of the kind keyword/,
    ],
    [
      { version: 5, kind: "dropPayloadIndex", path: "x" },
      "INVALID_SCHEMA",
      /no payload index of "x"; there are "genre"/,
    ],
    [
      { version: 5, kind: "addPayloadIndex", index: { ...index, path: "a..b" } },
      "INVALID_SCHEMA",
      /the path "a..b" is not valid/,
    ],
  ];
  for (const [change, code, message] of refused) {
    expect(() => changedCollection(after, change)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
    );
  }
});
