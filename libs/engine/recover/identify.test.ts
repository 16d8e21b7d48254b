import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PointStore } from "../../storage/index.js";
import { active, call, upsert, World } from "../testing/harness.fixture.js";

let world: World;
beforeEach(async () => {
  world = await World.make();
  const replica = await active(await world.open());
  await replica.wait(await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0] }])]), [], call);
  await replica.close();
});
afterEach(() => world.end());

/** Changes what the closed replica's store has under a meta name. */
async function change(name: string, edit: (value: Record<string, unknown>) => unknown): Promise<void> {
  const store = await PointStore.open(join(world.replicaDirectory(), "db"));
  const body = (await store.getMeta(name)) as Uint8Array;
  const batch = store.batch();
  batch.putMeta(
    name,
    Buffer.from(JSON.stringify(edit(JSON.parse(Buffer.from(body).toString()) as Record<string, unknown>))),
  );
  await store.write(batch);
  await store.close();
}

test("a store of a newer release is refused, with the release that reads it, and nothing of it is touched", async () => {
  await change("identity", (identity) => ({ ...identity, format: 7, release: "0.9.0" }));
  const refusal = {
    code: "FAILED_PRECONDITION",
    message: `the store in ${join(world.replicaDirectory(), "db")} was written by a newer release (format 7); this release reads up to 2: start release 0.9.0 or a later one`,
  };
  await expect(world.open()).rejects.toMatchObject(refusal);
  await change("identity", ({ release: _, ...identity }) => identity);
  await expect(world.open()).rejects.toMatchObject({
    message: expect.stringMatching(/reads up to 2: start the release that wrote it or a later one$/) as string,
  });
  await change("identity", (identity) => ({ ...identity, format: 2 }));
  const replica = await active(await world.open());
  expect(replica.status()).toMatchObject({ pointCount: 1, digestFormat: 2 });
  expect(world.alarms).toEqual([]);
});

test("a store with a field of a kind that a newer release has brought is refused", async () => {
  await change("schema", (schema) => {
    const fields = schema["fields"] as object[];
    return { ...schema, fields: [...fields, { ...fields[0], name: "words", kind: "text", number: 1 }] };
  });
  await expect(world.open()).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
    message: expect.stringMatching(
      /has the field "words" of the kind text, which this release does not know/,
    ) as string,
  });
});
