/** A client whose certificates are files: it goes on when they are replaced, without being made anew. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, freePort, makeAuthority, makeCertificate } from "../../libs/base/testing.js";
import { connect, type TlsOptions } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";

let folder: string;
let port: number;
let node: RunningNode | undefined;
const at = (name: string): string => join(folder, name);
const files = {
  get caFile() {
    return at("own-ca.crt");
  },
  get certFile() {
    return at("own.crt");
  },
  get keyFile() {
    return at("own.key");
  },
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-certificates-"));
  port = await freePort();
  for (const name of ["first", "second"]) {
    const authority = makeAuthority(folder, `${name}-ca`);
    for (const part of ["server", "client"]) makeCertificate(folder, `${name}-${part}`, authority);
  }
});
afterAll(async () => {
  await node?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** On the same address, with certificates of this authority, and for clients that have one of it. */
async function startServer(authority: string): Promise<void> {
  await node?.close();
  const ca = at(`${authority}-ca.crt`);
  const tls = { certificate: at(`${authority}-server.crt`), key: at(`${authority}-server.key`), ca, clientCa: ca };
  const flags = {
    ...{ nodeId: "n", roles: ["router", "shard", "coordinator"], listen: { port }, data: at("data") },
    ...{ drainTimeoutMs: 100, tls },
  };
  node = await startNode(loadNodeConfig({ flags }), { version: "test", logger: () => silentLogger });
}

function putFiles(authority: string, ...parts: ("ca" | "certificate" | "key")[]): void {
  if (parts.includes("ca")) copyFileSync(at(`${authority}-ca.crt`), files.caFile);
  if (parts.includes("certificate")) copyFileSync(at(`${authority}-client.crt`), files.certFile);
  if (parts.includes("key")) copyFileSync(at(`${authority}-client.key`), files.keyFile);
}

test("a client takes new files for its next connection, and none of them while they do not belong together", async () => {
  await startServer("first");
  putFiles("first", "ca", "certificate", "key");
  const options = { deadlineMs: 15_000 };
  const target = `127.0.0.1:${port}`;
  const client = await connect(target, { ...options, tls: { ...files } });
  const tls: TlsOptions = {
    ca: readFileSync(files.caFile),
    cert: readFileSync(files.certFile),
    key: readFileSync(files.keyFile),
  };
  const fixed = await connect(target, { ...options, tls });
  expect(await client.collections.list()).toEqual([]);

  // The certificate is there, its key is not yet: the pair of before is shown.
  putFiles("second", "certificate");
  await startServer("first");
  expect(await eventually(() => client.collections.list())).toEqual([]);

  putFiles("second", "ca", "key");
  await startServer("second");
  expect(await eventually(() => client.collections.list())).toEqual([]);
  await expect(fixed.collections.list({ deadlineMs: 500 })).rejects.toMatchObject({ name: "KithError" });
  client.close();
  fixed.close();
});

test.each([
  [{ caFile: "/nowhere/ca.crt" }, /options\.tls\.caFile \/nowhere\/ca\.crt cannot be read: ENOENT/],
  [{ ca: Buffer.from(""), caFile: "ca.crt" }, /options\.tls\.caFile and options\.tls\.ca are both given/],
  [{ caFile: fileURLToPath(import.meta.url) }, /options\.tls has something that is no PEM/],
])("%j is refused, with what is wrong", async (tls, message) => {
  await expect(connect("127.0.0.1:1", { tls })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringMatching(message) as string,
  });
});
