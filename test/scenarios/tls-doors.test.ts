/** The doors with TLS: who a certificate lets in, what is not spoken to, and what comes from elsewhere only where settings say so. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { deflateSync, gzipSync } from "node:zlib";
import * as zstd from "@cloudpss/zstd/napi";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually, makeAuthority, makeCertificate, ManualClock } from "../../libs/base/testing.js";
import { connect } from "../../libs/client/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { LocalBackend, RestDoor } from "../../services/gateway/index.js";
import { TestServer } from "../cluster/rest-server.js";

const adminKey = "an-administrator-of-this-test-alone";
let folder: string;
let server: TestServer;
let issuer: Server;
let keys: unknown[] = [];
let authority: ReturnType<typeof makeAuthority>;
let reader: ReturnType<typeof makeCertificate>;
let stranger: ReturnType<typeof makeCertificate>;
const issuing = await generateKeyPair("ES256");

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-tls-doors-"));
  authority = makeAuthority(folder, "ca");
  const own = makeCertificate(folder, "node", authority);
  reader = makeCertificate(folder, "reader", authority);
  stranger = makeCertificate(folder, "stranger", authority);
  keys = [{ ...(await exportJWK(issuing.publicKey)), kid: "one", alg: "ES256" }];
  issuer = createServer((request, response) => {
    if (request.url === "/elsewhere") response.writeHead(302, { location: "/keys" }).end();
    else response.end(JSON.stringify({ keys }));
  });
  issuer.listen(0, "127.0.0.1");
  await once(issuer, "listening");
  server = await TestServer.start({}, flags("/keys", own));
});
afterAll(async () => {
  await server.close();
  issuer.close();
  rmSync(folder, { recursive: true, force: true });
});

function flags(path: string, own: { certificatePath: string; keyPath: string }): object {
  const { port } = issuer.address() as AddressInfo;
  return {
    tls: { certificate: own.certificatePath, key: own.keyPath, clientCa: authority.certificatePath },
    qdrant: { httpPort: 0, grpcPort: 0 },
    auth: {
      ...{ adminKey, certificates: { reader: ["reader"] } },
      tokens: { keys: `http://127.0.0.1:${port}${path}`, audience: "kith" },
    },
  };
}

const shown = (by: { certificate: Buffer; key: Buffer }): { ca: Buffer; cert: Buffer; key: Buffer } => ({
  ...{ ca: authority.certificate, cert: by.certificate, key: by.key },
});

async function ask(
  by: typeof reader,
  method: string,
  path: string,
  body = "",
  headers = {},
): Promise<[number, string]> {
  const session = connectHttp2(`https://${server.node.httpAddress}`, { ...shown(by), servername: "localhost" });
  try {
    const stream = session.request({
      ":method": method,
      ":path": path,
      "content-type": "application/json",
      ...headers,
    });
    stream.end(body === "" ? undefined : body);
    const [answer] = (await once(stream, "response")) as [Record<string, unknown>];
    let text = "";
    for await (const chunk of stream as AsyncIterable<Buffer>) text += chunk.toString();
    return [Number(answer[":status"]), text];
  } finally {
    session.close();
  }
}

test("a certificate's common name has its roles, over HTTP/2 and gRPC; another name has none", async () => {
  expect((await ask(reader, "GET", "/v1/collections"))[0]).toBe(200);
  const made = '{"name":"a","vectors":[{"dimension":2,"metric":"l2"}]}';
  expect((await ask(reader, "POST", "/v1/collections", made))[0]).toBe(403);
  expect((await ask(stranger, "GET", "/v1/collections"))[0]).toBe(401);
  expect((await ask(stranger, "GET", "/v1/collections", "", { "api-key": adminKey }))[0]).toBe(200);
  const client = await connect(server.node.address, { tls: shown(reader) });
  expect(await client.collections.list()).toEqual([]);
  await expect(client.collection("a").create({ vectors: { dimension: 2, metric: "l2" } })).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
  });
  client.close();
});

test("tokens are checked by the keys that the issuer serves over HTTP, and by those alone", async () => {
  const sign = (key: typeof issuing.privateKey): Promise<string> =>
    new SignJWT({ roles: ["reader"], jku: "http://127.0.0.1:1/keys" })
      .setProtectedHeader({ alg: "ES256", kid: "one" })
      .setSubject("s")
      .setAudience("kith")
      .setExpirationTime("1h")
      .sign(key);
  const with_ = async (key: typeof issuing.privateKey): Promise<number> =>
    (await ask(stranger, "GET", "/v1/collections", "", { authorization: `Bearer ${await sign(key)}` }))[0];
  expect(await with_(issuing.privateKey)).toBe(200);
  expect(await with_((await generateKeyPair("ES256")).privateKey)).toBe(401);
});

test("keys of tokens are read from where the settings say: a redirection leads nowhere", async () => {
  const own = { certificatePath: join(folder, "node.crt"), keyPath: join(folder, "node.key") };
  await expect(TestServer.start({}, flags("/elsewhere", own))).rejects.toThrow(/auth.tokens.keys .* does not answer/);
});

const doors = {
  gRPC: ({ node }: TestServer) => node.address,
  REST: ({ node }: TestServer) => node.httpAddress,
  "Qdrant's gRPC": ({ node }: TestServer) => node.qdrantGrpcAddress,
  "Qdrant's REST": ({ node }: TestServer) => node.qdrantAddress,
};

test.each(Object.entries(doors))(
  "%s: no old TLS, nothing without TLS, nothing without a certificate",
  async (_, of) => {
    const address = of(server);
    const port = Number(address.split(":").at(-1));
    const handshake = (options: ConnectionOptions): Promise<string> =>
      new Promise((resolve) => {
        const socket = connectTls({ port, host: "127.0.0.1", ...shown(reader), ALPNProtocols: ["h2"], ...options });
        socket.on("secureConnect", () => {
          resolve(socket.getProtocol() ?? "");
          socket.destroy();
        });
        socket.on("error", () => resolve("refused"));
      });
    expect(await handshake({})).toBe("TLSv1.3");
    expect(await handshake({ maxVersion: "TLSv1.2" })).toBe("TLSv1.2");
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
    expect(await handshake(old)).toBe("refused");
    const without = { cert: undefined, key: undefined, maxVersion: "TLSv1.2" } as const;
    expect(await handshake(without)).toBe("refused");
    const plain = connectTcp(port, "127.0.0.1");
    plain.on("error", () => undefined);
    plain.write("GET /livez HTTP/1.1\r\nhost: a\r\n\r\n");
    let text = "";
    for await (const chunk of plain as AsyncIterable<Buffer>) text += chunk.toString("latin1");
    expect(text).not.toContain("200");
  },
);

test("who says only the beginning of a beginning to the REST port is let go", async () => {
  const clock = new ManualClock();
  const rest = new RestDoor({
    ...{ ...systemRuntime, clock, backend: new LocalBackend(), logger: silentLogger, version: "test" },
    ready: () => true,
  });
  const socket = connectTcp(await rest.listen("127.0.0.1", 0), "127.0.0.1");
  let isClosed = false;
  socket
    .on("error", () => undefined)
    .on("close", () => {
      isClosed = true;
    });
  socket.resume().write("P");
  await eventually(() => clock.pending > 0);
  await clock.advance(9_000);
  expect(isClosed).toBe(false);
  await clock.advance(1_001);
  await eventually(() => isClosed);
  await rest.drain(0);
});

test("a name in another case or of other letters that look alike is another name", async () => {
  const open = await TestServer.start({}, { auth: { adminKey } });
  const as = { "api-key": adminKey };
  await open.call("POST", "/v1/collections", { name: "docs", vectors: [{ dimension: 2, metric: "l2" }] }, as);
  await open.call("POST", "/v1/collections", { name: "Docs", vectors: [{ dimension: 2, metric: "l2" }] }, as);
  const { json } = await open.call("POST", "/v1/keys", { name: "k", role: "reader", collections: ["docs"] }, as);
  const own = { "api-key": String(json["secret"]) };
  expect((await open.call("POST", "/v1/collections/docs/points/count", {}, own)).status).toBe(200);
  for (const name of [
    "Docs",
    "DOCS",
    "docs ",
    "docs%00",
    "docs\u200b",
    "\uff44ocs",
    "d\u043ecs",
    "docs%2f",
    "..%2fdocs",
    "Doc\u017f",
  ]) {
    const { status: answer } = await open.call("POST", `/v1/collections/${name}/points/count`, {}, own);
    expect([400, 404], name).toContain(answer);
  }
  await open.close();
});

/** Small while they are packed, and 2 GiB afterwards: what is packed may follow itself in each of these forms. */
const zeros = Buffer.alloc(64 * 1024 * 1024);
const times = (packed: Uint8Array): Buffer => Buffer.concat(Array.from({ length: 32 }, () => packed));
const bombs = {
  gzip: times(gzipSync(zeros)),
  deflate: deflateSync(Buffer.alloc(100 * 1024 * 1024)),
  zstd: times(zstd.compress(zeros)),
};

/** The status of a message that was made by hand: compressed, and much longer than it looks. */
function sendBomb(address: string, path: string, encoding: keyof typeof bombs): Promise<string> {
  const bomb = bombs[encoding];
  const head = Buffer.alloc(5);
  head.writeUInt8(1, 0);
  head.writeUInt32BE(bomb.length, 1);
  const session = connectHttp2(`http://${address}`);
  const stream = session.request({
    ...{ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" },
    "grpc-encoding": encoding,
  });
  stream.end(Buffer.concat([head, bomb]));
  stream.resume();
  return new Promise<string>((resolve) => {
    const tell = (headers: Record<string, unknown>): void => {
      const told = headers["grpc-status"];
      if (typeof told === "string") resolve(told);
    };
    stream.on("response", tell).on("trailers", tell);
    stream.on("error", () => resolve("cut"));
  }).finally(() => session.destroy());
}

test("what unpacks to more than messages and bodies may be is refused at every door, and the server goes on", {
  timeout: 30_000,
}, async () => {
  const plain = await TestServer.start({}, { qdrant: { httpPort: 0, grpcPort: 0 } });
  const { address, qdrantAddress, qdrantGrpcAddress } = plain.node;
  const before = process.memoryUsage().rss;
  // gRPC has no zstd here, and REST no deflate; Qdrant has one status for all that is wrong with bodies.
  const refusals = { gzip: [8, 413], deflate: [8, 415], zstd: [12, 413] } as const;
  for (const encoding of ["gzip", "deflate", "zstd"] as const) {
    const [refused, restStatus] = refusals[encoding];
    for (const [door, path] of [
      [address, "/kith.v1.Points/Query"],
      [address, "/kith.v1.Points/UpsertStream"],
      [qdrantGrpcAddress, "/qdrant.Points/Query"],
    ] as const) {
      expect([String(refused), "cut"], `${path} ${encoding}`).toContain(await sendBomb(door, path, encoding));
    }
    const headers = { "content-type": "application/json", "content-encoding": encoding };
    const body = new Uint8Array(bombs[encoding]);
    for (const url of [`http://${qdrantAddress}/collections/a/points/query`, `${plain.url}/v1/collections/a/query`]) {
      const { status: answer } = await fetch(url, { method: "POST", headers, body });
      expect([url, encoding, answer]).toEqual([url, encoding, url.includes("/v1/") ? restStatus : 400]);
    }
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
  const client = new Client(address, credentials.createInsecure());
  const asIs = (bytes: Buffer): Buffer => bytes;
  for (const path of ["/kith.v1.Collections/List", "/qdrant.Collections/List"]) {
    const through = path.startsWith("/kith") ? client : new Client(qdrantGrpcAddress, credentials.createInsecure());
    await new Promise<void>((resolve, reject) => {
      through.makeUnaryRequest(path, asIs, asIs, Buffer.alloc(0), new Metadata(), {}, (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    through.close();
  }
  await plain.close();
});
