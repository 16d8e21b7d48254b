/** What happens where the system has nothing left to give: threads, address space, files. Each in a process of its own. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { createIndex } from "./index.js";
import { startChild, transpileLibrary } from "./testing/child.js";
import { clustered, range } from "./testing/data.js";

const library = transpileLibrary();
const parent = mkdtempSync(join(tmpdir(), "kith-exhaustion-"));
afterAll(() => {
  library.remove();
  rmSync(parent, { recursive: true, force: true });
});

const isLinux = process.platform === "linux";

/** Helpers of the scripts below. */
const prelude = `${library.importLine}
  import { execFileSync } from "node:child_process";
  import { closeSync, openSync, readFileSync } from "node:fs";
  const slots = (from, to) => Uint32Array.from({ length: to - from }, (_, i) => from + i);
  const rows = (from, to, dimension) => Float32Array.from({ length: (to - from) * dimension },
    (_, i) => Math.sin((from * dimension + i) * 12.9898) * 43758.5453 % 1);
  const setLimit = (name, value) => execFileSync("prlimit", ["--pid", String(process.pid), "--" + name + "=" + value + ":"]);
  const addressSpace = () => Number(/VmSize:\\s+(\\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
  const outcome = (promise) => promise.then(() => "done", (error) => error.code);
  const say = (value) => console.log(JSON.stringify(value));`;

async function linesOf(script: string, limits: string[] = []): Promise<unknown[]> {
  const child = startChild(prelude + script, [], limits);
  const lines: unknown[] = [];
  for (let line = await child.lines.next(); line.done !== true; line = await child.lines.next()) {
    lines.push(JSON.parse(line.value));
  }
  expect(await child.exit).toMatchObject({ code: 0, signal: null, errors: "" });
  return lines;
}

test.runIf(isLinux)("without a thread, writes and searches are refused, and go on once there is one", async () => {
  // Threads take stacks of 4 GiB here, and there is address space for none of them.
  const lines = await linesOf(
    `
    const options = { dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 40, graphThreshold: 100 };
    const index = createIndex(options);
    await index.add(slots(0, 50), rows(0, 50, 4));
    setLimit("as", addressSpace() + 3 * 2 ** 30);
    const query = rows(0, 1, 4);
    say(await outcome(index.add(slots(50, 200), rows(50, 200, 4))));
    say(await outcome(index.search(query, { k: 1, ef: 10 })));
    say(await outcome(index.save(${JSON.stringify(join(parent, "none"))}, { sequence: 1 })));
    say(index.stats().rowCount);
    setLimit("as", "unlimited");
    say(await outcome(index.add(slots(50, 200), rows(50, 200, 4))));
    await index.flush();
    say(index.stats().graphRowCount);
    say((await index.search(query, { k: 1, ef: 10 })).slots[0]);
    await index.close();`,
    ["-S -s 4194304"],
  );
  expect(lines).toEqual(["RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", 50, "done", 200, 0]);
});

test.runIf(isLinux)("a writer that had no memory goes on once there is some, asked to or not", async () => {
  const lines = await linesOf(`
    const options = { dimension: 8, metric: "l2", datatype: "f32", m: 8, efConstruction: 40, graphThreshold: 100 };
    // Its threads are there before memory becomes short.
    const other = createIndex(options);
    await other.add(slots(0, 200), rows(0, 200, 8));
    await other.flush();
    const indexes = [createIndex(options), createIndex(options)];
    for (const index of indexes) await index.add(slots(0, 50), rows(0, 50, 8));
    setLimit("as", addressSpace() + 2 ** 20);
    for (const index of indexes) await index.add(slots(50, 200), rows(50, 200, 8));
    say(await outcome(indexes[0].flush()));
    say(indexes.map((index) => index.stats().graphRowCount));
    setLimit("as", "unlimited");
    say(await outcome(indexes[0].flush()));
    for (let i = 0; i < 100 && indexes[1].stats().graphRowCount < 200; i++) await new Promise((done) => setTimeout(done, 100));
    say(indexes.map((index) => index.stats().graphRowCount));
    await Promise.all([other, ...indexes].map((index) => index.close()));`);
  expect(lines).toEqual(["RESOURCE_EXHAUSTED", [0, 0], "done", [200, 200]]);
});

test.runIf(isLinux)("indexes share their writers", async () => {
  const indexes = Array.from({ length: 100 }, () =>
    createIndex({ dimension: 8, metric: "l2", datatype: "f32", m: 8, efConstruction: 40, graphThreshold: 50 }),
  );
  const rows = clustered(1, 500, 8);
  await Promise.all(indexes.map((index) => index.add(range(0, 500), rows)));
  const names = readdirSync("/proc/self/task").map((task) =>
    readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim(),
  );
  expect(names.filter((name) => name === "kith-writer").length).toBeLessThanOrEqual(availableParallelism());
  await Promise.all(indexes.map((index) => index.flush()));
  for (const index of indexes) expect(index.stats().graphRowCount).toBe(500);
  await Promise.all(indexes.map((index) => index.close()));
});

test.runIf(isLinux)(
  "without memory or file handles nothing is loaded or saved, and what is saved stays good",
  async () => {
    const directory = join(parent, "saved");
    const lines = await linesOf(
      `
    const options = { dimension: 64, metric: "l2", datatype: "f32", m: 8, efConstruction: 40, graphThreshold: 100 };
    const directory = ${JSON.stringify(directory)};
    const index = createIndex(options);
    await index.add(slots(0, 2_000), rows(0, 2_000, 64));
    await index.flush();
    await index.save(directory, { sequence: 1 });
    const load = () => outcome(loadIndex(directory, options).then(({ index }) => index.close()));
    const held = [];
    try {
      for (;;) held.push(openSync("/dev/null"));
    } catch (error) {
      say(error.code);
    }
    say(await load());
    say(await outcome(index.save(directory, { sequence: 2 })));
    for (const file of held) closeSync(file);
    setLimit("as", addressSpace() + 2 ** 20);
    say(await load());
    setLimit("as", "unlimited");
    say(await load());
    await index.close();`,
      ["-n 128"],
    );
    expect(lines).toEqual(["EMFILE", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "done"]);
  },
);
