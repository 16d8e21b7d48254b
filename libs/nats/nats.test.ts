import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeliverPolicy } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type KithError, systemClock, systemRuntime } from "../base/index.js";
import { eventually, freePort, makeAuthority, makeCertificate } from "../base/testing.js";
import { testNatsBinary, testNatsServer, type TestNatsServer } from "../nats-server/testing.js";
import { checkSync, connectNats, NatsOutage, type NatsTls, readSyncSetting, StreamReader } from "./index.js";

async function failure(promise: Promise<unknown>): Promise<KithError> {
  return promise.then(
    () => expect.unreachable("it should have failed"),
    (error: unknown) => error as KithError,
  );
}

describe("the connection", () => {
  let server: TestNatsServer;
  beforeAll(async () => {
    server = await testNatsServer();
  });
  afterAll(() => server.dispose());

  it("refuses a server that is too old, with the reason", async () => {
    const old = createServer((socket) => {
      socket.write(`INFO ${JSON.stringify({ version: "2.10.29", headers: true, max_payload: 1 << 20, proto: 1 })}\r\n`);
      socket.on("data", (data) => {
        if (data.toString().includes("PING")) socket.write("PONG\r\n");
      });
      socket.on("error", () => socket.destroy());
    });
    await new Promise<void>((resolve) => old.listen(0, "127.0.0.1", resolve));
    const { port } = old.address() as AddressInfo;
    const error = await failure(connectNats({ ...systemRuntime, servers: `nats://127.0.0.1:${port}` }));
    expect(error.code).toBe("INVALID_CONFIG");
    expect(error.message).toMatch(/2\.10\.29.*2\.12.*lose acknowledged data/);
    await new Promise((resolve) => old.close(resolve));
  });

  it("refuses a server without JetStream", async () => {
    const child: ChildProcess = spawn(testNatsBinary(), ["-a", "127.0.0.1", "-p", "-1"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const port = await new Promise<string>((resolve) => {
      child.stderr?.on("data", (data: Buffer) => {
        const found = /Listening for client connections on [^:]+:(\d+)/.exec(data.toString())?.[1];
        if (found !== undefined) resolve(found);
      });
    });
    const error = await failure(connectNats({ ...systemRuntime, servers: `127.0.0.1:${port}` }));
    expect(error.code).toBe("INVALID_CONFIG");
    expect(error.message).toContain("JetStream");
    child.kill("SIGKILL");
  });

  it("says so when nobody answers, and when the URL is none", async () => {
    const error = await failure(
      connectNats({ ...systemRuntime, servers: "nats://127.0.0.1:1", connectTimeoutMs: 300 }),
    );
    expect(error.code).toBe("LOG_UNAVAILABLE");
    expect((await failure(connectNats({ ...systemRuntime, servers: "not a url" }))).code).toBe("INVALID_CONFIG");
  });

  it("reports the sync setting", async () => {
    expect(await readSyncSetting(server.monitorUrl, systemClock)).toEqual({ kind: "always" });
    expect((await failure(readSyncSetting("http://127.0.0.1:1", systemClock))).code).toBe("LOG_UNAVAILABLE");
  });

  it("refuses a server that acknowledges before the fsync, and only tells of a port that does not answer", async () => {
    const lax = createHttpServer((_, response) => {
      response.end(JSON.stringify({ config: { sync_interval: 120e9 } }));
    });
    await new Promise<void>((resolve) => lax.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(lax.address() as AddressInfo).port}`;
    expect(await checkSync([server.monitorUrl], false, systemClock)).toEqual([]);
    const error = await failure(checkSync([server.monitorUrl, url], false, systemClock));
    expect(error.code).toBe("INVALID_CONFIG");
    expect(error.message).toMatch(/syncs every 120 s.*sync_interval: always.*log\.allowUnsynced/);
    expect(await checkSync([url], true, systemClock)).toEqual([expect.stringContaining("syncs every 120 s")]);
    const silent = await checkSync(["http://127.0.0.1:1", server.monitorUrl], false, systemClock);
    expect(silent).toEqual([expect.stringMatching(/127\.0\.0\.1:1 does not answer.*is not known/)]);
    expect((await failure(checkSync(["127.0.0.1:8222"], false, systemClock))).code).toBe("INVALID_CONFIG");
    await new Promise((resolve) => lax.close(resolve));
  });

  it("fails requests at once when the server is killed, and serves again when it is back", async () => {
    const link = await connectNats({ ...systemRuntime, servers: server.url });
    const changes: boolean[] = [];
    link.onAvailability((available) => changes.push(available));
    await link.request(() => link.manager.streams.add({ name: "kept", subjects: ["kept"] }));
    const never = link.request(() => new Promise<never>(() => undefined));
    const broken = failure(never);
    await server.kill();
    expect(await broken).toMatchObject({ reason: "disconnected" });
    expect(link.available).toBe(false);
    await expect(link.request(() => Promise.resolve(1))).rejects.toBeInstanceOf(NatsOutage);
    await expect(link.whenAvailable(AbortSignal.timeout(50))).rejects.toBeInstanceOf(NatsOutage);
    await server.restart();
    await link.whenAvailable(AbortSignal.timeout(20_000));
    expect(changes).toEqual([false, true]);
    const info = await link.request(() => link.manager.streams.info("kept"));
    expect(info.config.name).toBe("kept");
    await link.close();
    expect(changes).toEqual([false, true, false]);
    await expect(link.request(() => Promise.resolve(1))).rejects.toMatchObject({ reason: "closed" });
  });

  it("notices a server that hangs, even with much unsent, and goes on when it wakes", async () => {
    const events: string[] = [];
    const link = await connectNats({
      ...systemRuntime,
      servers: server.url,
      onEvent: (event) => events.push(event.message),
    });
    await link.request(() => link.manager.streams.add({ name: "hang", subjects: ["hang"] }));
    process.kill(server.pid, "SIGSTOP");
    const data = new Uint8Array(900 * 1024);
    const sent = Array.from({ length: 40 }, () =>
      failure(link.request(() => link.jetstream.publish("hang", data, { timeout: 60_000 }))),
    );
    await eventually(() => expect(link.available).toBe(false));
    for (const error of await Promise.all(sent)) expect(error).toMatchObject({ reason: "disconnected" });
    // It looks for a server again before this one has taken what was written.
    await eventually(() => expect(events.join("\n")).toContain("lost the connection"), 5_000);
    process.kill(server.pid, "SIGCONT");
    await link.whenAvailable(AbortSignal.timeout(20_000));
    await link.request(() => link.manager.streams.info("hang"));
    await link.close();
  });

  it("has one pull of a reader under way, although the end of a full one is told after the next has begun", async () => {
    const link = await connectNats({ ...systemRuntime, servers: server.url });
    await link.request(() => link.manager.streams.add({ name: "pulls", subjects: ["pulls"] }));
    for (let index = 0; index < 200; index++) await link.jetstream.publish("pulls", `${index}`);
    let pulls = 0;
    let last: string | undefined;
    const publish = link.connection.publish.bind(link.connection);
    link.connection.publish = (subject, payload, options) => {
      publish(subject, payload, options);
      if (!subject.startsWith("$JS.API.CONSUMER.MSG.NEXT.pulls.")) return;
      // As when the network brings the status apart from the last message.
      if (last !== undefined && pulls < 10) publish(last, "", { headers: headers(409, "Batch Completed") });
      last = options?.reply;
      pulls++;
    };
    const reader = await StreamReader.start(link, "pulls", {
      consumer: { deliver_policy: DeliverPolicy.All },
      batchMessages: 10,
      batchBytes: 1 << 20,
    });
    for (let count = 0; count < 200; ) {
      const messages = (await reader.next()) ?? expect.unreachable("the reader ended early");
      expect(messages.length).toBeLessThanOrEqual(10);
      count += messages.length;
    }
    expect(pulls).toBeLessThanOrEqual(21);
    reader.close();
    await link.close();
  });

  it("ends a reader whose consumer is deleted, and never sends it more than it asked for", async () => {
    const link = await connectNats({ ...systemRuntime, servers: server.url });
    await link.request(() => link.manager.streams.add({ name: "read", subjects: ["read"] }));
    for (let index = 0; index < 30; index++) await link.jetstream.publish("read", `${index}`);
    const reader = await StreamReader.start(link, "read", {
      consumer: { deliver_policy: DeliverPolicy.All },
      batchMessages: 10,
      batchBytes: 1 << 20,
    });
    expect(reader.pendingAtStart).toBe(30);
    const sequences: number[] = [];
    while (sequences.length < 30) {
      const messages = (await reader.next()) ?? expect.unreachable("the reader ended early");
      expect(messages.length).toBeLessThanOrEqual(10);
      sequences.push(...messages.map((message) => message.sequence));
    }
    expect(sequences).toEqual(Array.from({ length: 30 }, (_, index) => index + 1));
    const { consumers } = link.manager;
    for await (const consumer of consumers.list("read")) await consumers.delete("read", consumer.name);
    let last: unknown = [];
    while (last !== undefined) last = await reader.next();
    await link.close();
  });
});

describe("TLS", () => {
  it("shows and trusts what the files have when a connection is made, and speaks to nobody without", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kith-nats-tls-"));
    const port = await freePort();
    const authorities = ["old", "new"].map((name) => makeAuthority(folder, name));
    const own = authorities.map((authority, at) => makeCertificate(folder, `node-${at}`, authority));
    const start = (at: number): ChildProcess => {
      const { certificatePath, keyPath } = own[at] as (typeof own)[0];
      const tls = `tls { cert_file: "${certificatePath}", key_file: "${keyPath}", ca_file: "${authorities[at]?.certificatePath}", verify: true }`;
      const config = join(folder, "nats.conf");
      writeFileSync(config, `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${join(folder, "js")}" }\n${tls}\n`);
      return spawn(testNatsBinary(), ["--config", config], { stdio: "ignore" });
    };
    const tlsOf = (at: number): NatsTls => ({
      ca: authorities[at]?.certificate.toString(),
      cert: own[at]?.certificate.toString(),
      key: own[at]?.key.toString(),
    });
    let current = tlsOf(0);
    let server = start(0);
    const options = { ...systemRuntime, servers: `tls://127.0.0.1:${port}`, tls: () => current };
    const link = await connectNats(options);
    try {
      const stranger = connectNats({ ...options, tls: () => tlsOf(1), connectTimeoutMs: 500 });
      await expect(stranger).rejects.toMatchObject({ code: "LOG_UNAVAILABLE" });
      server.kill("SIGKILL");
      await once(server, "exit");
      await eventually(() => !link.available);
      current = tlsOf(1);
      server = start(1);
      await eventually(() => link.available);
      server.kill("SIGKILL");
      await once(server, "exit");
      server = spawn(testNatsBinary(), ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", join(folder, "js")]);
      const plain = connectNats({ ...options, connectTimeoutMs: 1_000 });
      await expect(plain).rejects.toMatchObject({ code: "LOG_UNAVAILABLE" });
    } finally {
      await link.close();
      server.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
