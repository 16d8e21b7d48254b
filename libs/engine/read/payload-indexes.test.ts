import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sleep, systemClock, systemRuntime } from "../../base/index.js";
import { compileFilter, filterSchemaOf } from "../../filter/index.js";
import { filters, payloads } from "../../filter/testing.js";
import {
  type Filter,
  idFromNum,
  idMapKey,
  type IdKey,
  type JsonObject,
  type PayloadIndex,
  type PayloadIndexKind,
  payloadIndexKinds,
  printJson,
} from "../../model/index.js";
import { type ipb, schemaChangeToWire } from "../../wire/index.js";
import { Replica } from "../index.js";
import {
  active,
  given,
  call,
  collectionOf,
  eventually,
  field,
  idOf,
  nothing,
  remove,
  smallTuning,
  World,
} from "../testing/harness.fixture.js";
import { exactIndexes } from "../testing/exact-index.fixture.js";

/** Payload indexes of a replica that follows its log, against the plain meaning of filters. */

let world: World;
let folder: string;
beforeEach(async () => {
  world = await World.make({ collection: collectionOf(field()) });
  folder = await mkdtemp(join(tmpdir(), "kith-payload-indexes-"));
});
afterEach(async () => {
  await world.end();
  await rm(folder, { recursive: true, force: true });
});

/** What the points are, the slow way. */
class Model {
  readonly points = new Map<string, { id: IdKey; payload: JsonObject }>();
  indexes: PayloadIndex[] = [];
  version = 1;

  passing(filter: Filter): string[] {
    const test = compileFilter(filter, filterSchemaOf(this.indexes));
    const found: string[] = [];
    for (const [key, { id, payload }] of this.points) {
      if (test({ id, payload, hasVector: (name) => name === "" })) found.push(key);
    }
    return found.sort();
  }

  write(id: number, payload: JsonObject | undefined): ipb.Operation {
    const key = idFromNum(id);
    if (payload === undefined) {
      this.points.delete(idMapKey(key));
      return remove([id]);
    }
    this.points.set(idMapKey(key), { id: key, payload });
    return upsertText(id, printJson(payload));
  }

  change(index: PayloadIndex | string): ipb.Operation {
    const version = ++this.version;
    const isDrop = typeof index === "string";
    this.indexes = isDrop ? this.indexes.filter(({ path }) => path !== index) : [...this.indexes, index];
    return schemaStep(
      isDrop ? { version, kind: "dropPayloadIndex", path: index } : { version, kind: "addPayloadIndex", index },
    );
  }
}

function schemaStep(change: Parameters<typeof schemaChangeToWire>[0]): ipb.Operation {
  return {
    operationId: Buffer.from(crypto.getRandomValues(new Uint8Array(16))),
    traceparent: "",
    mutation: { $case: "changeSchema", value: schemaChangeToWire(change) },
  };
}

/** Payloads keep the digits of their numbers: they come as text. */
function upsertText(id: number, payload: string): ipb.Operation {
  return {
    operationId: Buffer.from(crypto.getRandomValues(new Uint8Array(16))),
    traceparent: "",
    mutation: {
      $case: "upsert",
      value: {
        mode: 0,
        ids: [idOf(id)],
        vectors: [{ name: "", matrix: Buffer.from(Float32Array.from([id, 1, 0, 0]).buffer), rows: [] }],
        payloads: [Buffer.from(payload)],
      },
    },
  };
}

const paths = ["a", "b", "tags", "tags[]", "a.b", "tags[].a", "a[].b", '"x y"', "b[].tags"];

function indexOf(path: string, kind: PayloadIndexKind): PayloadIndex {
  const text = { tokenizer: "word", lowercase: true, phrase: path !== "b" } as const;
  return { path, kind, isTenant: false, isPrincipal: false, ...(kind === "text" && { text }) };
}

const indexes = fc
  .uniqueArray(fc.record({ path: fc.constantFrom(...paths), kind: fc.constantFrom(...payloadIndexKinds) }), {
    selector: ({ path }) => path,
    maxLength: 6,
    size: "max",
  })
  .map((all) => all.map(({ path, kind }) => indexOf(path, kind)));

const write = fc.record({ id: fc.nat(40), payload: fc.option(payloads, { nil: undefined, freq: 5 }) });
const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.array(write, { minLength: 1, maxLength: 12 }).map((writes) => ({ kind: "write" as const, writes })),
  },
  { weight: 3, arbitrary: indexes.map((some) => ({ kind: "indexes" as const, some })) },
  { weight: 1, arbitrary: fc.constant({ kind: "restart" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "rebuild" as const }) },
  { weight: 8, arbitrary: filters.map((filter) => ({ kind: "ask" as const, filter })) },
);

async function found(replica: Replica, filter: Filter, sequence: number): Promise<string[]> {
  const request = { minSequence: sequence, filter, ids: undefined, exclude: [], limit: 1_000, select: nothing };
  const { hits } = await replica.read("sample", request, call);
  return hits.map(({ id }) => idMapKey(id)).sort();
}

async function built(replica: Replica, count: number): Promise<void> {
  await eventually("the indexes", () => {
    const { payloadIndexes } = replica.status();
    return payloadIndexes.length === count && payloadIndexes.every(({ isReady }) => isReady);
  });
}

test("with any indexes, through writes, restarts and rebuilds, filters find what they mean", async () => {
  let asked = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 30, size: "max" }), async (steps) => {
      const own = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
      try {
        const model = new Model();
        let replica = await active(await own.open({ tuning: { checkpointRows: 8, checkpointShare: 0, deadRows: 10 } }));
        let sequence = 0;
        for (const each of steps) {
          switch (each.kind) {
            case "write":
              sequence = await own.append(each.writes.map(({ id, payload }) => model.write(id, payload)));
              break;
            case "indexes":
              for (const index of each.some) {
                const isThere = model.indexes.some(({ path }) => path === index.path);
                sequence = await own.append([model.change(isThere ? index.path : index)]);
              }
              break;
            case "restart":
              await replica.close();
              replica = await active(await own.open());
              break;
            case "rebuild":
              await replica.rebuildIndexes();
              break;
            case "ask":
              asked++;
              expect(await found(replica, each.filter, sequence)).toEqual(model.passing(each.filter));
          }
        }
        await replica.wait(sequence, [], call);
        await built(replica, model.indexes.length);
        for (const each of steps) {
          if (each.kind !== "ask") continue;
          expect(await found(replica, each.filter, sequence)).toEqual(model.passing(each.filter));
        }
        const withPayload = [...model.points.values()].length;
        for (const { pointCount } of replica.status().payloadIndexes) expect(pointCount).toBe(withPayload);
        expect(own.alarms).toEqual([]);
      } finally {
        await own.end();
      }
    }),
    { numRuns: 25 },
  );
  expect(asked).toBeGreaterThan(50);
}, 120_000);

test("filters are right at every moment while an index comes and goes and points are written", async () => {
  const replica = await active(await world.open());
  const genres = ["drama", "crime", "war"];
  const model = new Model();
  const all = Array.from({ length: 3_000 }, (_, id) => model.write(id, { genre: genres[id % 3] as string, n: id }));
  let sequence = await world.append(all);
  await replica.wait(sequence, [], call);
  const filter: Filter = {
    must: [
      {
        kind: "match",
        path: { steps: [{ kind: "key", key: "genre" }], text: "genre" },
        match: { kind: "value", value: "drama" },
      },
    ],
    should: [],
    mustNot: [],
  };
  let isOver = false;
  let answers = 0;
  const asking = (async (): Promise<void> => {
    while (!isOver) {
      // The points of one genre move from id to id, and are always as many.
      const { count } = await replica.read("count", { minSequence: 0, filter }, call);
      expect(count).toBe(1_000);
      answers++;
      // A mask that is there answers without a turn of the event loop.
      await sleep(systemClock, 0);
    }
  })();
  for (let round = 0; round < 12; round++) {
    if (round % 3 === 0) sequence = await world.append([model.change(indexOf("genre", "keyword"))]);
    for (let i = 0; i < 4; i++) {
      const first = (round * 40 + i * 10) % 2_900;
      const writes = Array.from({ length: 9 }, (_, j) =>
        model.write(first + j, { genre: genres[(first + j + round + i) % 3] as string, n: round }),
      );
      // Nine in a row hold three of each genre, whatever came before.
      const counts = model.passing(filter).length;
      expect(counts).toBe(1_000);
      sequence = await world.append(writes);
    }
    if (round % 3 === 2) sequence = await world.append([model.change("genre")]);
    await replica.wait(sequence, [], call);
    const before = answers;
    await eventually("an answer", () => answers > before);
  }
  isOver = true;
  await asking;
  expect(answers).toBeGreaterThan(12);
});

test("a checkpoint brings an index back without its points, a damaged one is dropped, and a dropped index leaves nothing", async () => {
  const model = new Model();
  let replica = await active(await world.open({ tuning: { ...smallTuning } }));
  await world.append([model.change(indexOf("a", "integer"))]);
  const sequence = await world.append(Array.from({ length: 500 }, (_, id) => model.write(id, { a: id % 7 })));
  await replica.wait(sequence, [], call);
  await built(replica, 1);
  await replica.checkpoint();
  await replica.close();
  const directory = world.replicaDirectory();
  const checkpoint = join(directory, "index-payload-0", "field.kpc");
  replica = await active(await world.open());
  await built(replica, 1);
  expect(world.alarms).toEqual([]);
  await replica.close();
  const bytes = await readFile(checkpoint);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
  await writeFile(checkpoint, bytes);
  replica = await active(await world.open());
  await built(replica, 1);
  expect(world.alarms.map(({ kind }) => kind)).toEqual(["checkpoint_dropped"]);
  expect(replica.status().payloadIndexes).toMatchObject([{ path: "a", pointCount: 500, valuePointCount: 500 }]);
  const dropped = await world.append([model.change("a")]);
  await replica.wait(dropped, [], call);
  await eventually("no files", async () => !(await readdir(directory)).includes("index-payload-0"));
  expect(replica.status().payloadIndexes).toEqual([]);
});

test("a copy of another replica has its indexes, built from the points", async () => {
  const model = new Model();
  const healthy = await active(await world.open());
  await world.append([model.change(indexOf("a", "integer"))]);
  const last = await world.append(Array.from({ length: 50 }, (_, id) => model.write(id, { a: id % 7 })));
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, last);
  const copy = await Replica.open({
    directory: join(folder, "copy"),
    collection: world.collection,
    shard: 0,
    log: world.log,
    ...systemRuntime,
    indexes: exactIndexes,
    onAlarm: () => undefined,
    peers: { fetch: (wanted) => given(healthy, wanted) },
  });
  try {
    await active(copy);
    await built(copy, 1);
    expect(copy.status().payloadIndexes).toMatchObject([{ path: "a", pointCount: 50 }]);
    expect(copy.status().digest).toBe(healthy.status().digest);
  } finally {
    await copy.close();
  }
});

test("facets of an index count what the payloads say, also where these hold what it does not", async () => {
  const model = new Model();
  const replica = await active(await world.open());
  const ask = async (key: string, filter?: Filter): Promise<[unknown, unknown[]]> => {
    const request = { minSequence: sequence, filter, ids: undefined, exclude: [], key, explain: true };
    const { counts, explain } = await replica.read("facet", request, call);
    return [explain?.plan, counts.map(({ value, count }) => [value, count]).sort()];
  };
  const word = (id: number): string => `w${id % 3}`;
  let sequence = await world.append(
    Array.from({ length: 300 }, (_, id) =>
      model.write(id, { a: [word(id), word(id)], b: id % 5 === 0 ? null : id % 4 }),
    ),
  );
  const filter: Filter = {
    must: [{ kind: "range", path: { steps: [{ kind: "key", key: "b" }], text: "b" }, range: { gte: 2 } }],
    should: [],
    mustNot: [],
  };
  const before = [await ask("a"), await ask("b"), await ask("a", filter)].map(([, counts]) => counts);
  sequence = await world.append([model.change(indexOf("a", "keyword")), model.change(indexOf("b", "integer"))]);
  await replica.wait(sequence, [], call);
  await built(replica, 2);
  expect([await ask("a"), await ask("b"), await ask("a", filter)]).toEqual(
    before.map((counts) => ["facet index", counts]),
  );
  sequence = await world.append([model.write(1_000, { a: "w0", b: "no number" })]);
  const [plan, counts] = await ask("b");
  expect([plan, counts.length]).toEqual(["points", 5]);
});
