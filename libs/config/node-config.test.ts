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
  [
    "a link that anybody may enter",
    {
      ...{ nodeId: "n", roles: ["shard"], data: "/tmp/x", log: { kind: "jetstream", url: "nats://n" } },
      ...{ link: { host: "10.0.0.1" }, tls: { certificate: "c", key: "k" } },
    },
    /link.secretFile/,
  ],
  ["more replicas than one process can hold", { ...all, replicationFactor: 2 }, /cannot hold 2 replicas/],
  ["a node id that is a path", { ...all, nodeId: "../x" }, /nodeId/],
  ["a port out of range", { ...all, listen: { port: 70_000 } }, /listen.port/],
])("unsafe or wrong settings are refused: %s", (_, flags, message) => {
  expect(() => loadNodeConfig({ flags })).toThrow(message);
});

test.each([
  ["KITH_LISTEN_PORT", " ", /KITH_LISTEN_PORT is " "; it must be a value, or left out/],
  ["KITH_LISTEN_PORT", "77oo", /KITH_LISTEN_PORT is "77oo"; it must be a whole number/],
  ["KITH_LISTEN_PORT", "0x50", /KITH_LISTEN_PORT is "0x50"/],
  ["KITH_LISTEN_PORT", "-1", /KITH_LISTEN_PORT is "-1"/],
  ["KITH_LISTEN_PORT", "99999", /listen\.port \(KITH_LISTEN_PORT\) is 99999: /],
  ["KITH_SEARCH_THREADS", "1.5", /KITH_SEARCH_THREADS is "1.5"/],
  ["KITH_PAYLOAD_CACHE_BYTES", "32MiB", /KITH_PAYLOAD_CACHE_BYTES is "32MiB"/],
  ["KITH_LOG_LEVEL", "loud", /logLevel \(KITH_LOG_LEVEL\) is "loud"/],
  ["KITH_ALLOW_INSECURE", "maybe", /KITH_ALLOW_INSECURE is "maybe"; it must be true or false/],
  ["KITH_NATS_ALLOW_UNSYNCED", "2", /KITH_NATS_ALLOW_UNSYNCED is "2"/],
  ["KITH_NODE_ID", "  ", /KITH_NODE_ID is " {2}"/],
  ["KITH_LISTENPORT", "1", /KITH_LISTENPORT \(KITH_LISTEN_PORT\?\), which no setting has/],
  ["KITH_ZOEN", "a", /KITH_ZOEN, which no setting has/],
])("a value of the environment that cannot be obeyed is refused with its variable: %s=%j", (name, value, message) => {
  expect(() => loadNodeConfig({ env: { [name]: value }, flags: all })).toThrow(message);
});

test.each(["TRUE", "true", "yes", "On", "1"])("%s is true, and its opposites are false", (word) => {
  const opposite = { TRUE: "FALSE", true: "false", yes: "No", On: "off", "1": "0" }[word];
  const flags = { ...all, listen: { host: "0.0.0.0" } };
  expect(loadNodeConfig({ env: { KITH_ALLOW_INSECURE: word }, flags }).allowInsecure).toBe(true);
  expect(() => loadNodeConfig({ env: { KITH_ALLOW_INSECURE: opposite }, flags })).toThrow(/--allow-insecure/);
});

test("what Kubernetes injects for services is harmless, and so is what other programs of Kith read", () => {
  const env = {
    KITH_SERVICE_HOST: "10.0.0.1",
    KITH_SERVICE_PORT: "7700",
    KITH_SERVICE_PORT_GRPC: "7700",
    KITH_PORT: "tcp://10.0.0.1:7700",
    KITH_PORT_7700_TCP: "tcp://10.0.0.1:7700",
    KITH_PORT_7700_TCP_PROTO: "tcp",
    KITH_PORT_7700_TCP_PORT: "7700",
    KITH_PORT_7700_TCP_ADDR: "10.0.0.1",
    KITH_LINK_SERVICE_HOST: "10.0.0.2",
    KITH_LINK_PORT: "tcp://10.0.0.2:7710",
    KITH_LISTEN_PORT: "udp://10.0.0.3:1",
    KITH_TARGET: "x:1",
    KITH_CACHE: "/tmp/c",
    KITH_EMPTY: "",
  };
  expect(loadNodeConfig({ env, flags: all })).toMatchObject({ listen: { port: 7700 }, link: { port: 7710 } });
});

test.each(["[::1]", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "LOCALHOST", "127.1.2.3"])(
  "%s is this machine",
  (host) => {
    expect(loadNodeConfig({ flags: { ...all, listen: { host } } }).listen.host).toBe(host.replace(/[[\]]/g, ""));
  },
);

test("a NATS URL in the environment switches to JetStream", () => {
  const config = loadNodeConfig({
    env: { KITH_NATS_URL: "nats://127.0.0.1:4222", KITH_NATS_REPLICAS: "3" },
    flags: { nodeId: "r", roles: ["router"] },
  });
  const url = "nats://127.0.0.1:4222";
  expect(config.log).toEqual({ kind: "jetstream", url, replicas: 3, allowUnsynced: false });
});

test("settings of NATS count in whichever layers they are", () => {
  const router = { nodeId: "r", roles: ["router"] };
  const expected = { kind: "jetstream", url: "nats://a", replicas: 3, credentials: "c" };
  const url = { KITH_NATS_URL: "nats://a" };
  const others = { KITH_NATS_REPLICAS: "3", KITH_NATS_CREDENTIALS: "c" };
  const log = { kind: undefined, url: undefined, replicas: 3, credentials: "c" };
  expect(loadNodeConfig({ env: url, flags: { ...router, log } }).log).toMatchObject(expected);
  const nats = { kind: "jetstream", url: "nats://a", replicas: undefined };
  expect(loadNodeConfig({ env: others, flags: { ...router, log: nats } }).log).toMatchObject(expected);
  const none = { kind: undefined, url: undefined, replicas: undefined };
  expect(loadNodeConfig({ flags: { ...all, log: none } }).log).toEqual({ kind: "embedded" });
  expect(() => loadNodeConfig({ flags: { ...all, log } })).toThrow(
    /log\.url is missing: give it with --nats \(KITH_NATS_URL/,
  );
});

test("a missing setting is named with its flag and its variable", () => {
  const message = /nodeId is missing: give it with --node-id \(KITH_NODE_ID.*roles is missing: .*--roles \(KITH_ROLES/;
  expect(() => loadNodeConfig({})).toThrow(message);
  const tls = { certificate: "c" };
  expect(() => loadNodeConfig({ flags: { ...all, tls } })).toThrow(/tls\.key is missing.*--tls-key \(KITH_TLS_KEY/);
});

test("a shard node of a cluster that listens everywhere must say where it is", () => {
  const log = { kind: "jetstream", url: "nats://a" };
  for (const host of ["0.0.0.0", "::", "[::]", "0:0:0:0:0:0:0:0"]) {
    const flags = { nodeId: "s", roles: ["shard"], data: "/tmp/x", log, allowInsecure: true };
    expect(() => loadNodeConfig({ flags: { ...flags, link: { host } } })).toThrow(/--advertise host:port/);
    const { link: ours } = loadNodeConfig({ flags: { ...flags, link: { host, advertise: "s:7710" } } });
    expect(ours.host).toBe(host.replace(/[[\]]/g, ""));
    // A router has no link service.
    expect(loadNodeConfig({ flags: { ...flags, roles: ["router"], link: { host } } }).roles).toEqual(["router"]);
  }
});

test("shares of the memory have bounds, and come from the environment too", () => {
  const env = { KITH_LEVELDB_WRITE_BUFFER_BYTES: "4194304", KITH_PAYLOAD_CACHE_BYTES: "0" };
  expect(loadNodeConfig({ env, flags: all })).toMatchObject({
    leveldb: { writeBufferBytes: 4_194_304, cacheBytes: 8_388_608 },
    payloadCacheBytes: 0,
  });
  const small = { KITH_LEVELDB_WRITE_BUFFER_BYTES: "5" };
  expect(() => loadNodeConfig({ env: small, flags: all })).toThrow(/leveldb\.writeBufferBytes/);
});
