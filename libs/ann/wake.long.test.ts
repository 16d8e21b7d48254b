/**
 * A search thread that is held up between its search and its report must not leave the result lying: with more search
 * threads than cores and other programs on them, one search in about ten thousand never came back.
 */
import { spawn } from "node:child_process";
import { expect, test } from "vitest";
import { configurePool, createIndex } from "./index.js";
import { clustered, range, rowOf } from "./testing/data.js";

const seconds = 20;
const dimension = 16;
const rowCount = 500;

test(`no search of small bursts is forgotten in ${seconds} s on a busy machine`, {
  timeout: (seconds + 30) * 1_000,
}, async () => {
  configurePool({ threads: 4 });
  // They end by themselves, should this process be killed before it can end them.
  const spin = `const end = Date.now() + ${(seconds + 30) * 1_000}; while (Date.now() < end);`;
  const busy = [0, 1].map(() => spawn(process.execPath, ["-e", spin]));
  const index = createIndex({ dimension, metric: "l2", datatype: "f32", m: 16, efConstruction: 64, graphThreshold: 0 });
  try {
    const rows = clustered(1, rowCount, dimension);
    await index.add(range(0, rowCount), rows);
    await index.flush();
    const endMs = performance.now() + seconds * 1_000;
    for (let round = 0; performance.now() < endMs; round++) {
      // Nothing else is in flight: a forgotten result is not swept along by a later one, and the test times out.
      const results = await Promise.all(
        Array.from({ length: 2 + (round % 4) }, (_, i) =>
          index.search(rowOf(rows, dimension, (round + i) % rowCount), { k: 1, ef: 16 }),
        ),
      );
      for (const [i, { slots }] of results.entries()) expect(slots[0]).toBe((round + i) % rowCount);
    }
  } finally {
    for (const each of busy) each.kill("SIGKILL");
    await index.close();
  }
});
