/** What HTTP itself brings: two versions on one port, slow and broken peers, an end in order, a gateway of its own, and requests that nobody means. */
import { spawn } from "node:child_process";
import { connect as connectHttp2 } from "node:http2";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect as connectTcp, createServer as createTcp } from "node:net";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SeededRandom, systemRuntime } from "../../libs/base/index.js";
import { createChannel } from "../../libs/rpc/client/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { RemoteBackend, RestDoor } from "../../services/gateway/index.js";
import { program } from "../cluster/processes.js";
import { TestServer } from "../cluster/rest-server.js";
import { generateMessage } from "../fuzz/generate.js";
import { publicMethods } from "../fuzz/target.js";

let server: TestServer;
beforeAll(async () => {
  server = await TestServer.start();
  await server.call("POST", "/v1/collections", { name: "docs", vectors: [{ dimension: 2, metric: "l2" }] });
});
afterAll(() => server.close());

test("HTTP/2 with prior knowledge on the same port", async () => {
  const session = connectHttp2(server.url);
  const ask = async (method: string, path: string, body = ""): Promise<[number, string]> => {
    const stream = session.request({ ":method": method, ":path": path, "content-type": "application/json" });
    if (method !== "GET") stream.end(body);
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    let text = "";
    for await (const chunk of stream as AsyncIterable<Buffer>) text += chunk.toString();
    return [Number(headers[":status"]), text];
  };
  const answers = await Promise.all([
    ask("GET", "/v1/collections/docs"),
    ask("POST", "/v1/collections/docs/points", '{"points":[{"id":1,"vector":[1,2]}]}'),
    ask("GET", "/nowhere"),
  ]);
  expect(answers.map(([status]) => status)).toEqual([200, 200, 404]);
  expect(answers[1]?.[1]).toContain('"upserted":1');
  session.close();
});

test("bytes that are no request are answered, and the server goes on", async () => {
  const { port } = new URL(server.url);
  for (const bytes of [
    "\0\0\0\0",
    "NONSENSE\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot frames",
    `GET / HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(40_000)}\r\n\r\n`,
  ]) {
    const socket = connectTcp(Number(port), "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write(bytes);
    // It is the server that ends it.
    socket.resume();
    await once(socket, "close");
  }
  expect((await server.call("GET", "/livez")).status).toBe(200);
});

test("a line break in a header or a name goes into no header of an answer", async () => {
  const { port } = new URL(server.url);
  const socket = connectTcp(Number(port), "127.0.0.1");
  socket.write(
    "GET /v1/collections/a%0d%0aset-cookie:x HTTP/1.1\r\nhost: x\r\norigin: http://a\r\ntraceparent: 00-evil\r\nconnection: close\r\n\r\n",
  );
  let text = "";
  for await (const chunk of socket as AsyncIterable<Buffer>) text += chunk.toString();
  const [head, body] = text.split("\r\n\r\n");
  expect(head).toMatch(/^HTTP\/1.1 400/);
  expect(head?.toLowerCase()).not.toMatch(/set-cookie|evil/);
  expect(body).toContain("INVALID_NAME");
});

test("a gateway in a process of its own gives the same answers by gRPC", async () => {
  const channel = createChannel(server.node.address, systemRuntime);
  await channel.ready(5_000);
  const gateway = new RestDoor({
    ...systemRuntime,
    backend: new RemoteBackend(channel),
    logger: silentLogger,
    version: "test",
    ready: () => channel.connected,
  });
  const url = `http://127.0.0.1:${await gateway.listen("127.0.0.1", 0)}`;
  try {
    const payload = '{"n":12345678901234567890}';
    const body = `{"points":[{"id":9007199254740993,"vector":[3,4],"payload":${payload}}]}`;
    const written = await fetch(`${url}/v1/collections/docs/points`, { method: "POST", body });
    expect(await written.json()).toMatchObject({ upserted: 1 });
    const path = "/v1/collections/docs/points/9007199254740993?vectors=true";
    const read = await (await fetch(url + path)).text();
    expect(read).toBe((await server.call("GET", path)).text);
    expect(read).toContain(payload);
    const missing = await fetch(`${url}/v1/collections/none`);
    expect([missing.status, await missing.json()]).toMatchObject([404, { code: "COLLECTION_NOT_FOUND" }]);
    const leave = new AbortController();
    const watch = await fetch(`${url}/v1/collections/docs/watch`, { method: "POST", body: "{}", signal: leave.signal });
    expect(watch.status).toBe(200);
    leave.abort();
  } finally {
    await gateway.drain(2_000);
    channel.close();
  }
});

test("kith gateway serves the REST API as a command of its own, tells where, and ends in order", {
  timeout: 30_000,
}, async () => {
  const args = [program, "gateway", "--target", server.node.address, "--listen", "127.0.0.1:0", "--output", "json"];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    const ready = JSON.parse(line.toString()) as { event: string; http: string; target: string };
    expect(ready).toMatchObject({ event: "ready", target: server.node.address });
    const url = `http://${ready.http}`;
    for (const path of ["/livez", "/readyz"]) expect((await fetch(url + path)).status).toBe(200);
    const body = '{"points":[{"id":77,"vector":[7,7],"payload":{"by":"the gateway"}}]}';
    expect(await (await fetch(`${url}/v1/collections/docs/points`, { method: "POST", body })).json()).toMatchObject({
      upserted: 1,
    });
    const own = await (await fetch(`${url}/v1/collections/docs/points/77`)).text();
    expect(own).toBe((await server.call("GET", "/v1/collections/docs/points/77")).text);
    expect((await fetch(`${url}/v1/collections/none`)).status).toBe(404);
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    expect(await exited).toEqual([0, null]);
    await expect(fetch(`${url}/livez`)).rejects.toThrow();
  } finally {
    child.kill("SIGKILL");
  }
});

/** Statuses that the document names for what a client does wrong. */
const refusals = new Set([200, 201, 204, 304, 400, 404, 405, 408, 409, 412, 413, 415]);

test("requests that were mutated are answered or refused, and break nothing", { timeout: 60_000 }, async () => {
  const bodies = [
    '{"vector":[0.5,1],"limit":3,"filter":{"must":[{"key":"n","range":{"gte":1}}]},"select":{"payload":true}}',
    '{"points":[{"id":1,"vector":[1,2],"payload":{"a":[1,{"b":"c"}]}}],"mode":"insert_only"}',
    '{"query":{"recommend":{"positive":[{"point":1}],"strategy":"best_score"}},"prefetch":[{"limit":3}]}',
    '{"operations":[{"setPayload":{"target":{"ids":{"ids":[1]}},"payload":{"x":1}}}]}',
    '{"ids":[1,"x",{"name":"y"}],"consistency":{"linearizable":true}}',
  ];
  const paths = [
    "query",
    "points",
    "points/batch",
    "points/get",
    "points/scroll",
    "query/groups",
    "points/import",
    "points/facet",
    "watch",
  ];
  const pieces = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "-",
    "1e999",
    "null",
    "\\u0000",
    "__proto__",
    "\ud800",
    "99999999999999999999",
    "../",
    "\0",
  ];
  const mutated = fc
    .tuple(
      fc.constantFrom(...bodies),
      fc.array(fc.tuple(fc.nat(400), fc.nat(6), fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 4 }))), {
        maxLength: 4,
      }),
    )
    .map(([body, edits]) =>
      edits.reduce((text, [at, cut, piece]) => {
        const start = at % (text.length + 1);
        return text.slice(0, start) + piece + text.slice(start + cut);
      }, body),
    );
  const target = fc.oneof(
    fc.constantFrom(...paths.filter((each) => each !== "watch")).map((path) => `/v1/collections/docs/${path}`),
    fc.string({ maxLength: 8 }).map((name) => `/v1/collections/${encodeURIComponent(name)}/points/count`),
    fc.constantFrom("/v1/aliases", "/v1/roles/x", "/v1/collections/docs/points/1?__proto__=1", "/v1/%ff"),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("POST", "PUT", "PATCH", "GET"), target, mutated, async (method, path, body) => {
      const headers: Record<string, string> = path.includes("import") ? { "content-type": "application/x-ndjson" } : {};
      const reply = await server.call(method, path, method === "GET" ? undefined : body, headers);
      expect(refusals, `${method} ${path} ${body}: ${reply.text}`).toContain(reply.status);
    }),
    { numRuns: 400 },
  );
  expect((await server.call("GET", "/readyz")).status).toBe(200);
});

test("at its end the server answers what is in flight, refuses what is new, and closes", async () => {
  const other = await TestServer.start();
  await other.call("POST", "/v1/collections", { name: "docs", vectors: [{ dimension: 2, metric: "l2" }] });
  const watch = await fetch(`${other.url}/v1/collections/docs/watch`, { method: "POST", body: "{}" });
  await other.close();
  await expect(watch.text()).rejects.toThrow();
  await expect(other.call("GET", "/livez")).rejects.toThrow();
});

test("no text of a request makes the server ask an address", async () => {
  let asked = 0;
  const listener = createServer((_, response) => {
    asked++;
    response.end("{}");
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/snapshots/a.snapshot`;
  const open = await TestServer.start({}, { qdrant: { httpPort: 0 } });
  const ask = async (base: string, method: string, path: string, body: object): Promise<number> => {
    const headers = { "content-type": "application/json" };
    return (await fetch(base + path, { method, headers, body: JSON.stringify(body) })).status;
  };
  try {
    const qdrant = `http://${open.node.qdrantAddress}`;
    await ask(qdrant, "PUT", "/collections/a", { vectors: { size: 2, distance: "Dot" } });
    const document = { text: url, model: url, options: { url } };
    const requests: [string, string, string, object][] = [
      [qdrant, "PUT", "/collections/a/snapshots/recover", { location: url }],
      [qdrant, "PUT", "/collections/a/points", { points: [{ id: 1, vector: document, payload: { image: url } }] }],
      [qdrant, "POST", "/collections/a/points/query", { query: { image: url, model: "a" } }],
      [qdrant, "POST", "/collections/a/points/query", { query: document }],
      [qdrant, "POST", "/cluster/recover", {}],
      [open.url, "POST", "/v1/backups/a/restore", { location: url }],
      [open.url, "POST", "/v1/backups", { collection: "a", location: url }],
    ];
    for (const [base, method, path, body] of requests) await ask(base, method, path, body);
    expect(asked).toBe(0);
    await fetch(url);
    expect(asked).toBe(1);
  } finally {
    await open.close();
    listener.close();
  }
});

test("no call of kith.v1 or of Qdrant's API connects to an address that stands in its texts, whatever field has it", {
  timeout: 60_000,
}, async () => {
  let connections = 0;
  const listener = createTcp((socket) => {
    connections++;
    socket.destroy();
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  const address = `127.0.0.1:${port}`;
  const urls = ["http:", "https:", "s3:", "file:", "nats:", ""].map((scheme) => `${scheme}//${address}/a.snapshot`);
  const others = [...urls, address, `localhost:${port}`, `[::ffff:127.0.0.1]:${port}`, `http://2130706433:${port}/a`];
  const random = new SeededRandom(1);
  const open = await TestServer.start({}, { qdrant: { httpPort: 0, grpcPort: 0 } });
  await open.call("POST", "/v1/collections", { name: "docs", vectors: [{ dimension: 3, metric: "l2" }] });
  const words = { collections: ["docs", ...urls], keys: others, payloads: [JSON.stringify({ url: urls })], others };
  const asIs = (bytes: Buffer): Buffer => bytes;
  const asked = async (of: "kith.v1" | "qdrant", target: string): Promise<void> => {
    const client = new Client(target, credentials.createInsecure());
    for (const method of publicMethods(of)) {
      const path = `/${method.parent.typeName}/${method.name}`;
      for (let round = 0; round < 2; round++) {
        await new Promise<void>((resolve) => {
          const call = client.makeBidiStreamRequest(path, asIs, asIs, new Metadata(), { deadline: Date.now() + 300 });
          const end = (): void => resolve();
          call
            .on("data", () => call.cancel())
            .on("error", end)
            .on("end", end);
          call.write(generateMessage(method.input, words, random));
          call.end();
        });
      }
    }
    client.close();
  };
  try {
    await Promise.all([asked("kith.v1", open.node.address), asked("qdrant", open.node.qdrantGrpcAddress)]);
    expect(connections).toBe(0);
    await once(connectTcp(port, "127.0.0.1"), "close");
    expect(connections).toBe(1);
  } finally {
    await open.close();
    listener.close();
  }
});
