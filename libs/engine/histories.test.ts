import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseFilter } from "../filter/index.js";
import {
  idFromName,
  idFromNum,
  idFromUuid,
  idMapKey,
  type IdKey,
  sparseFromBytes,
  sparseOf,
  sparseToBytes,
  type SparseVector,
} from "../model/index.js";
import { pb, type ipb } from "../wire/index.js";
import {
  active,
  call,
  collectionOf,
  everything,
  factories,
  field,
  type Item,
  operationOf,
  remove,
  target,
  upsert,
  World,
} from "./testing/harness.fixture.js";
import { filterBytes, Model } from "./testing/model.fixture.js";
import type { Replica } from "./index.js";

/** Random histories against a model that keeps points in a Map and evaluates records one by one. */

const ids: IdKey[] = [
  ...[0, 1, 2, 3, 4, 5].map((n) => idFromNum(n)),
  idFromNum(0xffff_ffff_ffff_ffffn),
  ...["a", "ab", "ü"].map((name) => idFromName(name)),
  idFromUuid("01234567-89ab-cdef-0123-456789abcdef"),
];

/** In the year 2096: only the clocks of these records come to it. */
const expirySoonMs = 4_000_000_000_000;
const expiryLateMs = 5_000_000_000_000;

/** Coordinates from a small set of numbers that f32 holds exactly, so that distances are exact and ties happen. */
const coordinate = fc.integer({ min: -8, max: 8 });
const vector = fc.tuple(coordinate, coordinate);
/** Sparse vectors as they are stored, for as many points as an operation may have; or none. */
const sparse = fc
  .tuple(
    fc.uniqueArray(fc.integer({ min: 0, max: 4 }), { minLength: 1 }),
    fc.array(fc.integer({ min: -4, max: 4 }), { minLength: 5, maxLength: 5 }),
  )
  .map(([indices, all]) => sparseToBytes(sparseOf(indices, all.slice(0, indices.length), () => "")));
const sparseColumn = fc.option(fc.array(sparse, { minLength: 6, maxLength: 6 }), { nil: undefined });
const sparseOfRows = (rows: Uint8Array[] | undefined, keys: readonly IdKey[]): ipb.SparseColumn[] =>
  rows === undefined ? [] : [{ name: "s", vectors: rows.slice(0, keys.length) }];

const values = fc.record(
  {
    n: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constant(null)),
    o: fc.oneof(fc.record({ p: fc.integer({ min: 0, max: 3 }) }, { requiredKeys: [] }), fc.constant("text")),
    list: fc.array(fc.record({ x: fc.integer({ min: 0, max: 2 }) }), { maxLength: 2 }),
    ["__proto__"]: fc.integer({ min: 0, max: 1 }),
  },
  { requiredKeys: [] },
);
const item = fc.record({
  id: fc.constantFrom(...ids),
  a: vector,
  b: vector,
  payload: fc.option(values, { nil: undefined }),
  expiresAtMs: fc.constantFrom(0, expirySoonMs, expirySoonMs, expiryLateMs),
});
const filterText = fc.constantFrom(
  "n > 0",
  "n <= 0 or exists(o.p)",
  "not exists(n)",
  "list[].x = 1",
  'has_vector("a") and not has_vector("b")',
  'has_vector("s")',
  "has_id(1, 2, 3)",
);
const fields = fc.constantFrom("", "a", "b", "ab");
const path = fc.constantFrom("", "o", "list[]", "list[0]", "o.q", '"__proto__"');

/** What the model holds decides what versions are expected. */
type Make = (model: Model) => ipb.Operation;

const versions = fc.array(fc.constantFrom("any", "any", "current", "other"), { minLength: 6, maxLength: 6 });
const conditions = fc.record({
  expected: fc.option(versions, { nil: undefined, freq: 2 }),
  onlyIf: fc.option(filterText, { nil: "", freq: 2 }),
});
const byIds = fc
  .record({ ids: fc.uniqueArray(fc.constantFrom(...ids), { maxLength: 3 }), conditions })
  .map(({ ids: chosen, conditions: chosenConditions }) => (model: Model): ipb.Target => {
    return targetOf(model, chosen, chosenConditions);
  });
const byFilter = fc
  .record({ filter: filterText, onlyIf: fc.option(filterText, { nil: "" }) })
  .map(({ filter, onlyIf }) => (): ipb.Target => {
    return target({ filter: filterBytes(filter), onlyIf: filterBytes(onlyIf) });
  });
const anyTarget = fc.oneof({ weight: 2, arbitrary: byIds }, { weight: 1, arbitrary: byFilter });

function targetOf(
  model: Model,
  chosen: readonly IdKey[],
  { expected, onlyIf }: { expected: string[] | undefined; onlyIf: string },
): ipb.Target {
  const versionOf = (id: IdKey, i: number): number => {
    if (expected?.[i] === "current") return model.points.get(idMapKey(id))?.version ?? 0;
    return expected?.[i] === "other" ? 1_000_000 : 0;
  };
  const expectedVersions = expected === undefined ? [] : chosen.map(versionOf);
  return target({ ids: [...chosen], expectedVersions, onlyIf: filterBytes(onlyIf) });
}

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const mode = fc.constantFrom(pb.UpsertMode.UNSPECIFIED, pb.UpsertMode.INSERT_ONLY, pb.UpsertMode.UPDATE_ONLY);
const items = fc.uniqueArray(item, { maxLength: 6, selector: (each) => idMapKey(each.id) });
const upsertion = fc.record({ items, mode, fields }).map((chosen) => {
  return upsert(
    chosen.items.map(({ id, a, b, payload }): Item => {
      const vectors = { ...(chosen.fields.includes("a") && { a }), ...(chosen.fields.includes("b") && { b }) };
      return { id, vectors, payload };
    }),
    { mode: chosen.mode },
  );
});
/** Arbitraries give mutations; the id of the operation comes when it is sent. */
const fresh = (mutation: ipb.Operation["mutation"]): ipb.Operation => operationOf(mutation);
const operation: fc.Arbitrary<Make> = fc.oneof(
  {
    weight: 4,
    arbitrary: upsertion.map(
      ({ mutation }): Make =>
        () =>
          fresh(mutation),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.uniqueArray(fc.constantFrom(...ids), { maxLength: 3 }).map(
      (chosen): Make =>
        () =>
          remove(chosen),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record({ items, upsertion, conditions, sparseColumn }).map(
      (chosen): Make =>
        (model) => {
          const { mutation } = chosen.upsertion;
          if (mutation?.$case !== "upsert") throw new Error("it is an upsert");
          const { mode: chosenMode, ids: keys, vectors, payloads } = mutation.value;
          const expiresAtMs = keys.map((_, i) => chosen.items[i]?.expiresAtMs ?? 0);
          const to = targetOf(model, keys, chosen.conditions);
          const columns = sparseOfRows(chosen.sparseColumn, keys);
          return fresh({
            $case: "put",
            value: { mode: chosenMode, target: to, vectors, sparse: columns, payloads, expiresAtMs },
          });
        },
    ),
  },
  {
    weight: 1,
    arbitrary: anyTarget.map(
      (to): Make =>
        (model) =>
          fresh({ $case: "remove", value: { target: to(model) } }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record({ to: anyTarget, values, path }).map(
      (chosen): Make =>
        (model) => {
          const payload = json(chosen.values);
          return fresh({ $case: "setPayload", value: { target: chosen.to(model), payload, path: chosen.path } });
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.record({ to: anyTarget, values }).map(
      (chosen): Make =>
        (model) => {
          return fresh({
            $case: "overwritePayload",
            value: { target: chosen.to(model), payload: json(chosen.values) },
          });
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({
        to: anyTarget,
        paths: fc.array(fc.constantFrom("n", "o.p", "list[].x", "list[]", "list[0]", "nothing")),
      })
      .map(
        ({ to, paths }): Make =>
          (model) => {
            return fresh({ $case: "deletePayload", value: { target: to(model), paths } });
          },
      ),
  },
  {
    weight: 1,
    arbitrary: anyTarget.map(
      (to): Make =>
        (model) =>
          fresh({ $case: "clearPayload", value: { target: to(model) } }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record({ upsertion, conditions, sparseColumn }).map(
      (chosen): Make =>
        (model) => {
          const { mutation } = chosen.upsertion;
          if (mutation?.$case !== "upsert") throw new Error("it is an upsert");
          const { ids: keys, vectors } = mutation.value;
          return fresh({
            $case: "updateVectors",
            value: {
              target: targetOf(model, keys, chosen.conditions),
              vectors,
              sparse: sparseOfRows(chosen.sparseColumn, keys),
            },
          });
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.record({ to: anyTarget, fields: fc.constantFrom("", "a", "b", "ab", "s", "sa") }).map(
      (chosen): Make =>
        (model) => {
          return fresh({ $case: "deleteVectors", value: { target: chosen.to(model), fields: [...chosen.fields] } });
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.record({ to: anyTarget, expiresAtMs: fc.constantFrom(0, expirySoonMs, expiryLateMs) }).map(
      ({ to, expiresAtMs }): Make =>
        (model) => {
          return fresh({ $case: "setExpiry", value: { target: to(model), expiresAtMs } });
        },
    ),
  },
  { weight: 1, arbitrary: fc.constant((): ipb.Operation => fresh({ $case: "truncate", value: {} })) },
);
type Command =
  | { kind: "record"; operations: Make[] }
  | { kind: "retry"; which: number }
  | { kind: "burst"; records: Make[][] }
  | { kind: "checkpoint" | "rebuild" | "restart" | "drop" | "expire" };
const record = fc.array(operation, { minLength: 1, maxLength: 3 });
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: record.map((operations): Command => ({ kind: "record", operations })) },
  { weight: 2, arbitrary: fc.nat().map((which): Command => ({ kind: "retry", which })) },
  {
    weight: 2,
    arbitrary: fc.array(record, { minLength: 2, maxLength: 5 }).map((records): Command => ({ kind: "burst", records })),
  },
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(
        "checkpoint" as const,
        "rebuild" as const,
        "restart" as const,
        "drop" as const,
        "expire" as const,
        "expire" as const,
      )
      .map((kind): Command => ({ kind })),
  },
);

async function compare(replica: Replica, model: Model): Promise<void> {
  const at = model.sequence;
  const expected = model.sorted();
  const { points, end } = await replica.read(
    "scroll",
    { after: undefined, limit: 100, select: everything, minSequence: at },
    call,
  );
  expect(end).toBe(true);
  expect(
    points.map((point) => ({ ...point, id: idMapKey(point.id), payload: Buffer.from(point.payload).toString() })),
  ).toEqual(
    expected.map(({ id, version, payload, vectors, sparse: stored, expiresAtMs }) => {
      const own = new Map([...vectors].map(([name, { value }]) => [name, value]));
      const ownSparse = new Map([...stored].map(([name, { value }]) => [name, sparseFromBytes(value)]));
      const point = {
        ...{ id: idMapKey(id), version, payload: payload.value, vectors: own },
        ...(ownSparse.size > 0 && { sparse: ownSparse }),
      };
      return expiresAtMs === 0 ? point : { ...point, expiresAtMs };
    }),
  );
  expect((await replica.read("count", { minSequence: at }, call)).count).toBe(expected.length);
  for (const [name, x, y, k] of [
    ["a", 0, 0, 3],
    ["b", 5, -3, 20],
  ] as const) {
    const vector = Float32Array.of(x, y);
    const select = { payload: true, vectors: [] };
    const result = await replica.read(
      "query",
      { field: name, vector, k, ef: 64, exact: true, select, minSequence: at },
      call,
    );
    const found = result.hits.map(({ id, version, payload, score }) => ({
      id: idMapKey(id),
      version,
      payload: Buffer.from(payload).toString(),
      score,
    }));
    const nearest = model.nearest(name, vector, k);
    expect(found.length).toBe(nearest.length);
    // Which of several equally far points make it to the last places is the index's choice.
    const last = found[found.length - 1]?.score;
    const inside = found.filter(({ score }) => found.length < k || score !== last).length;
    const ids = ({ id, version, payload }: (typeof nearest)[number]): object => ({ id, version, payload });
    expect(found.slice(0, inside).map(ids)).toEqual(nearest.slice(0, inside));
  }
  const query = sparseOf([0, 2, 3], [1, 2, -1], () => "");
  const scope = { filter: undefined, ids: undefined, exclude: [], minSequence: at };
  const asked = { ...scope, field: "s", vector: query, k: 20, select: { payload: false, vectors: [] } };
  const { hits } = await replica.read("sparse", asked, call);
  expect(hits.map(({ id, version, score }) => ({ id: idMapKey(id), version, score }))).toEqual(
    model.common("s", query),
  );
  const examples = [[0, 1], [2, 3], [1]].map((indices) => {
    const values = indices.map((index) => 2 - index);
    return sparseOf(indices, values, () => "");
  }) as [SparseVector, SparseVector, SparseVector];
  const [one, two, three] = examples;
  const pairs = [{ positive: one, negative: two }];
  const scorers = [
    { kind: "bestScore", positive: [one, three], negative: [two] },
    { kind: "sumScores", positive: [one], negative: [two, three] },
    { kind: "discover", target: three, pairs },
    { kind: "context", pairs },
    { kind: "weighted", examples: [one, two].map((example, i) => ({ vector: example, weight: 0.5 - i })) },
  ] as const;
  const scorer = scorers[at % scorers.length] as (typeof scorers)[number];
  const scored = await replica.read("sparse", { ...asked, scorer }, call);
  expect(scored.hits.map(({ id, version, score }) => ({ id: idMapKey(id), version, score }))).toEqual(
    model.scored("s", scorer),
  );
  const { pointCount, counts } = await replica.read("indices", { field: "s", indices: [0, 9], minSequence: at }, call);
  const withField = expected.filter(({ sparse: own }) => own.has("s"));
  expect(pointCount).toBe(withField.length);
  expect(counts).toEqual([
    model.common(
      "s",
      sparseOf([0], [1], () => ""),
    ).length,
    0,
  ]);
  expect(replica.appliedSequence).toBe(at);
  for (const text of ["n > 0", "not exists(n)", 'has_vector("a")', 'has_vector("s")']) {
    const filter = parseFilter(text);
    const { count } = await replica.read("count", { filter, minSequence: at }, call);
    expect(count).toBe(model.matching(filter).length);
  }
  expect(replica.status()).toMatchObject({ digest: model.digest(), pointCount: expected.length });
}

describe.each(factories)("random histories on the %s", (_, indexes) => {
  test("end in what the model says, whatever restarts, checkpoints and rebuilds come between", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 14 }), async (commands) => {
        const collection = { ...collectionOf(field("a", 2), field("b", 2)), sparseFields: [{ name: "s" }] };
        const world = await World.make({ collection, indexes });
        try {
          const model = new Model();
          const sent: ipb.Operation[][] = [];
          // Closing writes no checkpoint: the next start finds the last one, however old.
          const open = async (): Promise<Replica> =>
            active(await world.open({ tuning: { checkpointRowsOnClose: Number.POSITIVE_INFINITY } }));
          let replica = await open();
          let nowMs = 1_000_000;
          const send = async (operations: ipb.Operation[]): Promise<void> => {
            sent.push(operations);
            const appendedAtMs = nowMs++;
            model.apply(operations, appendedAtMs);
            await world.append(operations, { appendedAtMs });
          };
          for (const each of commands) {
            if (each.kind === "record") await send(each.operations.map((make) => make(model)));
            if (each.kind === "retry" && sent.length > 0) await send(sent[each.which % sent.length] as ipb.Operation[]);
            if (each.kind === "burst") {
              // Records that come while the replica is away are applied together.
              await replica.close();
              for (const operations of each.records) await send(operations.map((make) => make(model)));
              replica = await open();
            }
            // For the records that follow; no node's clock is so far.
            if (each.kind === "expire") nowMs = Math.max(nowMs, expirySoonMs);
            if (each.kind === "checkpoint") await replica.checkpoint();
            if (each.kind === "rebuild") await replica.rebuildIndexes();
            if (each.kind === "restart" || each.kind === "drop") {
              if (each.kind === "restart") await replica.checkpoint();
              await replica.close();
              replica = await open();
            }
          }
          await compare(replica, model);
          for (const [id, { affected, failures }] of model.done) {
            const outcome = await replica.wait(model.sequence, [Buffer.from(id, "latin1")], call);
            expect(outcome).toMatchObject([{ affected, failures }]);
          }
          await replica.close();
          replica = await open();
          await compare(replica, model);
          const other = await active(await world.open({ name: "b" }));
          await compare(other, model);
          expect(other.status().digest).toBe(replica.status().digest);
          expect(world.alarms).toEqual([]);
        } finally {
          await world.end();
        }
      }),
      { seed: 20261121, numRuns: 60, endOnFailure: true },
    );
  });
});
