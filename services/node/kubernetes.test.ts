/** What a pod asks Kubernetes: how many pods its StatefulSet is to have, and the zone of its machine; and what it does without an answer. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../libs/base/index.js";
import { makeAuthority, makeCertificate } from "../../libs/base/testing.js";
import { type Logger, silentLogger } from "../../libs/telemetry/index.js";
import { isScaledIn, Kubernetes } from "./kubernetes.js";

let folder: string;
let server: Server;
let api: Kubernetes;
/** What the API answers, by path: an object, or a status. */
let answers: Record<string, object | number>;
/** Answers with 503 before it answers as it should. */
let failures: number;
const asked: string[] = [];
const warnings: string[] = [];
const logger: Logger = { ...silentLogger, warn: (message) => void warnings.push(message) };
const path = "/apis/apps/v1/namespaces/kith/statefulsets/kith-shard";
const statefulSet = (spec: object, metadata: object = {}): { metadata: object; spec: object } => ({ metadata, spec });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-kubernetes-"));
  const authority = makeAuthority(folder, "cluster");
  const { certificate, key } = makeCertificate(folder, "api", authority);
  server = createServer({ cert: certificate, key }, (request, response) => {
    asked.push(`${request.headers.authorization} ${request.url}`);
    const answer = failures-- > 0 ? 503 : (answers[request.url ?? ""] ?? 404);
    response.statusCode = typeof answer === "number" ? answer : 200;
    response.end(typeof answer === "number" ? "{}" : JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  writeFileSync(join(folder, "token"), "secret\n");
  writeFileSync(join(folder, "namespace"), "kith");
  writeFileSync(join(folder, "ca.crt"), authority.certificate);
  const { port } = server.address() as AddressInfo;
  const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(port) };
  api = new Kubernetes({ env, serviceAccount: folder, clock: systemClock });
});

beforeEach(() => {
  failures = 0;
  answers = {};
  asked.length = 0;
  warnings.length = 0;
});

afterAll(async () => {
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

test("a pod beyond the wanted number goes, others are replaced", () => {
  const three = { metadata: {}, spec: { replicas: 3 } };
  expect([0, 2, 3, 12].map((ordinal) => isScaledIn(three, `kith-shard-${ordinal}`))).toEqual([
    false,
    false,
    true,
    true,
  ]);
  const fromTen = { metadata: {}, spec: { replicas: 2, ordinals: { start: 10 } } };
  expect([10, 11, 12].map((ordinal) => isScaledIn(fromTen, `kith-shard-${ordinal}`))).toEqual([false, false, true]);
  // Where all go, nobody is there to take the replicas.
  expect(isScaledIn({ metadata: {}, spec: { replicas: 0 } }, "kith-shard-0")).toBe(false);
  expect(isScaledIn({ metadata: { deletionTimestamp: "now" }, spec: { replicas: 1 } }, "kith-shard-2")).toBe(false);
  expect(isScaledIn({ metadata: {}, spec: {} }, "kith-shard-1")).toBe(true);
});

test("the StatefulSet is asked for with the service account's token, in its namespace", async () => {
  answers = { [path]: statefulSet({ replicas: 2 }) };
  expect(await api.isScaledIn("kith-shard", "kith-shard-2", 1_000, logger)).toBe(true);
  expect(await api.isScaledIn("kith-shard", "kith-shard-1", 1_000, logger)).toBe(false);
  expect(asked[0]).toBe(`Bearer secret ${path}`);
  expect(warnings).toEqual([]);
});

test("a StatefulSet that is gone takes its pods with it", async () => {
  expect(await api.isScaledIn("kith-shard", "kith-shard-2", 1_000, logger)).toBe(false);
  expect(warnings).toEqual([]);
});

test("an API that fails is asked again; where it goes on so, the pod ends as if it were replaced, and says so", async () => {
  answers = { [path]: statefulSet({ replicas: 2 }) };
  failures = 1;
  expect(await api.isScaledIn("kith-shard", "kith-shard-2", 5_000, logger)).toBe(true);
  failures = 100;
  expect(await api.isScaledIn("kith-shard", "kith-shard-2", 100, logger)).toBe(false);
  expect(warnings.join()).toMatch(
    /whether it is scaled in is not known: Kubernetes at .* does not answer: it says 503/,
  );
});

test("what the role does not allow is told at once", async () => {
  answers = { [path]: 403 };
  expect(await api.isScaledIn("kith-shard", "kith-shard-2", 60_000, logger)).toBe(false);
  expect(warnings.join()).toMatch(/says 403 to .*role must allow/);
  expect(asked).toHaveLength(1);
});

test("the zone is the label of the machine, and empty where it has none", async () => {
  answers = {
    "/api/v1/nodes/m1": { metadata: { labels: { "topology.kubernetes.io/zone": "eu-1a" } } },
    "/api/v1/nodes/m2": { metadata: {} },
  };
  expect(await api.zoneOf("m1", 1_000)).toBe("eu-1a");
  expect(await api.zoneOf("m2", 1_000)).toBe("");
  await expect(api.zoneOf("m3", 1_000)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("an API with another authority's certificate is not believed", async () => {
  const other = mkdtempSync(join(tmpdir(), "kith-kubernetes-"));
  try {
    writeFileSync(join(other, "token"), "secret");
    writeFileSync(join(other, "ca.crt"), makeAuthority(other, "another").certificate);
    const { port } = server.address() as AddressInfo;
    const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(port) };
    const stranger = new Kubernetes({ env, serviceAccount: other, clock: systemClock });
    await expect(stranger.zoneOf("m1", 0)).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    expect(asked).toEqual([]);
  } finally {
    rmSync(other, { recursive: true, force: true });
  }
});

test("outside of a pod the message says what is missing", async () => {
  const nowhere = new Kubernetes({ env: {}, serviceAccount: folder, clock: systemClock });
  await expect(nowhere.zoneOf("m1", 0)).rejects.toThrow(/KUBERNETES_SERVICE_HOST is not set/);
  const bare = new Kubernetes({
    env: { KUBERNETES_SERVICE_HOST: "127.0.0.1" },
    serviceAccount: join(folder, "none"),
    clock: systemClock,
  });
  await expect(bare.zoneOf("m1", 0)).rejects.toThrow(/KITH_KUBERNETES_SERVICE_ACCOUNT/);
});
