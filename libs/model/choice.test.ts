import { expect, test } from "vitest";
import { type BuildTrial, chooseBuild } from "./choice.js";

const trial = (datatype: BuildTrial["datatype"], vectorBytes: number, searchUs: number, recall = 0.96): BuildTrial => ({
  ...{ datatype, vectorBytes, searchUs, recall },
  ef: 48,
  canHold: recall >= 0.95,
});

test("the least memory that reaches the recall, unless it is much slower", () => {
  const f32 = trial("f32", 660, 100);
  const i8 = trial("i8", 280, 80);
  const i4 = trial("i4", 220, 90);
  expect(chooseBuild(0.95, [[f32, i8, i4]])).toMatchObject({ datatype: "i4", trials: [f32, i8, i4] });
  const slow = chooseBuild(0.95, [[f32, i8, trial("i4", 220, 200)]]);
  expect(slow.datatype).toBe("i8");
  expect(slow.reason).toBe(
    "the least memory (280 bytes a vector) with recall@10 of 0.9600 at a beam of 48; i4 takes 2.0 times as long as f32",
  );
  const coarse = chooseBuild(0.95, [[f32, i8, trial("i4", 220, 90, 0.9)]]);
  expect(coarse).toMatchObject({ datatype: "i8", reason: expect.stringContaining("i4 comes to 0.9000") as string });
});

test("every shard counts: one that cannot hold it decides", () => {
  const shards = [
    [trial("f32", 660, 100), trial("i8", 280, 80)],
    [trial("f32", 660, 100), trial("i8", 280, 80, 0.9)],
  ];
  expect(chooseBuild(0.95, shards)).toMatchObject({ datatype: "f32", trials: [{ recall: 0.96 }, { recall: 0.9 }] });
});

test("what none reaches is refused, with the best that there is", () => {
  expect(() => chooseBuild(0.95, [[trial("f32", 660, 100, 0.9), trial("i8", 280, 80, 0.8)]])).toThrow(
    /no datatype reaches recall@10 of 0\.95 on this data: f32 comes to 0\.9000/,
  );
});
