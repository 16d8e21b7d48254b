/**
 * TLS on both services with certificates that both sides check; health as Kubernetes probes and load balancers ask for it,
 * and reflection as grpcurl uses it, on plain connections and on TLS.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChannelCredentials, Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { afterAll, expect, test } from "vitest";
import { connect } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { eventually, makeAuthority, makeCertificate } from "../../libs/base/testing.js";
import { healthOf } from "../cluster/health.js";
import { startInProcess } from "../cluster/in-process.js";
import { program, startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload } from "../cluster/workload.js";

const folder = mkdtempSync(join(tmpdir(), "kith-certificates-"));
const authority = makeAuthority(folder, "authority");
const node = makeCertificate(folder, "node", authority);
const user = makeCertificate(folder, "user", authority);
const stranger = makeCertificate(folder, "stranger", makeAuthority(folder, "other"));
const mine = { ca: authority.certificate, cert: user.certificate, key: user.key };
const secured = useCluster(() =>
  startProcesses({
    shardNodes: 2,
    replicas: 2,
    flags: [
      ...["--tls-cert", node.certificatePath, "--tls-key", node.keyPath],
      ...["--tls-ca", authority.certificatePath, "--client-ca", authority.certificatePath],
    ],
    connect: { tls: mine },
  }),
);
/** The nodes trust their authority; clients need no certificate. */
const serverOnly = useCluster(() =>
  startProcesses({
    shardNodes: 1,
    replicas: 1,
    env: {
      KITH_TLS_CERTIFICATE: node.certificatePath,
      KITH_TLS_KEY: node.keyPath,
      KITH_TLS_CA: authority.certificatePath,
    },
    connect: { tls: { ca: authority.certificate } },
  }),
);
const plain = useCluster(() => startInProcess());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Sends one reflection request and gives the bytes of the answer. */
function reflect(target: string, using: ChannelCredentials, version: string, request: Buffer): Promise<Buffer> {
  const client = new Client(target, using);
  const same = (bytes: Buffer): Buffer => bytes;
  return new Promise<Buffer>((resolve, reject) => {
    const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    const stream = client.makeBidiStreamRequest(path, same, same);
    stream.on("data", (bytes: Buffer) => resolve(bytes));
    stream.on("error", reject);
    stream.write(request);
    stream.end();
  }).finally(() => client.close());
}

/** ServerReflectionRequest with one field of text: 4 is file_containing_symbol, 7 is list_services. */
function ask(field: number, text: string): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, text.length]), Buffer.from(text)]);
}

const publicServices = ["kith.v1.Points", "kith.v1.Collections", "kith.v1.Cluster", "grpc.health.v1.Health"];

test("with TLS everything works for those who have a certificate, between the nodes too", {
  timeout: 60_000,
}, async () => {
  const client = await secured().connect();
  const handle = client.collection<Payload>("secret");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2, replicas: 2 });
  const ledger = new Ledger(handle);
  await ledger.fill(0, 500);
  await ledger.verify();
  expect(await ledger.selfRecall()).toBe(1);
  await eventually(() => compareDigests(client, 2));
  // The link is dialled anew with TLS after a restart.
  await secured().stop("shard-1");
  await secured().start("shard-1");
  await eventually(() => compareDigests(client, 2), 30_000);
});

test("without TLS, without a certificate, or with one of somebody else nobody gets in", {
  timeout: 60_000,
}, async () => {
  const { target } = secured();
  const attempts = {
    "plain text": {},
    "no certificate": { tls: { ca: authority.certificate } },
    "a stranger's certificate": {
      tls: { ca: authority.certificate, cert: stranger.certificate, key: stranger.key },
    },
    "a server that is not trusted": { tls: { cert: user.certificate, key: user.key } },
  };
  const codes: Record<keyof typeof attempts, string> = {
    "plain text": "TLS_MISMATCH",
    "no certificate": "SERVER_UNREACHABLE",
    "a stranger's certificate": "SERVER_UNREACHABLE",
    "a server that is not trusted": "CERTIFICATE_UNTRUSTED",
  };
  for (const [name, options] of Object.entries(attempts)) {
    const failure = await failureOf(connect(target, { ...options, connectTimeoutMs: 1_500 }));
    expect(failure?.code, name).toBe(codes[name as keyof typeof attempts]);
  }
  // The link is as closed as the public service.
  const info = await (await secured().connect()).cluster.describe();
  const link = info.nodes.find((each) => each.id === "shard-0")?.address ?? "";
  const intruder = new Client(link, credentials.createInsecure());
  await expect(healthOf(intruder, "")).rejects.toMatchObject({ code: expect.any(Number) as number });
  intruder.close();
  const friend = new Client(link, credentials.createSsl(authority.certificate, user.key, user.certificate));
  expect(await healthOf(friend, "")).toBe("SERVING");
  expect(await healthOf(friend, "kith.internal.v1.Link")).toBe("SERVING");
  friend.close();
});

test("the authority of the nodes' certificates is one thing, asking clients for theirs another", {
  timeout: 60_000,
}, async () => {
  const client = await serverOnly().connect();
  const handle = client.collection<Payload>("open");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  const ledger = new Ledger(handle);
  await ledger.fill(0, 50);
  await ledger.verify();
  const stranger = await failureOf(connect(serverOnly().target, { tls: true, connectTimeoutMs: 1_500 }));
  expect(stranger?.code).toBe("CERTIFICATE_UNTRUSTED");
});

test("the command line shows a certificate where one is asked for", { timeout: 60_000 }, () => {
  const kith = (...flags: string[]): string => {
    const args = [program, "collection", "list", "-o", "json", "--target", secured().target, "--timeout", "5s"];
    return spawnSync(process.execPath, [...args, "--tls-ca", authority.certificatePath, ...flags]).stdout.toString();
  };
  expect(kith("--tls-cert", user.certificatePath, "--tls-key", user.keyPath)).toMatch(/^\[/);
  expect(kith()).toBe("");
});

for (const [name, targetOf, using] of [
  ["plain", () => plain().target, credentials.createInsecure()],
  ["TLS", () => secured().target, credentials.createSsl(authority.certificate, user.key, user.certificate)],
] as const) {
  test(`health of the process and of each service (${name})`, { timeout: 30_000 }, async () => {
    const client = new Client(targetOf(), using);
    for (const service of ["", "kith.v1.Points", "kith.v1.Collections", "kith.v1.Cluster"]) {
      expect(await healthOf(client, service), service).toBe("SERVING");
    }
    const unknown = await healthOf(client, "no.such.Service").catch((error: ServiceError) => error.code);
    expect(unknown).toBe(status.NOT_FOUND);
    client.close();
  });

  test(`reflection lists the services and gives their files (${name})`, { timeout: 30_000 }, async () => {
    for (const version of ["v1", "v1alpha"]) {
      const services = (await reflect(targetOf(), using, version, ask(7, "*"))).toString("latin1");
      for (const service of publicServices) expect(services, version).toContain(service);
      expect(services, "the link is nobody's business").not.toContain("kith.internal");
      const file = (await reflect(targetOf(), using, version, ask(4, "kith.v1.Points"))).toString("latin1");
      for (const word of ["kith/v1/points.proto", "QueryStream", "UpsertColumnsRequest"]) expect(file).toContain(word);
    }
  });
}
