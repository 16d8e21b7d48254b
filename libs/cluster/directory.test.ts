import { expect, test } from "vitest";
import { SeededRandom } from "../base/index.js";
import type { Collection } from "../model/index.js";
import { type Directory, emptyDirectory, Names, withoutCollection } from "./directory.js";

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

test("names that are kept with each change are those that are built at once", () => {
  const random = new SeededRandom(11);
  const nameOf = (): string => "abcdef"[random.below(6)] ?? "a";
  for (let round = 0; round < 60; round++) {
    const records = new Map<string, Collection>();
    let directory: Directory = emptyDirectory;
    const kept = new Names([], directory);
    for (let step = 0; step < 20; step++) {
      const kind = random.float();
      if (kind < 0.15) {
        const ids = [...records.values()].map(({ id }) => id);
        const collectionId = (): string => ids[random.below(ids.length + 1)] ?? "gone";
        directory = {
          aliases: random.float() < 0.5 ? [{ alias: nameOf(), collectionId: collectionId() }] : [],
          names: random.float() < 0.5 ? [given(collectionId(), nameOf())] : [],
        };
        kept.setDirectory(directory);
      } else {
        const key = random.float() < 0.1 ? "_own" : nameOf();
        const present = records.get(key);
        const state = random.float() < 0.2 ? "deleting" : "ready";
        const next =
          present !== undefined && kind < 0.4
            ? undefined
            : record(present !== undefined && kind < 0.7 ? present.id : `${round}-${step}`, key, state);
        if (next === undefined) records.delete(key);
        else records.set(key, next);
        kept.set(key, next);
      }
      const built = new Names(records.values(), directory);
      if (random.float() < 0.5) continue;
      expect(kept.all()).toEqual(built.all());
      expect(kept.aliases()).toEqual(built.aliases());
      for (const { id } of records.values()) {
        expect(kept.nameOf(id)).toBe(built.nameOf(id));
        expect(kept.aliasesOf(id)).toEqual(built.aliasesOf(id));
      }
    }
  }
});

test("however many collections come, change and go: all names are built once", () => {
  const names = new Names([], { aliases: [{ alias: "x", collectionId: "7" }], names: [given("8", "renamed")] });
  for (let i = 0; i < 500; i++) {
    names.set(`c${i}`, record(`${100 + i}`, `c${i}`, "creating"));
    names.set(`c${i}`, record(`${100 + i}`, `c${i}`));
    expect(names.find(`c${i}`)?.record.state).toBe("ready");
  }
  for (let i = 0; i < 250; i++) names.set(`c${i}`, undefined);
  expect(names.all()).toHaveLength(250);
  expect(names.buildCount).toBe(1);
});
