import { readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { call, collectionOf, factories, field, upsert, World } from "../testing/harness.fixture.js";

let world: World;
afterEach(() => world.end());

test.each(factories)("checkpoints that the first version wrote are found, on the %s", async (_, indexes) => {
  world = await World.make({ collection: collectionOf(field(), field("other", 3)), indexes });
  const first = await world.open();
  const items = [1, 2, 3].map((id) => ({ id, vectors: { "": [id, 0, 0, 0], other: [id, 1, 1] } }));
  await first.wait(await world.append([upsert(items)]), [], call);
  await first.close();
  const directory = world.replicaDirectory();
  for (const key of ["0", "1"]) await rename(join(directory, `index-dense-${key}`), join(directory, `index-${key}`));
  let builds = 0;
  const counted = {
    ...indexes,
    create: (options: Parameters<typeof indexes.create>[0]) => {
      builds++;
      return indexes.create(options);
    },
  };
  const again = await world.open({ indexes: counted });
  expect(again.status().indexedVectorCount).toBe(6);
  expect(builds).toBe(0);
  expect((await readdir(directory)).sort()).toEqual(["db", "index-dense-0", "index-dense-1", "log-incarnation"]);
  expect(world.alarms).toEqual([]);
});
