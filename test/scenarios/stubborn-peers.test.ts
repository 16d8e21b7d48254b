/**
 * SIGTERM while peers do what they like: connected and silent, stopped amid the first bytes, not reading their answers, frozen.
 * A node ends all the same, on an idle machine within its drain time and a second.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { freePort } from "../../libs/base/testing.js";
import { untilUp } from "../cluster/until-up.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";

const drainMs = 1_000;
/** What a busy machine may add; where peers hold up the end, it never comes. */
const slackMs = 10_000;
let restAddress = "";
const cluster = useCluster(async () => {
  const port = await freePort();
  restAddress = `127.0.0.1:${port}`;
  return startProcesses({
    ...{ shardNodes: 1, replicas: 1, flags: ["--drain-timeout", `${drainMs}ms`] },
    env: { KITH_HTTP_PORT: String(port) },
  });
});

const sockets: Socket[] = [];
const sessions: ClientHttp2Session[] = [];
const children: ChildProcess[] = [];

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const session of sessions.splice(0)) session.destroy();
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

beforeEach(() => untilUp(cluster().target, 2));

/** A connection to host:port that has sent these bytes, says nothing more, and reads nothing. */
async function silent(address: string, bytes: string | Buffer): Promise<Socket> {
  const [host, port] = address.split(":");
  const socket = connectTcp(Number(port), host);
  sockets.push(socket);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  if (bytes.length > 0) socket.write(bytes);
  return socket;
}

/** A gRPC call with an empty message whose answer finds no room: the client's window is 0. */
async function notReading(address: string, path: string): Promise<void> {
  const session = connectHttp2(`http://${address}`, { settings: { initialWindowSize: 0 } });
  sessions.push(session);
  session.on("error", () => undefined);
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.on("error", () => undefined);
  stream.end(Buffer.alloc(5));
  await once(stream, "response");
}

/** Clients of REST that say nothing, stop amid a request, or leave what they asked for where it is. */
async function pesterRest(address: string): Promise<void> {
  const head = (line: string, ...more: string[]): string => [line, "host: x", ...more, "", ""].join("\r\n");
  const held = "POST /v1/collections/held";
  await silent(address, "");
  await silent(address, "PRI * HT");
  await silent(address, "GET /v1/collections HTTP/1.1\r\nhost: x\r\n");
  await silent(address, `${head("POST /v1/collections HTTP/1.1", "content-length: 99")}{"name":`);
  await silent(address, `${head(`${held}/points/import HTTP/1.1`, "transfer-encoding: chunked")}9\r\n{"id":1,`);
  // More than the buffers of both sides hold, and an answer without an end.
  const pages = await silent(address, head("GET /openapi.json HTTP/1.1").repeat(200));
  const watch = await silent(address, `${head(`${held}/watch HTTP/1.1`, "content-length: 2")}{}`);
  await Promise.all([once(pages, "readable"), once(watch, "readable")]);
  const session = connectHttp2(`http://${address}`, { settings: { initialWindowSize: 0 } });
  sessions.push(session);
  session.on("error", () => undefined);
  const unread = session.request({ ":path": "/openapi.json" });
  const unsent = session.request({ ":method": "POST", ":path": "/v1/collections" });
  for (const stream of [unread, unsent]) stream.on("error", () => undefined);
  unsent.write('{"name":');
  await once(unread, "response");
}

/** A process that watches the health, and is stopped once it has seen the first answer. */
async function stoppedWatcher(address: string): Promise<void> {
  const program = `
    const session = require("node:http2").connect("http://${address}");
    const stream = session.request({ ":method": "POST", ":path": "/grpc.health.v1.Health/Watch", "content-type": "application/grpc", te: "trailers" });
    stream.once("data", () => process.send("watching"));
    stream.end(Buffer.alloc(5));`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  children.push(child);
  await once(child, "message");
  child.kill("SIGSTOP");
}

/** Milliseconds from SIGTERM until the node has ended, with 0. */
async function endOf(node: string): Promise<number> {
  const ended = cluster().ended(node);
  const startMs = performance.now();
  cluster().signal(node, "SIGTERM");
  expect(await ended).toBe(0);
  return performance.now() - startMs;
}

async function linkAddressOf(node: string): Promise<string> {
  const client = await cluster().connect();
  const { nodes } = await client.cluster.describe();
  const address = nodes.find(({ id }) => id === node)?.address;
  client.close();
  expect(address).toMatch(/:/);
  return address as string;
}

test.each(["router-0", "shard-0"])(
  "peers that are silent, stopped or do not read do not hold up %s",
  { timeout: 30_000 },
  async (node) => {
    const address = node === "router-0" ? cluster().target : await linkAddressOf(node);
    const client = await cluster().connect();
    await client.collection("held").create({ vectors: { dimension: 2 }, ifNotExists: true });
    await silent(address, "");
    await silent(address, "PRI * HTTP/2");
    await silent(address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await silent(
      address,
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "latin1"),
    );
    await silent(address, "kithli");
    await silent(address, "kithlink\x01");
    await silent(address, "GET / HTTP/1.1\r\nhost: x\r\n");
    await silent(address, Buffer.from("160301020001000001fc0303", "hex"));
    await stoppedWatcher(address);
    await notReading(address, "/grpc.health.v1.Health/Watch");
    await notReading(address, "/grpc.health.v1.Health/Check");
    if (node === "router-0") {
      await notReading(address, "/kith.v1.Collections/List");
      await pesterRest(restAddress);
    }
    const tookMs = await endOf(node);
    await cluster().start(node);
    expect(tookMs).toBeLessThan(drainMs + slackMs);
  },
);

test.each(["router-0", "shard-0"])(
  "a NATS server that is frozen does not hold up %s",
  { timeout: 30_000 },
  async (node) => {
    const client = await cluster().connect();
    const collection = client.collection(`frozen-${node}`);
    await collection.create({ vectors: { dimension: 2 } });
    await collection.upsert({ id: 1, vector: [1, 2] });
    cluster().signalNats("SIGSTOP");
    let tookMs: number;
    try {
      tookMs = await endOf(node);
    } finally {
      cluster().signalNats("SIGCONT");
    }
    await cluster().start(node);
    expect(tookMs).toBeLessThan(drainMs + slackMs);
  },
);
