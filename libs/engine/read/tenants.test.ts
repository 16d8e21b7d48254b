import { afterEach, beforeEach, expect, test } from "vitest";
import { compileFilter, parseFilter } from "../../filter/index.js";
import { idFromNum, idMapKey, type JsonObject } from "../../model/index.js";
import { schemaChangeToWire } from "../../wire/index.js";
import type { Replica } from "../index.js";
import { exactIndexes } from "../testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  field,
  operationOf,
  remove,
  upsert,
  World,
} from "../testing/harness.fixture.js";

/** The rows of a tenant are listed by the index of its field, and are those that the filter means, whatever is written. */

const points = new Map<number, JsonObject>();
let world: World;
let replica: Replica;
let sequence = 0;
let version = 1;

beforeEach(async () => {
  points.clear();
  version = 1;
  world = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
  replica = await active(await world.open());
  await write(Array.from({ length: 3_000 }, (_, id) => id));
});
afterEach(() => world.end());

function payloadOf(id: number, round = 0): JsonObject {
  // Some points belong to two tenants, some to none.
  const name = `t${(id * 7 + round) % 40}`;
  const tenant = id % 13 === 0 ? [name, `t${id % 5}`] : id % 17 === 0 ? undefined : name;
  return { ...(tenant !== undefined && { tenant }), year: 1950 + (id % 60), free: id % 3 };
}

async function write(ids: readonly number[], round = 0): Promise<void> {
  const items = ids.map((id) => ({ id, vector: [id, 1, 0, 0], payload: payloadOf(id, round) }));
  for (const { id, payload } of items) points.set(id, payload);
  sequence = await world.append([upsert(items)]);
  await replica.wait(sequence, [], call);
}

async function addIndex(path: string, kind: "keyword" | "integer", isTenant: boolean): Promise<void> {
  const index = { path, kind, isTenant, isPrincipal: false };
  const change = schemaChangeToWire({ version: ++version, kind: "addPayloadIndex", index });
  sequence = await world.append([operationOf({ $case: "changeSchema", value: change })]);
  const isReady = (): boolean => replica.status().payloadIndexes.some((each) => each.path === path && each.isReady);
  await eventually(`the index of ${path}`, isReady);
}

function passing(text: string): Set<string> {
  const passes = compileFilter(parseFilter(text));
  const found = [...points].filter(([id, payload]) => passes({ id: idFromNum(id), payload, hasVector: () => true }));
  return new Set(found.map(([id]) => idMapKey(idFromNum(id))));
}

const scope = { ids: undefined, exclude: [], explain: true };
const nothing = { payload: false, vectors: [] };

/** What each kind of read finds, and the names of the stages of a search. */
async function check(text: string): Promise<string[]> {
  const filter = parseFilter(text);
  const wanted = passing(text);
  const vector = Float32Array.of(1, 1, 0, 0);
  const scorer = { kind: "nearest", vector } as const;
  const read = { ...scope, filter, minSequence: sequence, select: nothing };
  const searched = await replica.read("search", { ...read, field: "", scorer, k: 1_000, ef: 0, exact: true }, call);
  expect(new Set(searched.hits.map(({ id }) => idMapKey(id)))).toEqual(wanted);
  const drawn = await replica.read("sample", { ...read, limit: 3_000 }, call);
  expect(new Set(drawn.hits.map(({ id }) => idMapKey(id)))).toEqual(wanted);
  const ordered = await replica.read(
    "order",
    { ...read, orderBy: { key: "free", direction: "ascending" }, limit: 3_000 },
    call,
  );
  expect(new Set(ordered.hits.map(({ id }) => idMapKey(id)))).toEqual(wanted);
  const { counts } = await replica.read("facet", { ...read, key: "free" }, call);
  expect(counts.reduce((sum, { count }) => sum + count, 0)).toBe(wanted.size);
  for (const approximate of [false, true]) {
    const { count } = await replica.read("count", { filter, minSequence: sequence, approximate }, call);
    expect(count).toBe(wanted.size);
  }
  return searched.explain?.stages.map(({ name }) => name) ?? [];
}

test("a tenant's rows are listed where indexes know the rest of the filter, and found by a mask elsewhere", async () => {
  await addIndex("tenant", "keyword", true);
  await addIndex("year", "integer", false);
  const listed = ["tenant = t3", "tenant = t3 and year > 1980", "tenant = t2 and not year < 1990", "tenant = nobody"];
  const masked = ["tenant = t3 and free = 1", "tenant in (t1, t2)", "tenant = t3 or year = 1980", "year = 1980"];
  for (let round = 0; round < 3; round++) {
    for (const text of listed) {
      const stages = await check(text);
      expect(stages).toContain("tenant");
      expect(stages).not.toContain("mask");
    }
    for (const text of masked) expect(await check(text)).toContain("mask");
    // Points change their tenants and go.
    await write(
      [...points.keys()].filter((id) => id % 4 === round),
      round + 1,
    );
    const gone = [...points.keys()].filter((id) => id % 50 === round);
    for (const id of gone) points.delete(id);
    sequence = await world.append([remove(gone)]);
    await replica.wait(sequence, [], call);
  }
});

test("without the hint, no rows are listed", async () => {
  await addIndex("tenant", "keyword", false);
  expect(await check("tenant = t3")).toContain("mask");
});
