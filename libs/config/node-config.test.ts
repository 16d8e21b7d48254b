import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadNodeConfig } from "./index.js";

const all = { nodeId: "n1", roles: ["router", "shard", "coordinator"], data: "/tmp/kith-config-test" };

test("layers: flags win over the environment, which wins over the file", () => {
  const directory = mkdtempSync(join(tmpdir(), "kith-config-"));
  const file = join(directory, "kith.yaml");
  writeFileSync(file, "nodeId: from-file\nzone: a\nlisten:\n  port: 1\n  host: localhost\n");
  const config = loadNodeConfig({
    file,
    env: { KITH_LISTEN_PORT: "2", KITH_NODE_ID: "from-env", KITH_DATA: "/tmp/x" },
    flags: { nodeId: "from-flags", roles: all.roles, zone: undefined },
  });
  rmSync(directory, { recursive: true });
  expect(config).toMatchObject({ nodeId: "from-flags", zone: "a", listen: { port: 2, host: "localhost" } });
});

test("an unknown key is an error that names it", () => {
  expect(() => loadNodeConfig({ flags: { ...all, zoen: "a" } })).toThrow(/zoen/);
});

test.each([
  ["a shard without a data folder", { ...all, data: undefined }, /--data/],
  ["an embedded log with a role missing", { ...all, roles: ["router", "shard"] }, /coordinator is missing/],
  ["a public address without TLS", { ...all, listen: { host: "0.0.0.0" } }, /--allow-insecure/],
  ["more replicas than one process can hold", { ...all, replicationFactor: 2 }, /cannot hold 2 replicas/],
  ["a node id that is a path", { ...all, nodeId: "../x" }, /nodeId/],
  ["a port out of range", { ...all, listen: { port: 70_000 } }, /listen.port/],
])("unsafe or wrong settings are refused: %s", (_, flags, message) => {
  expect(() => loadNodeConfig({ flags })).toThrow(message);
});

test("a NATS URL in the environment switches to JetStream", () => {
  const config = loadNodeConfig({
    env: { KITH_NATS_URL: "nats://127.0.0.1:4222", KITH_NATS_REPLICAS: "3" },
    flags: { nodeId: "r", roles: ["router"] },
  });
  expect(config.log).toEqual({ kind: "jetstream", url: "nats://127.0.0.1:4222", replicas: 3 });
});
