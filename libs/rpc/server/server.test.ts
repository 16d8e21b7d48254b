import { connect } from "node:http2";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Client, credentials, loadPackageDefinition, Metadata } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { protoPath as healthProto } from "grpc-health-check";
import { deferred, KithError, sleep, systemClock, systemRuntime } from "../../base/index.js";
import { eventually } from "../../base/testing.js";
import type { Logger } from "../../telemetry/index.js";
import { pb } from "../../wire/index.js";
import { type Channel, createChannel, openStream, unaryCall } from "../client/channel.js";
import { answerEach } from "./request-stream.js";
import { createRpcServer, type RpcServer, type RpcServerOptions } from "./server.js";
import type { UnaryHandler } from "./unary.js";

const service = { count: pb.PointsService.count, queryStream: pb.PointsService.queryStream };
type Count = UnaryHandler<pb.CountRequest, pb.CountResponse>;
const request = (collection: string): pb.CountRequest => pb.CountRequest.fromPartial({ collection });
const counted = Promise.resolve({ count: 7, token: undefined, explain: undefined });

let server: RpcServer;
let channel: Channel;
let address: string;
let count: Count;
let logged: { level: string; message: string }[];

const logger: Logger = {
  debug: (message) => logged.push({ level: "debug", message }),
  info: (message) => logged.push({ level: "info", message }),
  warn: (message) => logged.push({ level: "warn", message }),
  error: (message) => logged.push({ level: "error", message }),
};

async function serve(options: Partial<RpcServerOptions> = {}): Promise<void> {
  server = createRpcServer({ ...systemRuntime, node: "n1", logger, ...options });
  server.addService(service, {
    count: (message, call) => count(message, call),
    queryStream: (stream) =>
      answerEach<pb.QueryStreamRequest, pb.QueryStreamResponse>(stream, {
        inFlightMax: 4,
        defaultTimeoutMs: 5_000,
        idOf: (message) => message.requestId,
        timeoutMsOf: (message) => message.timeoutMs,
        isCancel: (message) => message.cancel,
        answer: async ({ requestId, query }, call) => {
          const { token } = await count(request(query?.collection ?? ""), call as never);
          return { requestId, outcome: { $case: "response", value: pb.QueryResponse.fromPartial({ token }) } };
        },
        fail: ({ requestId }, error) => ({
          requestId,
          outcome: { $case: "failure", value: { ...emptyFailure, code: error.code } },
        }),
      }),
  });
  server.addReflection();
  address = `127.0.0.1:${await server.listen("127.0.0.1", 0)}`;
  channel = createChannel(address, systemRuntime);
}
const emptyFailure = { code: "", message: "", retryable: false, retryAfterMs: 0, details: {}, grpcStatus: 0 };

beforeEach(() => {
  logged = [];
  count = () => counted;
});
afterEach(async () => {
  channel.close();
  await server.drain(0);
});

describe("unary calls", () => {
  test("answer, and fail with typed errors", async () => {
    await serve();
    await expect(unaryCall(channel, service.count, request("c"))).resolves.toEqual({
      count: 7,
      token: undefined,
      explain: undefined,
    });
    count = ({ collection }) => {
      throw new KithError("COLLECTION_NOT_FOUND", `no collection "${collection}"`, {
        details: { collection },
        retryAfterMs: 20,
      });
    };
    await expect(unaryCall(channel, service.count, request("x"))).rejects.toMatchObject({
      code: "COLLECTION_NOT_FOUND",
      message: 'no collection "x"',
      details: { collection: "x" },
      retryAfterMs: 20,
    });
    expect(logged.at(-1)).toMatchObject({ level: "debug" });
  });

  test("a fault of the server tells the client a reference and the log the rest", async () => {
    await serve();
    count = () => Promise.reject(new TypeError("cannot read /secret/path"));
    const error = await unaryCall(channel, service.count, request("x")).catch((thrown: KithError) => thrown);
    expect(error).toMatchObject({ code: "INTERNAL" });
    expect((error as KithError).message).not.toContain("secret");
    expect(logged).toEqual([{ level: "error", message: expect.stringContaining("/secret/path") as string }]);
  });

  test("the client's deadline reaches the handler, and aborts its signal", async () => {
    await serve();
    const reasons: unknown[] = [];
    count = (_message, call) => {
      expect(call.deadlineMs - performance.now()).toBeLessThan(501);
      return new Promise((_resolve, reject) => {
        call.signal.addEventListener("abort", () => {
          reasons.push(call.signal.reason);
          reject(call.signal.reason as KithError);
        });
      });
    };
    // Connected before, so that the call arrives long before its deadline.
    await channel.ready(20_000);
    const deadlineMs = performance.now() + 500;
    await expect(unaryCall(channel, service.count, request("c"), { deadlineMs })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
    });
    await eventually(() => reasons.length === 1);
    // On a busy machine the client gives up before the server sees that the time is over.
    expect(["DEADLINE_EXCEEDED", "CANCELLED"]).toContain((reasons[0] as KithError).code);
    await eventually(() => server.inFlight === 0);
  });

  test("the server's own deadline ends calls that came without one, also where the handler does not listen", async () => {
    await serve({ defaultDeadlineMs: 30 });
    const never = deferred<pb.CountResponse>();
    count = () => never.promise;
    await expect(unaryCall(channel, service.count, request("c"))).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    expect(server.inFlight).toBe(1);
    never.resolve({ count: 1, token: undefined, explain: undefined });
    await eventually(() => server.inFlight === 0);
  });

  test("cancellation reaches the handler", async () => {
    await serve();
    const started = deferred<void>();
    const stopped = deferred<unknown>();
    count = async (_message, call) => {
      started.resolve();
      await sleep(systemClock, 10_000, call.signal).catch((error: unknown) => stopped.resolve(error));
      return { count: 0, token: undefined, explain: undefined };
    };
    const controller = new AbortController();
    const call = unaryCall(channel, service.count, request("c"), { signal: controller.signal });
    await started.promise;
    controller.abort();
    await expect(call).rejects.toMatchObject({ code: "CANCELLED" });
    expect(await stopped.promise).toMatchObject({ code: "CANCELLED" });
  });

  test("a large answer whose client has gone meanwhile is not counted as unsent", async () => {
    await serve();
    const started = deferred<void>();
    const stopped = deferred<void>();
    const token = { collectionId: "x".repeat(1024 * 1024), shards: [] };
    count = async (_message, call) => {
      started.resolve();
      await new Promise<void>((resolve) => call.signal.addEventListener("abort", () => resolve()));
      stopped.resolve();
      return { count: 0, token, explain: undefined };
    };
    const controller = new AbortController();
    const call = unaryCall(channel, service.count, request("c"), { signal: controller.signal });
    await started.promise;
    controller.abort();
    await expect(call).rejects.toMatchObject({ code: "CANCELLED" });
    await stopped.promise;
    await eventually(() => server.inFlight === 0);
    expect(server.unsentBytes).toBe(0);
    // Of one that is taken nothing is left either.
    count = async () => ({ count: 0, token, explain: undefined });
    await unaryCall(channel, service.count, request("c"));
    await eventually(() => server.unsentBytes === 0);
  });

  test("no more than the limit run at once", async () => {
    await serve({ inFlightMax: 2 });
    const gate = deferred<pb.CountResponse>();
    count = () => gate.promise;
    const calls = Array.from({ length: 5 }, () =>
      unaryCall(channel, service.count, request("c")).then(
        () => "ok",
        (error: KithError) => `${error.code} ${error.retryAfterMs}`,
      ),
    );
    await eventually(() => logged.length === 3);
    gate.resolve({ count: 1, token: undefined, explain: undefined });
    expect((await Promise.all(calls)).sort()).toEqual([...Array<string>(3).fill("RESOURCE_EXHAUSTED 100"), "ok", "ok"]);
  });

  test("bytes that are no message give INVALID_ARGUMENT; what is too large BATCH_TOO_LARGE; the server lives on", async () => {
    await serve({ messageBytes: 4_096 });
    const raw = (bytes: Buffer) => ({ ...service.count, requestSerialize: () => bytes });
    for (const hex of ["0aff", "0a05", "ffffffff", "0b", "08", "0a02c3"]) {
      const call = unaryCall(channel, raw(Buffer.from(hex, "hex")), request(""));
      const error = await call.then(String, (thrown: KithError) => thrown);
      expect(error, hex).toMatchObject({ code: "INVALID_ARGUMENT", details: { method: "/kith.v1.Points/Count" } });
      expect((error as KithError).message).not.toContain("node_modules");
    }
    const large = createChannel(address, systemRuntime);
    // The second one is more than the server takes in to say so: grpc-js answers.
    const refused = { code: "BATCH_TOO_LARGE", retryable: false };
    await expect(unaryCall(large, raw(Buffer.alloc(6_000)), request(""))).rejects.toMatchObject({
      ...refused,
      details: { sizeBytes: "6000", limitBytes: "4096" },
    });
    await expect(unaryCall(large, raw(Buffer.alloc(64 * 1024)), request(""))).rejects.toMatchObject({
      ...refused,
      message: expect.stringMatching(/65536 vs 8192.*send or ask for less/) as string,
    });
    large.close();
    await expect(unaryCall(channel, service.count, request("c"))).resolves.toEqual({
      count: 7,
      token: undefined,
      explain: undefined,
    });
    // An answer that cannot be encoded is a fault of the server's, and is logged as one.
    count = async () => ({ count: -1, token: undefined, explain: undefined });
    await expect(unaryCall(channel, service.count, request("c"))).rejects.toMatchObject({ code: "INTERNAL" });
    expect(logged.at(-1)).toMatchObject({ level: "error" });
  });

  test("requests that break the protocol of gRPC do not harm the server", async () => {
    await serve();
    const session = connect(`http://${address}`);
    session.on("error", () => undefined);
    const statusOf = (frame: Buffer, headers: Record<string, string> = {}): Promise<unknown> =>
      new Promise((resolve) => {
        const stream = session.request({
          ":method": "POST",
          ":path": service.count.path,
          "content-type": "application/grpc",
          te: "trailers",
          ...headers,
        });
        stream.on("response", (head: Record<string, unknown>) => {
          if (head["grpc-status"] !== undefined) resolve(Number(head["grpc-status"]));
        });
        stream.on("trailers", (trailers: Record<string, unknown>) => resolve(Number(trailers["grpc-status"])));
        stream.on("error", () => resolve("reset"));
        stream.on("close", () => resolve("closed"));
        stream.resume();
        stream.end(frame);
      });
    expect(await statusOf(Buffer.alloc(0))).toBe(12);
    // Compressed, but not with gzip; and a length beyond what follows.
    expect(await statusOf(Buffer.from("0100000003616263", "hex"), { "grpc-encoding": "gzip" })).toBe(13);
    await statusOf(Buffer.from("00ffffffff", "hex"));
    expect(await statusOf(Buffer.from("0000000000", "hex"))).toBe(0);
    session.destroy();
    await expect(unaryCall(channel, service.count, request("c"))).resolves.toEqual({
      count: 7,
      token: undefined,
      explain: undefined,
    });
  });
});

describe("request streams", () => {
  test("one request's error does not end the stream; malformed bytes do, with INVALID_ARGUMENT", async () => {
    await serve();
    const answers: pb.QueryStreamResponse[] = [];
    const over = deferred<KithError | undefined>();
    const sent: { bytes?: Buffer } = {};
    const method = {
      ...service.queryStream,
      requestSerialize: (message: pb.QueryStreamRequest) => sent.bytes ?? service.queryStream.requestSerialize(message),
    };
    const stream = openStream(channel, method, {
      onMessage: (message) => answers.push(message),
      onEnd: (error) => over.resolve(error),
    });
    count = ({ collection }) => {
      if (collection === "bad") throw new KithError("COLLECTION_NOT_FOUND", "no");
      return counted;
    };
    const message = (requestId: number, collection: string): pb.QueryStreamRequest => ({
      other: undefined,
      requestId,
      query: pb.QueryRequest.fromPartial({ collection }),
      timeoutMs: 0,
      cancel: false,
      traceparent: "",
    });
    stream.write(message(1, "bad"));
    stream.write(message(2, "good"));
    await eventually(() => answers.length === 2);
    expect(answers.map(({ requestId, outcome }) => [requestId, outcome?.$case]).sort()).toEqual([
      [1, "failure"],
      [2, "response"],
    ]);
    await eventually(() => stream.writable);
    sent.bytes = Buffer.from("0aff", "hex");
    stream.write(message(3, "good"));
    expect(await over.promise).toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("what waited for a client that has gone is not counted as unsent", async () => {
    await serve();
    const token = { collectionId: "x".repeat(1024 * 1024), shards: [] };
    count = async () => ({ count: 1, token, explain: undefined });
    const session = connect(`http://${address}`).on("error", () => undefined);
    const headers = { ":method": "POST", ":path": service.queryStream.path, "content-type": "application/grpc" };
    const stream = session.request({ ...headers, te: "trailers" }).on("error", () => undefined);
    for (let requestId = 1; requestId <= 40; requestId++) {
      const bytes = pb.QueryStreamRequest.encode(pb.QueryStreamRequest.fromPartial({ requestId, query: {} })).finish();
      const head = Buffer.alloc(5);
      head.writeUInt32BE(bytes.length, 1);
      stream.write(Buffer.concat([head, bytes]));
    }
    // One is being written, and others wait behind it.
    await eventually(() => server.unsentBytes > 2 * token.collectionId.length);
    session.destroy();
    await eventually(() => server.unsentBytes === 0);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(server.unsentBytes).toBe(0);
  });

  test("the server reads no further while a client has too much in flight", async () => {
    await serve();
    const gate = deferred<pb.CountResponse>();
    let running = 0;
    let peak = 0;
    count = async () => {
      peak = Math.max(peak, ++running);
      await gate.promise;
      running--;
      return { count: 1, token: undefined, explain: undefined };
    };
    let answered = 0;
    const over = deferred<KithError | undefined>();
    const stream = openStream(channel, service.queryStream, {
      onMessage: () => void answered++,
      onEnd: (error) => over.resolve(error),
    });
    for (let requestId = 1; requestId <= 50; requestId++) {
      stream.write({
        requestId,
        query: pb.QueryRequest.fromPartial({}),
        timeoutMs: 0,
        cancel: false,
        traceparent: "",
        other: undefined,
      });
      await stream.drained();
    }
    stream.end();
    await eventually(() => running >= 4);
    gate.resolve({ count: 1, token: undefined, explain: undefined });
    await eventually(() => answered === 50);
    expect(await over.promise).toBeUndefined();
    // The messages that were parsed already when reading stopped still arrive (the stream's buffer: 16).
    expect(peak).toBeLessThanOrEqual(4 + 16);
  });
});

describe("drain", () => {
  test("turns health, refuses new calls, lets those in flight end, closes", async () => {
    await serve();
    const gate = deferred<pb.CountResponse>();
    const seen: string[] = [];
    count = ({ collection }) => {
      seen.push(collection);
      return gate.promise;
    };
    const first = unaryCall(channel, service.count, request("first"));
    await eventually(() => seen.length === 1);
    const health = await healthOf("");
    expect(await health()).toBe("SERVING");
    const drained = server.drain(10_000);
    await eventually(() => seen.length === 1);
    expect(await health()).toBe("NOT_SERVING");
    await expect(unaryCall(channel, service.count, request("second"))).rejects.toMatchObject({
      code: "SHUTTING_DOWN",
      retryable: true,
    });
    gate.resolve({ count: 9, token: undefined, explain: undefined });
    await expect(first).resolves.toEqual({ count: 9, token: undefined, explain: undefined });
    await drained;
    expect(seen).toEqual(["first"]);
    await expect(unaryCall(channel, service.count, request("third"))).rejects.toMatchObject({
      code: "SERVER_UNREACHABLE",
    });
  });

  test("does not wait longer than it may", async () => {
    await serve();
    let reason: unknown;
    const started = deferred<void>();
    count = (_message, call) => {
      call.signal.addEventListener("abort", () => (reason = call.signal.reason as unknown));
      started.resolve();
      return new Promise(() => undefined);
    };
    const call = unaryCall(channel, service.count, request("c")).catch((error: KithError) => error);
    await started.promise;
    await server.drain(20);
    expect(await call).toMatchObject({ code: "SHUTTING_DOWN" });
    expect(reason).toMatchObject({ code: "SHUTTING_DOWN" });
  });
});

test("a peer that watches the health does not hold the end", async () => {
  await serve();
  const client = new Client(address, credentials.createInsecure());
  const seen: number[] = [];
  const watch = client.makeServerStreamRequest(
    "/grpc.health.v1.Health/Watch",
    () => Buffer.alloc(0),
    (bytes: Buffer) => bytes[1] ?? 0,
    "",
  );
  watch.on("data", (status: number) => seen.push(status));
  watch.on("error", () => seen.push(-1));
  await eventually(() => seen.length === 1);
  await server.drain(1_000);
  await eventually(() => seen.length === 3);
  // SERVING, NOT_SERVING, the end of the connection.
  expect(seen).toEqual([1, 2, -1]);
  client.close();
}, 15_000);

interface HealthClient {
  check(message: object, done: (error: Error | null, response: { status: string }) => void): void;
  list(
    message: object,
    done: (error: Error | null, response: { statuses: Record<string, { status: string }> }) => void,
  ): void;
  close(): void;
}

/** A client made of the file that the standard's package brings. */
function healthClient(): HealthClient {
  const loaded = loadPackageDefinition(loadSync(healthProto, { enums: String })) as unknown as {
    grpc: { health: { v1: { Health: new (address: string, creds: unknown) => HealthClient } } };
  };
  return new loaded.grpc.health.v1.Health(address, credentials.createInsecure());
}

async function healthOf(service: string): Promise<() => Promise<string>> {
  const client = healthClient();
  return () =>
    new Promise((resolve, reject) => {
      client.check({ service }, (error, response) => (error ? reject(error) : resolve(response.status)));
    });
}

describe("health and reflection", () => {
  test("health by service", async () => {
    await serve();
    expect(await (await healthOf("kith.v1.Points"))()).toBe("SERVING");
    server.setServing("kith.v1.Points", false);
    expect(await (await healthOf("kith.v1.Points"))()).toBe("NOT_SERVING");
    await expect((await healthOf("nothing"))()).rejects.toMatchObject({ code: 5 });
  });

  test("health of all services at once", async () => {
    await serve();
    server.setServing("kith.v1.Points", false);
    const client = healthClient();
    const listed = new Promise<Record<string, { status: string }>>((resolve, reject) => {
      client.list({}, (error, response) => (error ? reject(error) : resolve(response.statuses)));
    });
    expect(await listed).toMatchObject({ "": { status: "SERVING" }, "kith.v1.Points": { status: "NOT_SERVING" } });
    client.close();
  });

  test.each(["v1", "v1alpha"])("reflection %s names the public services with their files", async (version) => {
    await serve();
    const client = new Client(address, credentials.createInsecure());
    // ServerReflectionRequest {list_services = 7} and {file_containing_symbol = 4}; answers are read as text.
    const ask = (field: number, value: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const stream = client.makeBidiStreamRequest<Buffer, Buffer>(
          `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
          (bytes) => bytes,
          (bytes) => bytes,
          new Metadata(),
        );
        stream.on("error", reject);
        stream.on("data", (bytes: Buffer) => {
          resolve(bytes.toString("latin1"));
          stream.end();
        });
        stream.write(Buffer.concat([Buffer.from([(field << 3) | 2, value.length]), Buffer.from(value)]));
      });
    const services = await ask(7, "*");
    for (const name of ["kith.v1.Points", "kith.v1.Collections", "kith.v1.Cluster", "grpc.health.v1.Health"]) {
      expect(services).toContain(name);
    }
    expect(services).not.toContain("kith.internal");
    const file = await ask(4, "kith.v1.Points");
    for (const part of ["kith/v1/points.proto", "QueryStreamRequest", "kith/v1/common.proto"]) {
      expect(file).toContain(part);
    }
    expect(await ask(4, "kith.internal.v1.Link")).toContain("not found");
    client.close();
  });
});
