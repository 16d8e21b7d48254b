/** Peers that are slow, silent or gone, at the REST port and at gRPC's: each is let go in bounded time, and what it asked for ends with it. */
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { mkdtempSync, rmSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { type Deferred, deferred, systemRuntime } from "../../libs/base/index.js";
import { eventually, makeAuthority, makeCertificate, ManualClock } from "../../libs/base/testing.js";
import { createChannel } from "../../libs/rpc/client/index.js";
import { createRpcServer, type Handlers } from "../../libs/rpc/server/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { pb } from "../../libs/wire/index.js";
import { LocalBackend, QdrantDoor, RemoteBackend, RestDoor } from "../../services/gateway/index.js";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Door {
  rest: RestDoor;
  port: number;
  clock: ManualClock;
}

async function openDoor(options: object = {}): Promise<Door> {
  const clock = new ManualClock();
  const common = { ...systemRuntime, clock, logger: silentLogger, version: "test", ready: () => true };
  const rest = new RestDoor({ backend: new LocalBackend(), ...common, ...options });
  const port = await rest.listen("127.0.0.1", 0);
  ends.push(() => rest.drain(0));
  return { rest, port, clock };
}

/** What the server has said by the time at which it has closed the connection. */
function heard(socket: Socket): { text: () => string; isClosed: () => boolean } {
  let text = "";
  let isClosed = false;
  socket
    .on("data", (chunk: Buffer) => (text += chunk.toString("latin1")))
    .on("error", () => undefined)
    .on("close", () => (isClosed = true));
  ends.push(() => socket.destroy());
  return { text: () => text, isClosed: () => isClosed };
}

test.each(["without TLS", "with TLS"])(
  "headers that drip in are not waited for, %s",
  { timeout: 20_000 },
  async (how) => {
    const folder = mkdtempSync(join(tmpdir(), "kith-slow-"));
    ends.push(() => rmSync(folder, { recursive: true }));
    const authority = makeAuthority(folder, "ca");
    const { certificate: cert, key } = makeCertificate(folder, "node", authority);
    const isTls = how === "with TLS";
    const { port } = await openDoor({ slowHeadersMs: 500, ...(isTls && { tls: { cert, key } }) });
    const socket = isTls
      ? connectTls({
          port,
          host: "127.0.0.1",
          ca: authority.certificate,
          servername: "localhost",
          ALPNProtocols: ["http/1.1"],
        })
      : connectTcp(port, "127.0.0.1");
    await once(socket, isTls ? "secureConnect" : "connect");
    const { text, isClosed } = heard(socket);
    socket.write("GET /livez HTTP/1.1\r\nhost: a\r\n");
    const drip = setInterval(() => {
      if (!socket.destroyed) socket.write("x: y\r\n");
    }, 50);
    ends.push(() => clearInterval(drip));
    await eventually(() => expect(isClosed()).toBe(true), 10_000);
    expect(text()).toMatch(/^(HTTP\/1.1 408 |$)/);
  },
);

test("a body that does not come is given up after 20 seconds, one that drips in with the deadline of its call", async () => {
  const { port, clock } = await openDoor();
  const head =
    "POST /v1/collections HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n";
  const stopped = connectTcp(port, "127.0.0.1");
  const silent = heard(stopped);
  stopped.write(`${head}{"name":`);
  await eventually(() => expect(clock.pending).toBeGreaterThan(1));
  const pending = clock.pending;
  const dripping = connectTcp(port, "127.0.0.1");
  const drip = heard(dripping);
  dripping.write(`${head}{`);
  await eventually(() => expect(clock.pending).toBeGreaterThan(pending));
  await clock.advance(19_000);
  expect([silent.isClosed(), drip.isClosed()]).toEqual([false, false]);
  dripping.write(" ");
  await clock.advance(1_500);
  await eventually(() => expect(silent.isClosed()).toBe(true));
  expect(silent.text()).toMatch(/^HTTP\/1.1 408 [^]*"code":"DEADLINE_EXCEEDED"/);
  for (let ms = 0; ms < 12_000 && !drip.isClosed(); ms += 1_000) {
    if (!dripping.destroyed) dripping.write(" ");
    await clock.advance(1_000);
  }
  await eventually(() => expect(drip.isClosed()).toBe(true));
  expect(drip.text()).toMatch(/^HTTP\/1.1 (408|504) [^]*"code":"DEADLINE_EXCEEDED"/);
});

test("Qdrant's REST port waits neither for headers that drip in nor for a body that does not come", async () => {
  const clock = new ManualClock();
  const common = { ...systemRuntime, clock, logger: silentLogger, version: "test", ready: () => true };
  const door = new QdrantDoor({ backend: new LocalBackend(), ...common, ...{ slowHeadersMs: 500 } });
  const port = await door.listen("127.0.0.1", 0);
  ends.push(() => door.drain(0));
  const dripping = connectTcp(port, "127.0.0.1");
  const headers = heard(dripping);
  dripping.write("GET /livez HTTP/1.1\r\nhost: a\r\n");
  const drip = setInterval(() => void (dripping.destroyed || dripping.write("x: y\r\n")), 50);
  ends.push(() => clearInterval(drip));
  await eventually(() => expect(headers.isClosed()).toBe(true), 10_000);
  expect(headers.text()).toMatch(/^(HTTP\/1.1 408 |$)/);

  const stopped = connectTcp(port, "127.0.0.1");
  const body = heard(stopped);
  const path = "/collections/a/points/query";
  stopped.write(`POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{`);
  const pending = clock.pending;
  await eventually(() => expect(clock.pending).toBeGreaterThan(pending));
  await clock.advance(19_000);
  expect(body.isClosed()).toBe(false);
  await clock.advance(11_500);
  await eventually(() => expect(body.isClosed()).toBe(true));
  expect(body.text()).toMatch(/^HTTP\/1.1 408 /);
});

test("a session of HTTP/2 that asks for nothing is ended, one with a stream is not", async () => {
  const { port, clock } = await openDoor();
  const idle = connectHttp2(`http://127.0.0.1:${port}`);
  ends.push(() => idle.destroy());
  await once(idle, "remoteSettings");
  const used = connectHttp2(`http://127.0.0.1:${port}`);
  ends.push(() => used.destroy());
  await once(used, "remoteSettings");
  const stream = used.request({ ":method": "POST", ":path": "/v1/collections/a/points/import" });
  stream.on("error", () => undefined);
  const streams = clock.pending;
  stream.write("{");
  await eventually(() => expect(clock.pending).not.toBe(streams));
  await clock.advance(15_000);
  stream.write(" ");
  await eventually(() => expect(used.destroyed).toBe(false));
  // Longer than a connection may be idle.
  for (let ms = 0; ms < 66_000; ms += 11_000) {
    await clock.advance(11_000);
    if (!stream.destroyed) stream.write(" ");
    await new Promise((resolve) => setImmediate(resolve));
  }
  await eventually(() => expect(idle.destroyed).toBe(true));
  expect(used.destroyed).toBe(false);
});

/** A service of points whose queries end with their caller alone. */
function pendingQueries(): {
  handlers: Handlers<typeof pb.PointsService>;
  begun: Deferred<void>;
  ended: Deferred<unknown>;
} {
  const [begun, ended] = [deferred<void>(), deferred<unknown>()];
  const query = (_request: pb.QueryRequest, call: { signal?: AbortSignal | undefined }): Promise<never> =>
    new Promise((_resolve, reject) => {
      begun.resolve();
      call.signal?.addEventListener("abort", () => {
        ended.resolve(call.signal?.reason);
        reject(call.signal?.reason as Error);
      });
    });
  const refuse = (): Promise<never> => Promise.reject(new Error("not asked"));
  const handlers = Object.fromEntries(Object.keys(pb.PointsService).map((name) => [name, refuse]));
  return { handlers: { ...handlers, query } as unknown as Handlers<typeof pb.PointsService>, begun, ended };
}

test.each(["in the router's process", "in a process of its own"])(
  "a client that goes away cancels its search, where the gateway is %s",
  async (where) => {
    const { handlers, begun, ended } = pendingQueries();
    const local = new LocalBackend();
    local.addService(pb.PointsService, handlers);
    let backend: LocalBackend | RemoteBackend = local;
    if (where !== "in the router's process") {
      const server = createRpcServer({ node: "router", ...systemRuntime });
      server.addService(pb.PointsService, handlers);
      const channel = createChannel(`127.0.0.1:${await server.listen("127.0.0.1", 0)}`, systemRuntime);
      ends.push(
        () => server.drain(0),
        () => channel.close(),
      );
      await channel.ready(5_000);
      backend = new RemoteBackend(channel);
    }
    const { port } = await openDoor({ backend, clock: systemRuntime.clock });
    const leave = new AbortController();
    const asked = fetch(`http://127.0.0.1:${port}/v1/collections/docs/query`, {
      method: "POST",
      body: '{"vector":[1,2],"limit":1}',
      signal: leave.signal,
    }).catch(() => "left");
    await begun.promise;
    leave.abort();
    expect(await asked).toBe("left");
    expect(await ended.promise).toMatchObject({ code: "CANCELLED" });
  },
);

/** A service of points whose queries answer with one point of so many bytes, and count how often they were asked. */
function largeAnswers(bytes: number): { backend: LocalBackend; asked: () => number } {
  let count = 0;
  const { handlers } = pendingQueries();
  const payload = Buffer.from(`{"text":"${"x".repeat(bytes)}"}`);
  const query = async (): Promise<pb.QueryResponse> => {
    count++;
    const points = [pb.ScoredPoint.fromPartial({ id: { id: { $case: "num", value: 1n } }, payload })];
    return pb.QueryResponse.fromPartial({ points });
  };
  const backend = new LocalBackend();
  backend.addService(pb.PointsService, { ...handlers, query });
  return { backend, asked: () => count };
}

const asking = (port: number, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}/v1/collections/docs/query`, {
    method: "POST",
    headers,
    body: '{"vector":[1,2],"select":{"payload":true}}',
    ...(signal && { signal }),
  });

test("a gateway in a process of its own asks for nothing more while clients leave too much where it is", async () => {
  const size = 16 * 1024 * 1024;
  const { backend, asked } = largeAnswers(size);
  // Room for three of them: then a whole message would not find any.
  const { port, rest } = await openDoor({ backend, clock: systemRuntime.clock, unsentBytesMax: 4 * size + 4096 });
  const body = '{"vector":[1,2],"select":{"payload":true}}';
  const head = `POST /v1/collections/docs/query HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n`;
  const sockets: Socket[] = [];
  const askUnread = (): void => {
    const socket = connectTcp(port, "127.0.0.1").on("error", () => undefined);
    ends.push(() => socket.destroy());
    socket.write(head + body);
    sockets.push(socket);
  };
  for (let i = 0; i < 3; i++) askUnread();
  await eventually(() => expect(rest.unsentBytes).toBeGreaterThan(3 * size));
  expect(asked()).toBe(3);
  for (let i = 0; i < 8; i++) askUnread();
  const refused = await asking(port);
  expect([refused.status, await refused.json()]).toMatchObject([429, { code: "RESOURCE_EXHAUSTED" }]);
  expect(asked()).toBe(3);
  for (const socket of sockets) socket.destroy();
  await eventually(() => expect(rest.unsentBytes).toBe(0));
  expect((await (await asking(port)).text()).length).toBeGreaterThan(size);
});

test("an answer whose client leaves while it is compressed is not counted for ever", async () => {
  const { backend, asked } = largeAnswers(8 * 1024 * 1024);
  const { port, rest } = await openDoor({ backend, clock: systemRuntime.clock });
  for (let i = 0; i < 4; i++) {
    const leave = new AbortController();
    const answer = asking(port, { "accept-encoding": "gzip" }, leave.signal).then(
      (response) => response.arrayBuffer(),
      () => "left",
    );
    await eventually(() => expect(asked()).toBe(i + 1));
    leave.abort();
    await answer.catch(() => undefined);
  }
  await eventually(() => expect(rest.unsentBytes).toBe(0));
});

test.each(["", "PRI", "kithlin"])(
  "who says no more than %j to the gRPC port is let go after 10 seconds",
  async (said) => {
    const clock = new ManualClock();
    const server = createRpcServer({ node: "router", ...systemRuntime, clock });
    server.addProtocol({
      service: "link",
      preface: Buffer.from("kithlink"),
      serve: () => ({ drain: () => undefined, shutDown: () => undefined }),
    });
    const port = await server.listen("127.0.0.1", 0);
    ends.push(() => {
      const drained = server.drain(0);
      return Promise.all([drained, clock.advance(1_000)]);
    });
    const before = clock.pending;
    const socket = connectTcp(port, "127.0.0.1");
    const { isClosed } = heard(socket);
    if (said !== "") socket.write(said);
    await eventually(() => expect(clock.pending).toBeGreaterThan(before));
    await clock.advance(9_000);
    expect(isClosed()).toBe(false);
    await clock.advance(1_001);
    await eventually(() => expect(isClosed()).toBe(true));
  },
);
