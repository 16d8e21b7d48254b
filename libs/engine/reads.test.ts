import { afterEach, beforeEach, expect, test } from "vitest";
import { KithError } from "../base/index.js";
import { idFromNum } from "../model/index.js";
import { call, everything, upsert, World } from "./harness.fixture.js";
import { exactIndexes } from "./exact-index.fixture.js";

let world: World;
beforeEach(async () => {
  world = await World.make({ indexes: exactIndexes });
});
afterEach(() => world.end());

test("reads of points end with their caller", async () => {
  const replica = await world.open();
  const at = await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0], payload: { a: 1 } }])]);
  await replica.count(at, call);
  const signal = AbortSignal.abort(new KithError("DEADLINE_EXCEEDED", "too late"));
  const late = { code: "DEADLINE_EXCEEDED" };
  for (const gone of [
    { ...call, signal },
    { ...call, cancellation: signal },
  ]) {
    await expect(replica.get([idFromNum(1)], everything, at, gone)).rejects.toMatchObject(late);
    await expect(replica.scroll(undefined, 10, everything, at, gone)).rejects.toMatchObject(late);
  }
  expect((await replica.get([idFromNum(1)], everything, at, call)).points).toHaveLength(1);
});
