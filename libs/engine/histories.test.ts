import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareIds, idFromName, idFromNum, idFromUuid, idMapKey, type IdKey } from "../model/index.js";
import { pb, type ipb } from "../wire/index.js";
import { distanceOf } from "./testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  everything,
  factories,
  field,
  type Item,
  recomputed,
  remove,
  upsert,
  World,
} from "./testing/harness.fixture.js";
import type { Replica } from "./index.js";

/** Random histories against a model that keeps points in a Map and evaluates records one by one. */

const ids: IdKey[] = [
  ...[0, 1, 2, 3, 4, 5].map((n) => idFromNum(n)),
  idFromNum(0xffff_ffff_ffff_ffffn),
  ...["a", "ab", "ü"].map((name) => idFromName(name)),
  idFromUuid("01234567-89ab-cdef-0123-456789abcdef"),
];

interface ModelPoint {
  id: IdKey;
  version: number;
  payload: string;
  vectors: Map<string, Float32Array>;
}

class Model {
  readonly points = new Map<string, ModelPoint>();
  readonly done = new Map<string, { affected: number; failures: { index: number; code: string }[] }>();
  sequence = 0;

  apply(operations: readonly ipb.Operation[]): void {
    this.sequence++;
    for (const { operationId, mutation } of operations) {
      const key = idMapKey(operationId);
      if (this.done.has(key)) continue;
      const outcome = { affected: 0, failures: [] as { index: number; code: string }[] };
      this.done.set(key, outcome);
      if (mutation?.$case === "delete") {
        for (const id of mutation.value.ids) if (this.points.delete(idMapKey(id))) outcome.affected++;
      }
      if (mutation?.$case !== "upsert") continue;
      const { mode, payloads, vectors } = mutation.value;
      for (const [index, id] of mutation.value.ids.entries()) {
        const exists = this.points.has(idMapKey(id));
        if (mode === pb.UpsertMode.INSERT_ONLY && exists) outcome.failures.push({ index, code: "POINT_EXISTS" });
        else if (mode === pb.UpsertMode.UPDATE_ONLY && !exists)
          outcome.failures.push({ index, code: "POINT_NOT_FOUND" });
        else {
          outcome.affected++;
          const rows = vectors.map(({ name, matrix }): [string, Float32Array] => {
            const bytes = Uint8Array.from(matrix).slice(index * 8, index * 8 + 8);
            return [name, new Float32Array(bytes.buffer)];
          });
          const payload = Buffer.from(payloads[index] ?? []).toString();
          this.points.set(idMapKey(id), { id, version: this.sequence, payload, vectors: new Map(rows) });
        }
      }
    }
  }

  sorted(): ModelPoint[] {
    return [...this.points.values()].sort((a, b) => compareIds(a.id, b.id));
  }

  nearest(name: string, vector: Float32Array, k: number): { id: string; version: number; payload: string }[] {
    const found = this.sorted().flatMap((point) => {
      const own = point.vectors.get(name);
      return own === undefined ? [] : [{ point, distance: Math.fround(distanceOf("l2", vector, own)) }];
    });
    // Sorted by id before, and sorting is stable: ties stay in order of id.
    found.sort((a, b) => a.distance - b.distance);
    return found.slice(0, k).map(({ point: { id, version, payload } }) => ({ id: idMapKey(id), version, payload }));
  }
}

/** Coordinates from a small set of numbers that f32 holds exactly, so that distances are exact and ties happen. */
const coordinate = fc.integer({ min: -8, max: 8 });
const item = fc.record({
  id: fc.constantFrom(...ids),
  a: fc.tuple(coordinate, coordinate),
  b: fc.tuple(coordinate, coordinate),
  payload: fc.option(fc.record({ n: fc.integer() }), { nil: undefined }),
});
const operation = fc.oneof(
  fc
    .record({
      items: fc.uniqueArray(item, { maxLength: 6, selector: (each) => idMapKey(each.id) }),
      mode: fc.constantFrom(pb.UpsertMode.UNSPECIFIED, pb.UpsertMode.INSERT_ONLY, pb.UpsertMode.UPDATE_ONLY),
      fields: fc.constantFrom("", "a", "b", "ab"),
    })
    .map(({ items, mode, fields }) => (): ipb.Operation => {
      const chosen = items.map(({ id, a, b, payload }): Item => {
        const vectors = { ...(fields.includes("a") && { a }), ...(fields.includes("b") && { b }) };
        return { id, vectors, payload };
      });
      return upsert(chosen, { mode });
    }),
  fc.uniqueArray(fc.constantFrom(...ids), { maxLength: 3 }).map((chosen) => (): ipb.Operation => remove(chosen)),
);
type Command =
  | { kind: "record"; operations: (() => ipb.Operation)[] }
  | { kind: "retry"; which: number }
  | { kind: "burst"; records: (() => ipb.Operation)[][] }
  | { kind: "checkpoint" | "rebuild" | "restart" | "drop" };
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
      .constantFrom("checkpoint" as const, "rebuild" as const, "restart" as const, "drop" as const)
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
  ).toEqual(expected.map((point) => ({ ...point, id: idMapKey(point.id) })));
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
  expect(replica.appliedSequence).toBe(at);
  expect(await recomputed(replica)).toEqual({ digest: replica.status().digest, pointCount: expected.length });
}

describe.each(factories)("random histories on the %s", (_, indexes) => {
  test("end in what the model says, whatever restarts, checkpoints and rebuilds come between", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 14 }), async (commands) => {
        const world = await World.make({ collection: collectionOf(field("a", 2), field("b", 2)), indexes });
        try {
          const model = new Model();
          const sent: ipb.Operation[][] = [];
          // Closing writes no checkpoint: the next start finds the last one, however old.
          const open = async (): Promise<Replica> =>
            active(await world.open({ tuning: { checkpointRowsOnClose: Number.POSITIVE_INFINITY } }));
          let replica = await open();
          const send = async (operations: ipb.Operation[]): Promise<void> => {
            sent.push(operations);
            model.apply(operations);
            await world.append(operations);
          };
          for (const each of commands) {
            if (each.kind === "record") await send(each.operations.map((make) => make()));
            if (each.kind === "retry" && sent.length > 0) await send(sent[each.which % sent.length] as ipb.Operation[]);
            if (each.kind === "burst") {
              // Records that come while the replica is away are applied together.
              await replica.close();
              for (const operations of each.records) await send(operations.map((make) => make()));
              replica = await open();
            }
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
      { seed: 20261121, numRuns: 25, endOnFailure: true },
    );
  });
});
