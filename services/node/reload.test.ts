/** Settings that a node takes while it runs: all or none, with a line of the log. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, ManualClock } from "../../libs/base/testing.js";
import { connect } from "../../libs/client/index.js";
import { loadNodeConfig, type NodeConfig } from "../../libs/config/index.js";
import { createLogger, type Logger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "./index.js";
import { type Reloadable, Reloader } from "./reload.js";

const keys = ["the-first-key-of-an-administrator-", "the-second-key-of-an-administrator"];
let folder: string;
let file: string;
let logged: string[];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-reload-"));
  file = join(folder, "kith.yaml");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const flags = (): object => ({
  ...{ nodeId: "n", roles: ["router", "shard", "coordinator"], data: join(folder, "data") },
  ...{ listen: { port: 0 }, drainTimeoutMs: 100, auth: { adminKeyFile: join(folder, "key") } },
});
const readConfig = (): NodeConfig => loadNodeConfig({ file, flags: flags() });
const loggerOf = (level: () => NodeConfig["logLevel"]): Logger => {
  logged = [];
  return createLogger({ level, nodeId: "n", write: (line) => logged.push(line) });
};

test("a node takes a level and a key that have changed, and nothing where one setting takes a restart", async () => {
  await writeFile(file, "logLevel: info\n");
  await writeFile(join(folder, "key"), keys[0] ?? "");
  const node: RunningNode = await startNode(readConfig(), {
    version: "test",
    readConfig,
    logger: (_, level) => loggerOf(level),
  });
  const list = (apiKey: string | undefined): Promise<string> =>
    connect(node.address, { apiKey: apiKey ?? "" })
      .then((client) => client.collections.list().finally(() => client.close()))
      .then(
        () => "in",
        ({ code }: { code: string }) => code,
      );
  try {
    expect([await list(keys[0]), await list(keys[1])]).toEqual(["in", "UNAUTHENTICATED"]);
    await writeFile(join(folder, "key"), keys[1] ?? "");
    await node.reload();
    expect(logged.at(-1)).toContain("took new settings: auth.adminKeyFile (its file)");
    expect([await list(keys[0]), await list(keys[1])]).toEqual(["UNAUTHENTICATED", "in"]);

    await writeFile(file, "logLevel: error\nzone: elsewhere\n");
    await writeFile(join(folder, "key"), keys[0] ?? "");
    await node.reload();
    expect(logged.at(-1)).toContain("these take a restart: zone (others know this node by it)");
    expect(await list(keys[1])).toBe("in");

    await writeFile(file, "logLevel: warn\nslowQueryMs: 7\nauth:\n  keysStaleMs: 5\n");
    await node.reload();
    expect(await list(keys[0])).toBe("in");
    // The line that says so was not worth the new level.
    expect(logged.at(-1)).not.toContain("took new settings");
    await writeFile(file, "logLevel: [\n");
    await node.reload();
    expect(logged.at(-1)).toContain("those of before go on");
    expect(logged.at(-1)).not.toContain(keys[0]);
  } finally {
    await node.close();
  }
});

test("files are looked at without being asked; all parts take them, or none does, and a fault is told once", async () => {
  const clock = new ManualClock();
  const base = { nodeId: "n", roles: ["router"], log: { kind: "jetstream", url: "nats://127.0.0.1" } };
  let fresh: object = {};
  const taken: string[] = [];
  let isBroken = false;
  const part = (name: string, breaks: () => boolean): Reloadable => ({
    prepare: async ({ logLevel }) => {
      if (breaks()) throw new Error(`${name} cannot be read`);
      return () => {
        taken.push(`${name} ${logLevel}`);
        return [];
      };
    },
  });
  const reloader = new Reloader({
    config: loadNodeConfig({ flags: base }),
    readConfig: () => loadNodeConfig({ flags: { ...base, ...fresh } }),
    parts: [part("a", () => false), part("b", () => isBroken)],
    clock,
    logger: loggerOf(() => "info"),
  });
  const end = reloader.follow();
  fresh = { logLevel: "debug" };
  isBroken = true;
  for (let look = 0; look < 3; look++) await clock.advance(10_000);
  await eventually(() => logged.length > 0);
  expect(taken).toEqual([]);
  expect(reloader.current.logLevel).toBe("info");
  expect(logged.filter((line) => line.includes("b cannot be read"))).toHaveLength(1);
  isBroken = false;
  await clock.advance(10_000);
  await eventually(() => taken.length === 2);
  expect(taken).toEqual(["a debug", "b debug"]);
  expect(logged.at(-1)).toContain("took new settings: logLevel");
  await end();
});

test.each([
  [{ auth: { audit: { file: "/tmp/audit" } } }, "auth.audit.file (the file is opened at the start)"],
  [{ http: { port: 1 } }, "http.port (ports are opened at the start)"],
  [{ searchThreads: 3 }, "searchThreads (it is read at the start)"],
  [{ link: { secret: "a-secret-of-the-cluster-of-this-test" } }, "link.secretFile (whether nodes prove who they are)"],
  [{ tls: { certificate: "a", key: "b" } }, "tls (connections with and without it are not told apart)"],
])("%j is refused with the reason", async (change, reason) => {
  const base = { nodeId: "n", roles: ["router"], log: { kind: "jetstream", url: "nats://127.0.0.1" } };
  const reloader = new Reloader({
    config: loadNodeConfig({ flags: base }),
    readConfig: () => loadNodeConfig({ flags: { ...base, ...change } }),
    parts: [],
    clock: new ManualClock(),
    logger: loggerOf(() => "info"),
  });
  await reloader.reload();
  expect(logged.at(-1)).toContain(reason);
});
