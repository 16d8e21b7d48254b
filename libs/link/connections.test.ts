import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { Client, credentials } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { type Clock, KithError, sleep, systemClock, systemRuntime } from "../base/index.js";
import { eventually } from "../base/testing.js";
import { silentLogger } from "../telemetry/index.js";
import { pb } from "../wire/index.js";
import { createRpcServer } from "../rpc/server/index.js";
import { ByteWriter } from "./bytes.js";
import { LinkClient, type LinkClientOptions } from "./client.js";
import { readMessage } from "./codec.js";
import { beginFrame, finishFrame, frameHeaderBytes, FrameReader, frameType } from "./frames.js";
import { decodeGreeting, encodeGreeting, linkVersion, preface } from "./greeting.js";
import { call, cleanups, counted, linkTo, proxyTo, replica, serve } from "./testing/link.fixture.js";

describe("greetings", () => {
  /** A server that is no node: it answers every connection with these bytes. */
  async function answering(bytes: Buffer): Promise<number> {
    const listener = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.write(bytes));
    });
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => new Promise((resolve) => listener.close(resolve)));
    return (listener.address() as AddressInfo).port;
  }

  /** Why a link cannot be used. */
  async function refusalOf(port: number, options: Partial<LinkClientOptions> = {}): Promise<KithError> {
    const logged: string[] = [];
    const logger = { ...silentLogger, error: (message: string) => void logged.push(message) };
    const link = new LinkClient({
      ...systemRuntime,
      address: `127.0.0.1:${port}`,
      backoff: { initialMs: 1, maxMs: 2 },
      logger,
      ...options,
    });
    cleanups.push(() => link.close());
    const error = await eventually(async () => {
      const failure = await link.read("count", replica, { minSequence: 0 }, call).catch((thrown: KithError) => thrown);
      expect(failure).toBeInstanceOf(KithError);
      // While the connection waits for its next attempt, the message says less.
      expect((failure as KithError).cause).toBeInstanceOf(KithError);
      return failure as KithError;
    });
    expect(error).toMatchObject({ code: "SHARD_UNAVAILABLE", retryable: true });
    expect(link.state).toBe("connecting");
    // However often it is refused.
    await sleep(systemClock, 30);
    expect(logged).toHaveLength(1);
    return error;
  }

  test("another node than the one that is wanted is not spoken to", async () => {
    const { port } = await serve({ count: async () => counted(1) });
    expect((await refusalOf(port, { node: "shard-2", self: "router-1" })).message).toMatch(
      /this is node shard-1, and router-1 asks for shard-2/,
    );
    const link = await linkTo(port, { node: "shard-1" });
    expect(await link.read("count", replica, { minSequence: 0 }, call)).toEqual(counted(1));
  });

  test("a node of another version is refused, whoever notices it", async () => {
    const later = encodeGreeting({ node: "shard-9", wanted: "", refusal: "" });
    later.writeUInt16LE(linkVersion + 1, preface.length);
    const { message } = await refusalOf(await answering(later));
    expect(message).toMatch(/node shard-9 speaks version 2 of the link, and this one version 1: run one release/);

    const { port } = await serve({});
    const socket = connect(port, "127.0.0.1");
    socket.write(later);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    expect(decodeGreeting(Buffer.concat(chunks))?.greeting).toMatchObject({
      node: "shard-1",
      refusal: "node shard-1 speaks version 1 of the link, and shard-9 version 2: run one release on all nodes",
    });
  });

  test.each([
    ["no node at all", Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), /does not speak the link/],
    ["a greeting that is no JSON", Buffer.from("kithlink\x01\x00\x02\x00xx"), /no JSON/],
    ["an endless greeting", Buffer.from("kithlink\x01\x00\xff\xffxx", "latin1"), /a greeting of 65535 bytes/],
  ])("what answers may be %s", async (_what, bytes, message) => {
    expect((await refusalOf(await answering(bytes))).message).toMatch(message);
  });

  test("a server of gRPC alone, such as an older release, is named as what it is", async () => {
    const server = createRpcServer({ ...systemRuntime, node: "old" });
    const port = await server.listen("127.0.0.1", 0);
    cleanups.push(() => server.drain(0));
    expect((await refusalOf(port)).message).toMatch(/does not speak the link|ended by/);
  });

  test("a greeting that comes byte by byte is understood", async () => {
    const { port } = await serve({ count: async () => counted(4) });
    const slow = createServer((inner) => {
      const outer = connect(port, "127.0.0.1");
      for (const socket of [inner, outer]) socket.on("error", () => socket.destroy()).setNoDelay(true);
      const trickle = async (from: Socket, to: Socket): Promise<void> => {
        for await (const chunk of from) {
          for (const byte of chunk as Buffer) {
            to.write(Buffer.from([byte]));
            await new Promise(setImmediate);
          }
        }
        to.end();
      };
      for (const way of [trickle(inner, outer), trickle(outer, inner)]) way.catch(() => inner.destroy());
    });
    await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => new Promise((resolve) => slow.close(resolve)));
    const link = await linkTo((slow.address() as AddressInfo).port, { node: "shard-1" });
    expect(await link.read("count", replica, { minSequence: 0 }, call)).toEqual(counted(4));
  });
});

describe("the port that the link shares with gRPC", () => {
  test("serves health beside it, and ends connections that say nothing", async () => {
    const { server, port } = await serve({ count: async () => counted(1) });
    const link = await linkTo(port);
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    cleanups.push(() => client.close());
    const health = (): Promise<number[]> =>
      new Promise((resolve, reject) => {
        const same = (bytes: Buffer): Buffer => bytes;
        const service = Buffer.from("kith.internal.v1.Link");
        const asked = Buffer.concat([Buffer.from([10, service.length]), service]);
        client.makeUnaryRequest("/grpc.health.v1.Health/Check", same, same, asked, (error, answer) =>
          error === null ? resolve([...(answer ?? [])]) : reject(error),
        );
      });
    // HealthCheckResponse with status SERVING.
    expect(await health()).toEqual([8, 1]);
    expect(await link.read("count", replica, { minSequence: 0 }, call)).toEqual(counted(1));
    const silent = connect(port, "127.0.0.1");
    await once(silent, "connect");
    const closed = once(silent, "close");
    silent.resume();
    await server.drain(1_000);
    await closed;
  });

  test("a router that breaks the format loses its connection, and nobody else does", async () => {
    const { port } = await serve({ count: async () => counted(1) });
    const link = await linkTo(port);
    const broken = connect(port, "127.0.0.1");
    broken.write(encodeGreeting({ node: "router-2", wanted: "", refusal: "" }));
    await once(broken, "data");
    const closed = once(broken, "close");
    broken.write(Buffer.alloc(frameHeaderBytes, 0xff));
    await closed;
    expect(await link.read("count", replica, { minSequence: 0 }, call)).toEqual(counted(1));
  });

  test("a request of an unknown type, or without its end, fails alone", async () => {
    const { port } = await serve({ count: async () => counted(1) });
    const socket = connect(port, "127.0.0.1");
    socket.write(encodeGreeting({ node: "router-2", wanted: "", refusal: "" }));
    await once(socket, "data");
    const writer = new ByteWriter();
    for (const [serial, type] of [200, 4, 4].entries()) {
      beginFrame(writer, type, 0, serial, serial);
      writer.u32(1_000);
      writer.u32(3);
      writer.text("c1");
      writer.align();
      // A count says from which sequence on, whether an estimate will do, and the length of its filter.
      if (serial === 2) {
        writer.u64(0);
        writer.u8(0);
        writer.u32(0);
      }
      finishFrame(writer, "request");
    }
    for (const piece of writer.take()) socket.write(piece);
    const answers: unknown[] = [];
    const reader = new FrameReader(({ type, serial }, body) => {
      const text = type === frameType.failure ? readMessage(body, pb.Failure).code : body.u64();
      answers[serial] = text;
    });
    socket.on("data", (chunk: Buffer) => reader.push(chunk));
    await eventually(() => expect(answers).toEqual(["UNIMPLEMENTED", "INVALID_ARGUMENT", 1]));
    socket.destroy();
  });

  test("a connection that gives no sign of life is given up, and one that does is kept", async () => {
    const { port } = await serve({ count: async () => counted(1) });
    const proxy = await proxyTo(port);
    const fast: Clock = { ...systemClock, every: (callback, periodMs) => systemClock.every(callback, periodMs / 25) };
    const link = await linkTo(proxy.port, { clock: fast });
    const states: string[] = [];
    link.onState((state) => states.push(state));
    await sleep(systemClock, 1_200);
    expect(states).toEqual([]);
    for (const socket of proxy.sockets) socket.pause();
    await eventually(() => expect(states).toEqual(["connecting", "connected"]));
  });
});
