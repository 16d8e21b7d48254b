import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { JetStreamApiError } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemRuntime } from "../../base/index.js";
import { eventually, freePort } from "../../base/testing.js";
import type { KithError } from "../../base/index.js";
import { connectNats, type NatsLink } from "../../nats/index.js";
import { testNatsServer, type TestNatsServer } from "../../nats-server/testing.js";
import { codeOf, Collector, describeLog, range } from "../log.conformance.js";
import type { Log, LogState } from "../port.js";
import { openJetStreamLog } from "./index.js";

describeLog("jetstream", async () => {
  const server = await testNatsServer();
  const nats = await connectNats({ ...systemRuntime, servers: server.url });
  return {
    open: async () => openJetStreamLog({ nats, cluster: "conformance", ...systemRuntime }),
    outage: { begin: () => server.kill(), end: () => server.restart() },
    dispose: async () => {
      await nats.close();
      await server.dispose();
    },
  };
});

describe("the JetStream log", () => {
  const name = { collectionId: "c1", shard: 0 };
  const append = (log: Log, text: string, messageId = text) => log.append(name, Buffer.from(text), { messageId });
  let server: TestNatsServer;
  let nats: NatsLink;
  let log: Log;
  beforeAll(async () => {
    server = await testNatsServer();
    nats = await connectNats({ ...systemRuntime, servers: server.url });
    log = openJetStreamLog({ nats, cluster: "test", ...systemRuntime });
  });
  afterAll(async () => {
    await log.close();
    await nats.close();
    await server.dispose();
  });

  it("loses nothing acknowledged when the server is killed again and again under writes", async () => {
    await log.create(name);
    const { incarnation } = await log.state(name);
    const reader = new Collector(log, name, { fromSequence: 1, incarnation });
    const acknowledged = new Map<string, number>();
    let stop = false;
    let next = 0;
    const writer = async (): Promise<void> => {
      while (!stop) {
        const text = `record ${next++}`;
        // As the router does: the same id until the outcome is known.
        while (!stop) {
          try {
            acknowledged.set(text, (await append(log, text, text.replace(" ", "-"))).sequence);
            break;
          } catch (error) {
            expect(["LOG_UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain((error as KithError).code);
            await eventually(() => expect(log.available).toBe(true));
          }
        }
      }
    };
    const writers = range(1, 8).map(writer);
    for (const round of range(1, 3)) {
      await eventually(() => expect(acknowledged.size).toBeGreaterThan(round * 60));
      await server.kill();
      await server.restart();
    }
    await eventually(() => expect(acknowledged.size).toBeGreaterThan(240));
    stop = true;
    await Promise.all(writers);
    const { lastSequence } = await log.state(name);
    await reader.received(lastSequence);
    await reader.subscription.close();
    expect(reader.faults).toEqual([]);
    expect(reader.sequences).toEqual(range(1, lastSequence));
    expect(new Set(reader.texts).size).toBe(lastSequence);
    for (const [text, sequence] of acknowledged) expect(reader.texts[sequence - 1]).toBe(text);
  });

  it("makes a log by one request, and finds one that is there beyond the limits of new ones", async () => {
    const other = { ...name, shard: 11 };
    const { streams } = nats.manager;
    const info = streams.info.bind(streams);
    const add = streams.add.bind(streams);
    let looks = 0;
    streams.info = (...given) => {
      looks++;
      return info(...given);
    };
    try {
      const made = await log.create(other);
      expect(looks).toBe(0);
      expect(await log.create(other)).toEqual(made);
      // As a server answers whose account may have no more streams.
      const refused = { code: 400, err_code: 10027, description: "maximum number of streams reached" };
      streams.add = () => Promise.reject(new JetStreamApiError(refused));
      expect(await log.create(other)).toEqual(made);
      expect(await codeOf(log.create({ ...name, shard: 12 }))).toBe("INTERNAL");
    } finally {
      Object.assign(streams, { info, add });
    }
  });

  it("publishes the same id again while the servers still agree on the first one", async () => {
    // In place of a stream of several servers: an answer of each kind.
    const ids: (string | undefined)[] = [];
    const answers = [
      { error: { code: 409, err_code: 10158, description: "duplicate message id is in process" }, stream: "", seq: 0 },
      { stream: "KITH_test_c1-7", seq: 3, duplicate: true },
    ];
    const subscription = nats.connection.subscribe("kith.test.log.c1-7", {
      callback: (_, message) => {
        ids.push(message.headers?.get("Nats-Msg-Id"));
        message.respond(JSON.stringify(answers[ids.length - 1]));
      },
    });
    const appended = log.append({ ...name, shard: 7 }, Buffer.from("text"), { messageId: "the-id" });
    expect(await appended).toEqual({ sequence: 3, duplicate: true });
    expect(ids).toEqual(["the-id", "the-id"]);
    subscription.unsubscribe();
  });

  it("tells a reader that the stream was made anew while it was away", async () => {
    const before = await log.create({ ...name, shard: 5 });
    const other = { ...name, shard: 5 };
    const put = (messageId: string) => log.append(other, Buffer.from(messageId), { messageId });
    for (const index of range(1, 4)) await put(`m${index}`);
    const reader = new Collector(log, other, { fromSequence: 1 });
    await reader.received(4);
    await log.remove(other);
    const after = await log.create(other);
    for (const index of range(1, 6)) await put(`n${index}`);
    await eventually(() =>
      expect(reader.faults).toMatchObject([{ kind: "rewound", lastRead: 4, incarnation: after.incarnation }]),
    );
    expect(after.incarnation).not.toBe(before.incarnation);
    expect(reader.sequences).toEqual([1, 2, 3, 4]);
  });

  it("tells a reader of a hole within the stream", async () => {
    const other = { ...name, shard: 6 };
    await log.create(other);
    for (const index of range(1, 9)) await log.append(other, Buffer.from("x"), { messageId: `m${index}` });
    // Only somebody with other rights can do that: the stream itself refuses single deletions.
    const stream = "KITH_test_c1-6";
    await expect(nats.manager.streams.deleteMessage(stream, 5)).rejects.toThrow();
    await nats.manager.streams.delete(stream);
    await nats.manager.streams.add({ name: stream, subjects: ["kith.test.log.c1-6"] });
    for (const index of range(1, 9)) await log.append(other, Buffer.from("x"), { messageId: `m${index}` });
    await nats.manager.streams.deleteMessage(stream, 5);
    const reader = new Collector(log, other, { fromSequence: 2 });
    await eventually(() => expect(reader.faults).toEqual([{ kind: "gap", expected: 5, found: 6 }]));
    expect(reader.sequences).toEqual([2, 3, 4]);
  });

  it("refuses a full store with DISK_FULL and goes on after a trim", async () => {
    const small = await testNatsServer({ maxStoreBytes: 8 << 20 });
    const link = await connectNats({ ...systemRuntime, servers: small.url });
    const full = openJetStreamLog({ nats: link, cluster: "full", ...systemRuntime });
    try {
      await full.create(name);
      const data = Buffer.alloc(900 * 1024, 7);
      let code: string | undefined;
      let written = 0;
      while (code === undefined && written < 20) {
        code = await codeOf(full.append(name, data, { messageId: `m${written}` }));
        if (code === undefined) written++;
      }
      expect(code).toBe("DISK_FULL");
      expect(written).toBeGreaterThan(4);
      await full.trim(name, written);
      await eventually(async () => {
        expect((await full.append(name, data, { messageId: "again" })).sequence).toBe(written + 1);
      });
    } finally {
      await full.close();
      await link.close();
      await small.dispose();
    }
  });

  it.each([
    ["max_bytes", { max_bytes: 64 * 1024 }],
    ["max_msgs", { max_msgs: 40 }],
  ])(
    "refuses appends at the %s of its stream, loses nothing, is read on, and goes on when there is room",
    async (_, limit) => {
      const other = { ...name, shard: 10 + Object.keys(limit).join().length };
      await log.create(other);
      const stream = `KITH_test_c1-${other.shard}`;
      await nats.manager.streams.update(stream, limit);
      const data = Buffer.alloc(1_500, 7);
      let written = 0;
      let failure: KithError | undefined;
      while (failure === undefined && written < 100) {
        const appended = log.append(other, data, { messageId: `m${written}` });
        failure = await appended.then(
          () => undefined,
          (error: KithError) => error,
        );
        if (failure === undefined) written++;
      }
      expect(failure).toMatchObject({ code: "RESOURCE_EXHAUSTED", retryable: true });
      expect(failure?.message).toMatch(/a limit of the stream of the log is reached .*nothing was written/);
      expect(await log.state(other)).toMatchObject({ firstSequence: 1, lastSequence: written });
      const reader = new Collector(log, other, { fromSequence: 1 });
      await reader.received(written);
      await log.trim(other, 5);
      // The refused one, with its own id: it is not in the log yet.
      const again = await log.append(other, data, { messageId: `m${written}` });
      expect(again).toEqual({ sequence: written + 1, duplicate: false });
      await reader.received(written + 1);
      expect(reader.faults).toEqual([]);
      await reader.subscription.close();
    },
  );

  it("refuses appends at the limit of its account, and goes on after a trim", async () => {
    const directory = await mkdtemp(join(tmpdir(), "kith-nats-account-"));
    const port = await freePort();
    const config = `port: ${port}, host: 127.0.0.1, jetstream: { store_dir: "${directory}" }, no_auth_user: a
      accounts: { A: { jetstream: { max_file: 4MB }, users: [{ user: a, password: a }] } }`;
    await writeFile(join(directory, "account.conf"), config);
    const child = spawn(server.binary, ["-c", join(directory, "account.conf")], { stdio: "ignore" });
    const link = await connectNats({ ...systemRuntime, servers: `nats://127.0.0.1:${port}` });
    const full = openJetStreamLog({ nats: link, cluster: "account", ...systemRuntime });
    try {
      await full.create(name);
      const data = Buffer.alloc(900 * 1024, 7);
      let failure: KithError | undefined;
      let written = 0;
      while (failure === undefined && written < 10) {
        failure = await full.append(name, data, { messageId: `m${written}` }).then(
          () => undefined,
          (error: KithError) => error,
        );
        if (failure === undefined) written++;
      }
      expect(failure?.code).toBe("RESOURCE_EXHAUSTED");
      expect(failure?.message).toMatch(/a limit of the JetStream account is reached/);
      expect(await full.state(name)).toMatchObject({ firstSequence: 1, lastSequence: written });
      await full.trim(name, written);
      await eventually(async () => {
        expect((await full.append(name, data, { messageId: "again" })).sequence).toBe(written + 1);
      });
    } finally {
      await full.close();
      await link.close();
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
      await rm(directory, { recursive: true, force: true });
    }
  });

  it("refuses replicas that the servers cannot hold, and bad names", async () => {
    const three = openJetStreamLog({ nats, cluster: "three", replicas: 3, ...systemRuntime });
    expect(await codeOf(three.create(name))).toBe("INVALID_CONFIG");
    await three.close();
    expect(() => openJetStreamLog({ nats, cluster: "a b", ...systemRuntime })).toThrow(/cluster name/);
    expect(() => openJetStreamLog({ nats, cluster: "a", replicas: 2, ...systemRuntime })).toThrow(/replicas/);
  });
});

it("a reader does not go on behind records that a store put back from a copy has lost and replaced", async () => {
  const name = { collectionId: "c1", shard: 0 };
  const server = await testNatsServer();
  const copy = await mkdtemp(join(tmpdir(), "kith-nats-copy-"));
  const writer = async (texts: string[]): Promise<LogState> => {
    const nats = await connectNats({ ...systemRuntime, servers: server.url });
    const log = openJetStreamLog({ nats, cluster: "test", ...systemRuntime });
    await log.create(name);
    for (const text of texts) await log.append(name, Buffer.from(text), { messageId: text });
    const state = await log.state(name);
    await log.close();
    await nats.close();
    return state;
  };
  await writer(["1", "2", "3"]);
  await server.stop();
  await cp(server.dataDirectory, copy, { recursive: true });
  await server.restart();
  const { incarnation } = await writer(["4", "5", "6"]);
  const nats = await connectNats({ ...systemRuntime, servers: server.url });
  const log = openJetStreamLog({ nats, cluster: "test", ...systemRuntime });
  const reader = new Collector(log, name, { fromSequence: 1, incarnation });
  await reader.received(6);
  await server.kill();
  await rm(server.dataDirectory, { recursive: true });
  await cp(copy, server.dataDirectory, { recursive: true });
  await server.restart();
  expect((await writer(["another-4", "another-5", "another-6", "7"])).incarnation).toBe(incarnation);
  await eventually(() => expect(reader.faults).toMatchObject([{ kind: "rewound", lastRead: 6, incarnation }]));
  expect(reader.texts).toEqual(["1", "2", "3", "4", "5", "6"]);
  await log.close();
  await nats.close();
  await server.dispose();
  await rm(copy, { recursive: true });
});
