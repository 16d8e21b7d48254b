import * as fc from "fast-check";
import { expect, test } from "vitest";
import { datetimeMicros, parseFilter } from "../../filter/index.js";
import { compareIds, idFromNum, type OrderBy, type PayloadIndexKind } from "../../model/index.js";
import type { OrderPlace } from "../../shard-api/index.js";
import { schemaChangeToWire } from "../../wire/index.js";
import type { Replica } from "../index.js";
import { exactIndexes } from "../testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  field,
  nothing,
  operationOf,
  remove,
  upsert,
  World,
} from "../testing/harness.fixture.js";

/** Orders by an index against the same orders by payloads, page by page, while points are written. */

type Value = number | string | null | Value[];
type Point = { v?: Value; n: number };

const days = ["2020-01-01T00:00:00Z", "2021-06-30T12:00:00+02:00", "2024-02-29"];
const whole = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: -3, max: 3 }) },
  { arbitrary: fc.integer(), weight: 1 },
);
const valuesOf: Record<string, fc.Arbitrary<Value>> = {
  integer: whole,
  float: fc.oneof(whole, fc.constantFrom(0.5, -0.25, 1e300)),
  datetime: fc.constantFrom(...days),
};

/** Values of the kind, and now and then such as the index does not hold, so that payloads decide. */
function fieldValue(kind: string, isMixed: boolean): fc.Arbitrary<Value | undefined> {
  const own = valuesOf[kind] as fc.Arbitrary<Value>;
  const other: fc.Arbitrary<Value> = isMixed ? fc.constantFrom<Value>("x", days[0] as string, 0.5, 7, [[1], 2]) : own;
  return fc.oneof(
    { weight: 8, arbitrary: own },
    { weight: 2, arbitrary: fc.array(own, { maxLength: 3 }) },
    { weight: 1, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: other },
  );
}

function numbersIn(value: Value | undefined): number[] {
  if (Array.isArray(value)) return value.flatMap(numbersIn);
  if (typeof value === "number") return [value];
  const micros = typeof value === "string" ? datetimeMicros(value) : undefined;
  return micros === undefined ? [] : [Number(micros)];
}

/** What the order should be: by value, then by id. */
function expected(
  points: ReadonlyMap<number, Point>,
  { direction, startFrom }: OrderBy,
  isFiltered: boolean,
): OrderPlace[] {
  const sign = direction === "ascending" ? 1 : -1;
  const places: OrderPlace[] = [];
  for (const [id, { v, n }] of points) {
    if (isFiltered && n % 2 !== 0) continue;
    for (const value of new Set(numbersIn(v).map((number) => number + 0))) {
      if (startFrom === undefined || sign * value >= sign * startFrom) places.push({ id: idFromNum(id), value });
    }
  }
  return places.sort((a, b) => sign * (a.value - b.value) || compareIds(a.id, b.id));
}

const scenario = fc
  .record({ kind: fc.constantFrom("integer", "float", "datetime"), isMixed: fc.boolean() })
  .chain(({ kind, isMixed }) => {
    const write = fc.record({
      id: fc.nat(60),
      v: fieldValue(kind, isMixed),
      n: fc.nat(3),
      isRemoved: fc.integer({ min: 0, max: 5 }).map((chance) => chance === 0),
    });
    return fc.record({
      kind: fc.constant(kind),
      first: fc.array(write, { minLength: 30, maxLength: 80, size: "max" }),
      pages: fc.array(fc.array(write, { maxLength: 4 }), { minLength: 3, maxLength: 12, size: "max" }),
      limit: fc.integer({ min: 1, max: 20 }),
      direction: fc.constantFrom("ascending" as const, "descending" as const),
      startFrom: fc.option(fc.integer({ min: -2, max: 2 }), { nil: undefined }),
      isFiltered: fc.boolean(),
    });
  });

async function order(
  replica: Replica,
  orderBy: OrderBy,
  after: OrderPlace | undefined,
  limit: number,
  isFiltered: boolean,
  sequence: number,
): Promise<{ places: OrderPlace[]; plan: string | undefined }> {
  const filter = isFiltered ? parseFilter("n = 0 or n = 2") : undefined;
  const scope = { filter, ids: undefined, exclude: [], minSequence: sequence, explain: true };
  const { hits, explain } = await replica.read("order", { ...scope, orderBy, after, limit, select: nothing }, call);
  return {
    places: hits.map(({ id, order: value }) => ({ id: Uint8Array.from(id), value: value ?? NaN })),
    plan: explain?.plan,
  };
}

test("pages by an index are those by payloads, with ties, arrays, filters, starts and writes in between", async () => {
  let indexed = 0;
  let unindexed = 0;
  await fc.assert(
    fc.asyncProperty(scenario, async ({ kind, first, pages, limit, direction, startFrom, isFiltered }) => {
      const world = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
      try {
        const replica = await active(await world.open());
        const points = new Map<number, Point>();
        const index = { path: "v", kind: kind as PayloadIndexKind, isTenant: false, isPrincipal: false };
        const change = schemaChangeToWire({ version: 2, kind: "addPayloadIndex", index });
        await world.append([operationOf({ $case: "changeSchema", value: change })]);
        const write = (writes: typeof first): Promise<number> =>
          world.append(
            writes.map(({ id, v, n, isRemoved }) => {
              if (isRemoved) {
                points.delete(id);
                return remove([id]);
              }
              const payload: Point = { n, ...(v !== undefined && { v }) };
              points.set(id, payload);
              return upsert([{ id, vector: [id, 0, 0, 0], payload }]);
            }),
          );
        let sequence = await write(first);
        await replica.wait(sequence, [], call);
        await eventually("the index", () => replica.status().payloadIndexes[0]?.isReady);
        // The scale of datetimes is another one.
        const from =
          kind === "datetime" && startFrom !== undefined ? Number(datetimeMicros(days[1] as string)) : startFrom;
        const orderBy: OrderBy = { key: "v", direction, startFrom: from };
        let after: OrderPlace | undefined;
        for (const writes of pages) {
          const all = expected(points, orderBy, isFiltered);
          const sign = direction === "ascending" ? 1 : -1;
          const at = after;
          const rest =
            at === undefined
              ? all
              : all.filter(({ id, value }) =>
                  value === at.value ? compareIds(id, at.id) > 0 : sign * value > sign * at.value,
                );
          const { places, plan } = await order(replica, orderBy, after, limit, isFiltered, sequence);
          const plain = (list: OrderPlace[]): [string, number][] =>
            list.map(({ id, value }) => [Buffer.from(id).toString("hex"), value + 0]);
          expect(plain(places)).toEqual(plain(rest.slice(0, limit)));
          if (plan === "order index") indexed++;
          else unindexed++;
          after = places.at(-1) ?? after;
          if (writes.length > 0) sequence = await write(writes);
        }
      } finally {
        await world.end();
      }
    }),
    { numRuns: 30 },
  );
  // How often is a matter of chance.
  expect(indexed).toBeGreaterThan(20);
  expect(unindexed).toBeGreaterThan(0);
}, 120_000);

test("among thousands of equal values an index gives those that come next by id", async () => {
  const world = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
  try {
    const replica = await active(await world.open());
    const index = { path: "v", kind: "integer" as const, isTenant: false, isPrincipal: false };
    await world.append([
      operationOf({ $case: "changeSchema", value: schemaChangeToWire({ version: 2, kind: "addPayloadIndex", index }) }),
    ]);
    const ids = Array.from({ length: 9_000 }, (_, i) => (i * 7_919) % 9_000);
    const sequence = await world.append([upsert(ids.map((id) => ({ id, vector: [id, 0, 0, 0], payload: { v: 5 } })))]);
    await replica.wait(sequence, [], call);
    await eventually("the index", () => replica.status().payloadIndexes[0]?.isReady);
    const orderBy: OrderBy = { key: "v", direction: "descending" };
    const { places, plan } = await order(replica, orderBy, { value: 5, id: idFromNum(99) }, 50, false, sequence);
    expect(plan).toBe("order index");
    expect(places.map(({ id }) => Number(Buffer.from(id).readBigUInt64BE(1)))).toEqual(
      Array.from({ length: 50 }, (_, i) => 100 + i),
    );
  } finally {
    await world.end();
  }
});
