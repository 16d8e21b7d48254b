/** A client, and a gateway, whose certificates are files: they go on when these are replaced, without being made anew. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, freePort, makeAuthority, makeCertificate } from "../../libs/base/testing.js";
import { connect, type TlsOptions } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";
import { program } from "../cluster/processes.js";

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

test("a gateway of its own takes new files at SIGHUP, for its port and for its connection to the router", {
  timeout: 60_000,
}, async () => {
  await startServer("first");
  putFiles("first", "ca", "certificate", "key");
  const own = ["--tls-ca", files.caFile, "--tls-cert", files.certFile, "--tls-key", files.keyFile];
  const args = ["gateway", "--target", `127.0.0.1:${port}`, "--listen", "127.0.0.1:0", "--output", "json", ...own];
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => {
    log += chunk.toString();
  });
  try {
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    const { http } = JSON.parse(line.toString()) as { http: string };
    /** Who has signed what the gateway shows, and the status of a call that goes on to the router. */
    const ask = async (): Promise<[issuer: string, status: string]> => {
      const socket = connectTls({ host: "127.0.0.1", port: Number(http.split(":")[1]), rejectUnauthorized: false });
      await once(socket, "secureConnect");
      const { issuer } = socket.getPeerCertificate();
      socket.write("GET /v1/collections HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
      let answer = "";
      for await (const chunk of socket as AsyncIterable<Buffer>) answer += chunk.toString();
      return [String(issuer.CN), answer.slice(9, 12)];
    };
    expect(await ask()).toEqual(["first-ca", "200"]);
    putFiles("second", "certificate");
    child.kill("SIGHUP");
    await eventually(() => /the certificates stay as they were: .*the key is another certificate's/.test(log));
    expect(await ask()).toEqual(["first-ca", "200"]);
    putFiles("second", "ca", "key");
    child.kill("SIGHUP");
    await eventually(() => log.includes("took new certificates"));
    expect((await ask())[0]).toBe("second-ca");
    await startServer("second");
    await eventually(async () => expect(await ask()).toEqual(["second-ca", "200"]));
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    expect(await exited).toEqual([0, null]);
  } finally {
    child.kill("SIGKILL");
  }
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
