/** Settings that are taken by SIGHUP while queries and writes go on: all of a file or nothing of it, without a call that fails. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { dimension, vectorOf } from "../cluster/workload.js";

const keys = ["the-first-key-of-an-administrator-", "the-second-key-of-an-administrator"] as const;
const folder = mkdtempSync(join(tmpdir(), "kith-reload-"));
const [settings, keyFile] = [join(folder, "kith.yaml"), join(folder, "admin.key")];
let key: string = keys[0];
const audit = { file: join(folder, "audit"), maxBytes: 65_536, files: 100, readSample: 1 };

/** YAML has all of JSON. */
function write(more: object): void {
  writeFileSync(settings, JSON.stringify({ auth: { adminKeyFile: keyFile, required: true, audit }, ...more }));
}

const cluster = useCluster(() => {
  write({});
  writeFileSync(keyFile, key);
  const flags = ["--config", settings];
  return startProcesses({ shardNodes: 1, replicas: 1, flags, connect: { apiKey: () => key } });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a file with a setting that takes a restart is refused as a whole, the next one is taken, and no call notices", {
  timeout: 60_000,
}, async () => {
  const admin = await cluster().connect();
  await admin.collection("busy").create({ vectors: { dimension, metric: "l2" } });
  const { secret } = await admin.keys.create("busy", { role: "writer" });
  const client = await eventually(() => cluster().connect({ apiKey: secret }));
  const handle = client.collection("busy");
  const isIn = (apiKey: string): Promise<boolean> =>
    cluster()
      .connect({ apiKey })
      .then(
        () => true,
        ({ code }: { code: string }) => code !== "UNAUTHENTICATED",
      );
  let isOver = false;
  let calls = 0;
  const working = Array.from({ length: 4 }, async (_, worker) => {
    for (let i = 0; !isOver; i++) {
      await handle.upsert({ id: worker * 1_000_000 + i, vector: vectorOf(i, worker) });
      await handle.query({ vector: vectorOf(i, worker), limit: 1 });
      calls += 2;
    }
  });
  const said = async (what: RegExp): Promise<void> => {
    const from = cluster().logOf("router-0").length;
    cluster().signal("router-0", "SIGHUP");
    await eventually(() => expect(cluster().logOf("router-0").slice(from)).toMatch(what));
  };
  for (let round = 1; round <= 4; round++) {
    const other = keys[round % 2] as string;
    write({ slowQueryMs: round, zone: `elsewhere-${round}` });
    writeFileSync(keyFile, other);
    await said(/these take a restart: zone \(others know this node by it\)/);
    expect([await isIn(key), await isIn(other)]).toEqual([true, false]);
    write({ slowQueryMs: round });
    await said(/took new settings: slowQueryMs, auth\.adminKeyFile \(its file\)/);
    expect([await isIn(key), await isIn(other)]).toEqual([false, true]);
    key = other;
    const before = calls;
    await eventually(() => expect(calls).toBeGreaterThan(before + 20));
  }
  // More than one file of the audit log.
  await eventually(() => expect(calls).toBeGreaterThan(600));
  isOver = true;
  await Promise.all(working);
  await cluster().stop("router-0");
  const files = readdirSync(folder).filter((name) => name.startsWith("audit"));
  const kept = files.flatMap((name) => readFileSync(join(folder, name), "utf8").trimEnd().split("\n"));
  const own = kept.map((line) => JSON.parse(line) as { caller: string; outcome: string; call: string });
  const ofWorkers = own.filter(({ caller, call }) => caller.includes('"busy"') && /\/(Upsert|Query)/.test(call));
  expect(ofWorkers.length).toBeGreaterThanOrEqual(calls);
  expect(new Set(ofWorkers.map(({ outcome }) => outcome))).toEqual(new Set(["OK"]));
  expect(files.length).toBeGreaterThan(1);
});
