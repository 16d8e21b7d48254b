import { expect, test } from "vitest";
import type { Collection } from "../model/index.js";
import { type Directory, Names, withoutCollection } from "./directory.js";

const record = (id: string, name: string, state: Collection["state"] = "ready"): Collection => ({
  id,
  name,
  fields: [],
  payloadIndexes: [],
  schemaVersion: 1,
  replicationFactor: 1,
  epoch: 1,
  createdAtMs: 0,
  labels: {},
  state,
  nextShard: 0,
  shards: [],
});
const given = (collectionId: string, name: string) => ({ collectionId, name, sinceMs: 0 });

test.each<[string, Collection[], Partial<Directory>, Record<string, string | undefined>]>([
  ["a name is that of the record", [record("1", "a")], {}, { a: "1", b: undefined }],
  ["a renamed one has the new name alone", [record("1", "a")], { names: [given("1", "b")] }, { a: undefined, b: "1" }],
  [
    "names may be exchanged",
    [record("1", "a"), record("2", "b")],
    { names: [given("1", "b"), given("2", "a")] },
    { a: "2", b: "1" },
  ],
  [
    "another one takes the old name under a key of its own",
    [record("1", "a"), record("2", "_2")],
    { names: [given("1", "b"), given("2", "a")] },
    { a: "2", b: "1", _2: undefined },
  ],
  [
    "a record comes before a name that was given, whose collection keeps its own",
    [record("1", "a"), record("2", "b")],
    { names: [given("1", "b")] },
    { a: "1", b: "2" },
  ],
  [
    "one that is being deleted comes last",
    [record("1", "a", "deleting"), record("2", "_2")],
    { names: [given("2", "a")] },
    { a: "2" },
  ],
  ["and has its name as long as nobody else wants it", [record("1", "a", "deleting")], {}, { a: "1" }],
  [
    "an alias means a collection by its id",
    [record("1", "a")],
    { aliases: [{ alias: "x", collectionId: "1" }], names: [given("1", "b")] },
    { x: "1" },
  ],
  [
    "a collection comes before an alias",
    [record("1", "a"), record("2", "x")],
    { aliases: [{ alias: "x", collectionId: "1" }] },
    { x: "2" },
  ],
  [
    "an alias of a collection that is gone means none",
    [],
    { aliases: [{ alias: "x", collectionId: "1" }] },
    { x: undefined },
  ],
  [
    "names of objects are names as others",
    [record("1", "constructor")],
    { aliases: [{ alias: "toString", collectionId: "1" }] },
    { constructor: "1", toString: "1", valueOf: undefined },
  ],
])("%s", (_, collections, directory, expected) => {
  const names = new Names(collections, { aliases: [], names: [], ...directory });
  for (const [name, id] of Object.entries(expected)) expect(names.find(name)?.record.id, name).toBe(id);
  for (const { record: found } of names.all()) {
    expect(names.nameOf(found.id)).toBe(found.name);
    expect(names.findByName(found.name)?.record.id).toBe(found.id);
  }
});

test("a deleted collection leaves neither names nor aliases", () => {
  const directory = {
    aliases: [
      { alias: "x", collectionId: "1" },
      { alias: "y", collectionId: "2" },
    ],
    names: [given("1", "b")],
  };
  expect(withoutCollection(directory, "1")).toEqual({ aliases: [{ alias: "y", collectionId: "2" }], names: [] });
  expect(withoutCollection(directory, "3")).toBe(directory);
});
