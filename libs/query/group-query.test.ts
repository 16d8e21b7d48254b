import { expect, test } from "vitest";
import { matches } from "../filter/index.js";
import {
  type Hit,
  idFromNum,
  idMapKey,
  parsePath,
  type Query,
  type QueryTree,
  type StoredPoint,
} from "../model/index.js";
import { groupValues, type QuerySource, runGroups, runMatrix, type VectorSearch } from "./index.js";
import { numberOf, resultOf } from "./testing.js";

interface Row {
  id: number;
  score: number;
  payload: Record<string, unknown>;
}

/** Points with scores of their own, best first; counts what is asked of it. */
class ScoredSource implements QuerySource {
  readonly searches: VectorSearch[] = [];
  readonly collection;

  constructor(readonly rows: readonly Row[]) {
    const field = { name: "", dimension: 1, datatype: "f32", m: 16, efConstruction: 100, efSearch: 64 } as const;
    this.collection = { name: "c", fields: [{ ...field, metric: "dot" as const }] };
  }

  search(search: VectorSearch): Promise<Hit[]> {
    this.searches.push(search);
    const { filter, limit, ids } = search;
    const passing = this.rows.filter(({ id, payload }) => {
      const point = { id: idFromNum(id), payload: payload as never, hasVector: () => true };
      const isNamed = ids?.some((each) => idMapKey(each) === idMapKey(point.id)) ?? true;
      const isLeftOut = search.exclude.some((each) => idMapKey(each) === idMapKey(point.id));
      return isNamed && !isLeftOut && (filter === undefined || matches(filter, point));
    });
    return Promise.resolve(passing.slice(0, limit).map((row) => this.#hit(row)));
  }

  #hit({ id, score, payload }: Row): Hit {
    return { id: idFromNum(id), score, version: 1, payload: Buffer.from(JSON.stringify(payload)) };
  }

  ordered(): Promise<Hit[]> {
    throw new Error("not asked for here");
  }
  page(): Promise<Hit[]> {
    throw new Error("not asked for here");
  }
  sample(_scope: unknown, limit: number): Promise<Hit[]> {
    const drawn = this.rows.slice(0, limit).map((row) => ({
      ...this.#hit(row),
      vectors: new Map([["", Float32Array.of(row.score)]]),
    }));
    return Promise.resolve(drawn.reverse());
  }
  fetch(): Promise<Map<string, StoredPoint>> {
    const points = this.rows.map((row): [string, StoredPoint] => {
      const vectors = new Map([["", Float32Array.of(row.score)]]);
      return [idMapKey(idFromNum(row.id)), { ...this.#hit(row), payload: new Uint8Array(0), vectors }];
    });
    return Promise.resolve(new Map(points));
  }
  examples(): Promise<Float32Array[]> {
    throw new Error("not asked for here");
  }
  formulaInputs(): ReturnType<QuerySource["formulaInputs"]> {
    throw new Error("not asked for here");
  }
  sparse(): Promise<Hit[]> {
    throw new Error("not asked for here");
  }
  sparseExamples(): ReturnType<QuerySource["sparseExamples"]> {
    throw new Error("not asked for here");
  }
  text(): Promise<Hit[]> {
    throw new Error("not asked for here");
  }

  enter(): this {
    return this;
  }
  leave(): void {
    this.searches.length += 0;
  }
  work<T>(_name: string, work: () => T): T {
    return work();
  }

  workInSteps<T>(_name: string, steps: Generator<void, T>): Promise<T> {
    return Promise.resolve(resultOf(steps));
  }
}

const nearest: Query = { kind: "nearest", example: { kind: "vector", vector: Float32Array.of(1) } };
const tree = (more: Partial<QueryTree> = {}): QueryTree => ({
  prefetch: [],
  query: nearest,
  using: "",
  filter: undefined,
  limit: 0,
  scoreThreshold: undefined,
  ef: 0,
  exact: false,
  lookup: undefined,
  offset: 0,
  select: { payload: true, vectors: [] },
  ...more,
});
const path = parsePath("kind");
const plain = (groups: { value: unknown; hits: Hit[] }[]): unknown =>
  groups.map(({ value, hits }) => [value, hits.map(numberOf)]);

test("groups that one look does not fill get their points by a query of their own", async () => {
  // 300 of one kind come before all others.
  const rows = Array.from(
    { length: 400 },
    (_, i): Row => ({
      id: i,
      score: 1_000 - i,
      payload: { kind: i < 300 ? "common" : i % 2 === 0 ? "even" : 7 },
    }),
  );
  const source = new ScoredSource(rows);
  const groups = await runGroups(source, tree(), { path, limit: 3, size: 2 });
  expect(plain(groups)).toEqual([
    ["common", [0, 1]],
    ["even", [300, 302]],
    [7, [301, 303]],
  ]);
});

test("one kind that fills all that a query can give does not hide the others", async () => {
  const rows = Array.from(
    { length: 10_100 },
    (_, i): Row => ({
      id: i,
      score: 20_000 - i,
      payload: { kind: i < 10_050 ? "common" : ["rare", i] },
    }),
  );
  const groups = await runGroups(new ScoredSource(rows), tree(), { path, limit: 3, size: 2 });
  expect(plain(groups)).toEqual([
    ["common", [0, 1]],
    [10_050, [10_050]],
    ["rare", [10_050, 10_051]],
  ]);
});

test("what was asked of each point comes with it, and prefetches give more points for groups", async () => {
  const rows = Array.from({ length: 9 }, (_, id): Row => ({ id, score: 10 - id, payload: { kind: `k${id % 3}` } }));
  const source = new ScoredSource(rows);
  const bare = await runGroups(source, tree({ select: { payload: false, vectors: [] } }), { path, limit: 1, size: 1 });
  expect(bare[0]?.hits[0]?.payload).toHaveLength(0);
  const vectors = await runGroups(source, tree({ select: { payload: false, vectors: "all" } }), {
    path,
    limit: 1,
    size: 1,
  });
  expect(vectors[0]?.hits[0]?.vectors?.get("")).toEqual(Float32Array.of(10));
  source.searches.length = 0;
  await runGroups(source, tree({ prefetch: [tree({ limit: 4 })] }), { path, limit: 2, size: 3 });
  expect(source.searches.map(({ limit }) => limit)).toEqual([12, 10_000]);
});

test("a point is in the groups of its texts and whole numbers, and in none where it has other values too", () => {
  const of = (payload: string): unknown => groupValues(Buffer.from(payload), path);
  expect(of('{"kind":["a","b","a",3]}')).toEqual(["a", "b", 3]);
  for (const other of ["true", "1.5", "1.0", "null", "{}", "[[1]]"]) expect(of(`{"kind":["a",${other}]}`)).toEqual([]);
  expect(of('{"kind":9007199254740993}')).toEqual([9007199254740993n]);
  expect(of("{}")).toEqual([]);
  expect(groupValues(new Uint8Array(0), path)).toEqual([]);
  expect(of('{"kind":"__proto__"}')).toEqual(["__proto__"]);
});

test("a matrix compares each point with the others, by place in order of id", async () => {
  const rows = [5, 3, 9].map((id, i): Row => ({ id, score: 3 - i, payload: {} }));
  const matrix = await runMatrix(new ScoredSource(rows), { using: "", filter: undefined, sample: 10, limit: 1 });
  expect(matrix.ids.map((id) => numberOf({ id }))).toEqual([3, 5, 9]);
  expect(matrix).toMatchObject({ rows: [0, 1, 2], columns: [1, 0, 1], scores: [3, 2, 3] });
  const one = await runMatrix(new ScoredSource(rows.slice(0, 1)), {
    using: "",
    filter: undefined,
    sample: 10,
    limit: 1,
  });
  expect(one.ids).toEqual([]);
});
