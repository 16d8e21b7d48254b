import { expect, test } from "vitest";
import { createIndex } from "./index.js";

test("what was added is found at once, with its distance", async () => {
  const index = createIndex({ dimension: 2, metric: "l2", storage: "f32", m: 16, efConstruction: 64 });
  await index.add(Uint32Array.of(0, 1, 2), Float32Array.of(0, 0, 3, 4, 1, 0));
  const found = await index.search(Float32Array.of(0, 0), { k: 2, ef: 10 });
  expect([...found.slots]).toEqual([0, 2]);
  expect([...found.distances]).toEqual([0, 1]);
  expect(found.plan).toBe("scan");
  await index.close();
});
