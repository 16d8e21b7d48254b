/** The manifests with TLS, on real NATS servers: they speak to each other and to nodes, and to nobody without a certificate of the authority. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually, freePort, makeAuthority, makeCertificate } from "../../libs/base/testing.js";
import { connect } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { connectNats, type NatsTls } from "../../libs/nats/index.js";
import { testNatsBinary } from "../../libs/nats-server/testing.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { startNode } from "../../services/node/index.js";
import { type EnvVar, Manifests } from "../kubernetes/manifests.js";

const manifests = Manifests.read("plain-tls");
const nats = manifests.workload("StatefulSet", "nats").spec;
const count = nats.replicas;
const envOf = (kind: "StatefulSet" | "Deployment", suffix: string): Record<string, string | undefined> => {
  const [container] = manifests.workload(kind, suffix).spec.template.spec.containers;
  return Object.fromEntries((container?.env ?? []).map(({ name, value }: EnvVar) => [name, value]));
};

/** Servers on this machine with the files of the ConfigMap, but for addresses and folders. */
async function startServers(folder: string, kill: (child: ChildProcess) => void): Promise<number> {
  const [ports, monitors, routes] = await Promise.all([freePort(count), freePort(count), freePort(count)]);
  const files = manifests.configMap("nats");
  const env: Record<string, string> = {
    ...{ NATS_ROUTER_PASSWORD: "of-routers", NATS_SHARD_PASSWORD: "of-shards", NATS_CLUSTER_PASSWORD: "of-servers" },
  };
  for (const [name, value = ""] of Object.entries(envOf("StatefulSet", "nats"))) {
    const [, at] = /^NATS_ROUTE_(\d+)$/.exec(name) ?? [];
    if (at === undefined) continue;
    // The certificate has the whole name.
    expect(value).toBe(`nats://server:$(NATS_CLUSTER_PASSWORD)@nats-${at}.nats.kith.svc:6222`);
    env[name] = `nats://server:of-servers@127.0.0.1:${routes + Number(at)}`;
  }
  for (let i = 0; i < count; i++) {
    const own = join(folder, `nats-${i}`);
    mkdirSync(own);
    const text = (files["nats.conf"] ?? "")
      .replaceAll("/etc/nats-tls/tls.crt", join(folder, "node.crt"))
      .replaceAll("/etc/nats-tls/tls.key", join(folder, "node.key"))
      .replaceAll("/etc/nats-tls/ca.crt", join(folder, "ca.crt"))
      .replace("/var/run/nats/nats.pid", join(own, "nats.pid"))
      .replace("/data", join(own, "data"))
      .replace(/^port: 4222$/m, `listen: 127.0.0.1:${ports + i}`)
      .replace(/^http: 8222$/m, `http: 127.0.0.1:${monitors + i}`)
      .replace(/^ {2}port: 6222$/m, `  listen: 127.0.0.1:${routes + i}`);
    writeFileSync(join(own, "nats.conf"), text);
    writeFileSync(join(own, "nats-users.conf"), files["nats-users.conf"] ?? "");
    const command = ["--config", join(own, "nats.conf")];
    kill(spawn(testNatsBinary(), command, { env: { ...env, POD_NAME: `nats-${i}` }, stdio: "ignore" }));
  }
  for (let i = 0; i < count; i++) {
    await eventually(
      async () => expect((await fetch(`http://127.0.0.1:${monitors + i}/healthz`)).ok).toBe(true),
      20_000,
    );
  }
  return ports;
}

test("servers and nodes with certificates of the authority speak to each other, and to nobody else", {
  timeout: 60_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "kith-nats-tls-"));
  const children: ChildProcess[] = [];
  const closers: (() => Promise<void> | void)[] = [];
  try {
    const authority = makeAuthority(folder, "ca");
    const { certificatePath, keyPath } = makeCertificate(folder, "node", authority);
    const stranger = makeCertificate(folder, "stranger", makeAuthority(folder, "other"));
    const ports = await startServers(folder, (child) => children.push(child));
    const urlOf = (scheme: string, user: string): string =>
      Array.from({ length: count }, (_, i) => `${scheme}://${user}:of-${user}s@127.0.0.1:${ports + i}`).join(",");
    const start = async (id: string, roles: string[], env: Record<string, string | undefined>): Promise<string> => {
      const user = roles.includes("router") ? "router" : "shard";
      const named = (i: number): string => `tls://${user}:$(NATS_PASSWORD)@nats-${i}.nats.kith.svc:4222`;
      expect(env["KITH_NATS_URL"]).toBe(Array.from({ length: count }, (_, i) => named(i)).join(","));
      const listen = { host: "127.0.0.1", port: 0 };
      const flags = {
        ...{ nodeId: id, roles, listen, link: listen, data: join(folder, id) },
        log: { kind: "jetstream", url: urlOf("tls", user), replicas: count },
        tls: { certificate: certificatePath, key: keyPath, ca: authority.certificatePath },
      };
      const node = await startNode(loadNodeConfig({ flags }), { version: "test", logger: () => silentLogger });
      closers.push(() => node.close());
      return node.address;
    };
    const address = await start("router", ["router", "coordinator"], envOf("Deployment", "kith-router"));
    await start("shard", ["shard"], envOf("StatefulSet", "kith-shard"));
    const client = await connect(address, { tls: { ca: authority.certificate } });
    closers.push(() => client.close());
    const handle = client.collection("guarded");
    // Its log has a copy on every server: they have found each other.
    await handle.create({ vectors: { dimension: 2, metric: "l2" } });
    await handle.upsert({ id: 1, vector: [1, 2] });
    expect(await handle.count()).toBe(1);
    const ca = authority.certificate.toString();
    const others: [string, (() => NatsTls) | undefined][] = [
      ["tls", () => ({ ca, cert: undefined, key: undefined })],
      ["tls", () => ({ ca, cert: stranger.certificate.toString(), key: stranger.key.toString() })],
      ["nats", undefined],
    ];
    const options = { ...systemRuntime, connectTimeoutMs: 500 };
    for (const [scheme, tls] of others) {
      const servers = urlOf(scheme, "router").split(",").slice(0, 1);
      const refused = connectNats({ ...options, servers, ...(tls && { tls }) });
      await expect(refused).rejects.toMatchObject({ code: "LOG_UNAVAILABLE" });
    }
    const own: NatsTls = { ca, cert: readFileSync(certificatePath, "utf8"), key: readFileSync(keyPath, "utf8") };
    const taken = await connectNats({
      ...options,
      connectTimeoutMs: 5_000,
      servers: urlOf("tls", "router"),
      tls: () => own,
    });
    await taken.close();
  } finally {
    for (const close of closers.reverse()) await close();
    for (const child of children) {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }
    rmSync(folder, { recursive: true, force: true });
  }
});
