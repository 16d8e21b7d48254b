import { describe, expect, test } from "vitest";
import { type Collection, changedCollection, type VectorField } from "./collection.js";
import { keepsOriginals } from "./datatype.js";
import { analyzerDefaults } from "./bm25.js";
import type { PayloadIndexRecord } from "./payload-index.js";
import { withoutOtherText, withoutTextGenerations, withTextBuilding, withTextSwitched } from "./text-generation.js";
import {
  judgeGeneration,
  textOfRefusal,
  withBuilding,
  withoutGenerations,
  withoutOther,
  withSwitched,
} from "./generation.js";

const field: VectorField = {
  ...{ name: "", dimension: 4, metric: "cosine", datatype: "f32", m: 16, efConstruction: 128, efSearch: 64 },
};
const i8 = { datatype: "i8", m: 8, efConstruction: 64, originals: true } as const;

describe("the generations of a field", () => {
  test("one is built beside the one that answers, takes its place, and gives it back", () => {
    const building = withBuilding(field, i8);
    expect(building).toMatchObject({ datatype: "f32", other: { number: 1, state: "building", ...i8 } });
    const switched = withSwitched(building, 1);
    expect(switched).toMatchObject({ ...i8, generation: 1, other: { number: 0, datatype: "f32", state: "kept" } });
    const back = withSwitched(switched, 0);
    expect(back).toMatchObject({ datatype: "f32", m: 16, generation: 0, other: { number: 1, ...i8, state: "kept" } });
    expect(back).not.toHaveProperty("originals");
    expect(withoutGenerations(back)).toEqual(field);
  });

  test("numbers are never used again, and one that is kept gives way", () => {
    const dropped = withoutOther(withBuilding(field, i8), 1);
    const second = withBuilding(dropped, i8);
    expect(second.other?.number).toBe(2);
    const third = withBuilding(withSwitched(second, 2), { ...i8, datatype: "f16" });
    expect(third).toMatchObject({ generation: 2, other: { number: 3, datatype: "f16", state: "building" } });
  });

  test("what does not fit is refused", () => {
    const building = withBuilding(field, i8);
    const refusal = expect.objectContaining({ code: "FAILED_PRECONDITION" }) as Error;
    expect(() => withBuilding(building, i8)).toThrow(refusal);
    expect(() => withSwitched(field, 1)).toThrow(refusal);
    expect(() => withSwitched(building, 0)).toThrow(refusal);
    expect(() => withoutOther(building, 2)).toThrow(refusal);
  });

  test("a collection keeps the fields that it was made with, and a plan for as long as it is one", () => {
    const collection = { name: "c", fields: [field], payloadIndexes: [], schemaVersion: 1 } as unknown as Collection;
    const begun = changedCollection(collection, {
      ...{ kind: "beginGeneration", name: "", build: i8, plan: { minRecall: 0.9 }, version: 2 },
    });
    expect(begun.initialFields).toEqual([field]);
    expect(begun.fields[0]?.plan).toEqual({ minRecall: 0.9 });
    const switched = changedCollection(begun, { kind: "switchGeneration", name: "", generation: 1, version: 3 });
    expect(switched.fields[0]).toMatchObject({ datatype: "i8", generation: 1 });
    expect(switched.fields[0]).not.toHaveProperty("plan");
    expect(switched.initialFields).toEqual([field]);
    const binary = { ...i8, datatype: "binary" } as const;
    const change = { kind: "beginGeneration", name: "", build: binary, plan: {}, version: 2 } as const;
    const l2 = { ...collection, fields: [{ ...field, metric: "l2" as const }] };
    expect(() => changedCollection(l2, change)).toThrow(/cosine alone/);
  });
});

test("a generation is judged by what all replicas say, each by its queries", () => {
  const said = (recall: number, baseline: number, samples: number) => ({
    ...{ isReady: true, recall: { recall, baseline, samples } },
  });
  expect(judgeGeneration([said(0.98, 0.99, 200), { isReady: false }])).toEqual({ kind: "building" });
  expect(judgeGeneration([said(0.98, 0.99, 200), { isReady: true }])).toEqual({ kind: "building" });
  expect(judgeGeneration([said(0.98, 0.99, 200), said(0.9, 0.99, 0)]).kind).toBe("ready");
  const refused = judgeGeneration([said(0.98, 0.99, 100), said(0.94, 0.99, 300)]);
  expect(refused).toMatchObject({ kind: "refused", refusal: { samples: 400 } });
  if (refused.kind === "refused") {
    expect(refused.refusal.recall).toBeCloseTo(0.95, 10);
    expect(refused.refusal.wanted).toBeCloseTo(0.97, 10);
  }
  expect(judgeGeneration([said(0.95, 0.99, 200)], { minRecall: 0.95 }).kind).toBe("ready");
  expect(judgeGeneration([said(0.95, 0.5, 200)], { minRecall: 0.96 }).kind).toBe("refused");
  // Nothing to miss.
  expect(judgeGeneration([said(1, 1, 0)]).kind).toBe("ready");
});

test("i4 and binary keep vectors as they were written, f32 need not", () => {
  expect([
    keepsOriginals({ datatype: "binary" }),
    keepsOriginals({ datatype: "i4" }),
    keepsOriginals({ datatype: "i8" }),
    keepsOriginals({ datatype: "i8", originals: true }),
    keepsOriginals({ datatype: "f32", originals: true }),
  ]).toEqual([true, true, false, true, false]);
});

test("a refusal says what would have better numbers", () => {
  const numbers = { recall: 0.9715, wanted: 0.98, samples: 200 };
  const said = "its recall@10 is 0.9715, measured with 200 queries; it must be 0.9800; ";
  expect(textOfRefusal(numbers, { datatype: "i8" })).toBe(
    `${said}results of i8 are in the order of its codes: build one with originals, which orders them by the vectors as they were written, or promote it with force`,
  );
  for (const build of [i8, { datatype: "i4" }, { datatype: "f32" }] as const) {
    expect(textOfRefusal(numbers, build)).toBe(
      `${said}build one with more links (m) or a wider beam (ef_construction), or promote it with force`,
    );
  }
});

describe("the generations of an index by BM25", () => {
  const analyzer = analyzerDefaults;
  const bm25 = { k1: 1.2, fields: [{ path: "body", weight: 1, b: 0.75 }], analyzer };
  const other = { ...bm25, k1: 2 };
  const index: PayloadIndexRecord = { path: "body", kind: "bm25", isTenant: false, isPrincipal: false, bm25 };

  test("one is built beside the one that answers, takes its place, and gives it back", () => {
    const building = { ...withTextBuilding(index, other), isManual: true };
    expect(building).toMatchObject({ bm25, otherText: { number: 1, state: "building", bm25: other } });
    const switched = withTextSwitched(building, 1);
    expect(switched).toMatchObject({ bm25: other, generation: 1, otherText: { number: 0, state: "kept", bm25 } });
    expect(switched).not.toHaveProperty("isManual");
    const back = withTextSwitched(switched, 0);
    expect(withTextBuilding(back, other)).toMatchObject({ generation: 0, otherText: { number: 2 } });
    expect(withoutTextGenerations(back)).toEqual(index);
    expect(withTextBuilding(withoutOtherText(back, 1), bm25)).toMatchObject({ otherText: { number: 2 } });
  });

  test("what does not fit is refused", () => {
    const building = withTextBuilding(index, other);
    const refusal = expect.objectContaining({ code: "FAILED_PRECONDITION" }) as Error;
    expect(() => withTextBuilding(building, bm25)).toThrow(refusal);
    expect(() => withTextSwitched(index, 1)).toThrow(refusal);
    expect(() => withoutOtherText(building, 2)).toThrow(refusal);
    const keyword: PayloadIndexRecord = { path: "n", kind: "keyword", isTenant: false, isPrincipal: false };
    expect(() => withTextBuilding(keyword, bm25)).toThrow(expect.objectContaining({ code: "INVALID_SCHEMA" }) as Error);
  });
});
