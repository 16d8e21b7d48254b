import { cp, mkdtemp, rm } from "node:fs/promises";
import { createServer, createConnection, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errors, headers } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { deferred, systemRuntime } from "../../base/index.js";
import { eventually } from "../../base/testing.js";
import { connectNats, type NatsLink } from "../../nats/index.js";
import { testNatsServer, type TestNatsServer } from "../../nats-server/testing.js";
import { codeOf, describeCatalog } from "../catalog.conformance.js";
import type { CatalogEntry } from "../port.js";
import { openNatsCatalog } from "./index.js";

/** Passes connections on to a server until it is told to cut them. */
async function makeProxy(url: string): Promise<{ url: string; cut(): void; mend(): void; close(): Promise<void> }> {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let open = true;
  const server = createServer((client) => {
    if (!open) {
      client.destroy();
      return;
    }
    const upstream = createConnection({ host: target.hostname, port: Number(target.port) });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.pipe(upstream).pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = (): void => {
    open = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    mend: () => {
      open = true;
    },
    close: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describeCatalog("nats", async () => {
  const server = await testNatsServer();
  const proxy = await makeProxy(server.url);
  const nats = await connectNats({ ...systemRuntime, servers: proxy.url });
  const cluster = "conformance";
  let other: NatsLink | undefined;
  return {
    open: () => openNatsCatalog({ nats, cluster, ...systemRuntime }),
    outage: { begin: () => server.kill(), end: () => server.restart() },
    cutOff: {
      begin: async () => {
        proxy.cut();
        other = await connectNats({ ...systemRuntime, servers: server.url });
        return openNatsCatalog({ nats: other, cluster, ...systemRuntime });
      },
      end: async () => {
        await other?.close();
        proxy.mend();
      },
    },
    dispose: async () => {
      await nats.close();
      await proxy.close();
      await server.dispose();
    },
  };
});

describe("the NATS catalog", () => {
  let server: TestNatsServer;
  let nats: NatsLink;
  beforeAll(async () => {
    server = await testNatsServer();
    nats = await connectNats({ ...systemRuntime, servers: server.url });
  });
  afterAll(async () => {
    await nats.close();
    await server.dispose();
  });

  it("keeps clusters apart", async () => {
    const one = await openNatsCatalog({ nats, cluster: "one", ...systemRuntime });
    const two = await openNatsCatalog({ nats, cluster: "two", ...systemRuntime });
    await one.create("a.b", "1");
    expect(await two.get("a.b")).toBeUndefined();
    expect(await two.list("")).toEqual([]);
    expect((await one.list("")).map((entry) => entry.key)).toEqual(["a.b"]);
    await one.close();
    await two.close();
  });

  it("recognises its own write when the answer to it was lost", async () => {
    const catalog = await openNatsCatalog({ nats, cluster: "lost", ...systemRuntime });
    const publish = nats.jetstream.publish.bind(nats.jetstream);
    // Every first attempt is written, but its answer does not come back in time.
    let attempts = 0;
    nats.jetstream.publish = async (...parameters) => {
      const isFirst = attempts++ % 2 === 0;
      const ack = await publish(...parameters);
      if (isFirst) throw new errors.TimeoutError();
      return ack;
    };
    try {
      const made = await catalog.create("a.b", "1");
      expect(await catalog.get("a.b")).toEqual(made);
      const changed = await catalog.update("a.b", "2", made.revision);
      expect(await catalog.get("a.b")).toEqual(changed);
      await catalog.delete("a.b", changed.revision);
      expect(await catalog.get("a.b")).toBeUndefined();
      expect(attempts).toBe(6);
    } finally {
      nats.jetstream.publish = publish;
      await catalog.close();
    }
  });

  it("does not take a silence of the server in the middle of its keys for their end", async () => {
    const catalog = await openNatsCatalog({ nats, cluster: "silent", ...systemRuntime });
    await catalog.create("a.b", "1");
    const publish = nats.connection.publish.bind(nats.connection);
    // What comes of every pull begins with a heartbeat.
    let heartbeats = 0;
    nats.connection.publish = (subject, payload, options) => {
      if (subject.startsWith("$JS.API.CONSUMER.MSG.NEXT.") && options?.reply !== undefined) {
        publish(options.reply, "", { headers: headers(100, "Idle Heartbeat") });
        heartbeats++;
      }
      publish(subject, payload, options);
    };
    const seen: string[] = [];
    try {
      expect((await catalog.list("")).map(({ key }) => key)).toEqual(["a.b"]);
      const ready = deferred<void>();
      const watch = catalog.watch("", { onChange: ({ kind }) => void seen.push(kind), onReady: () => ready.resolve() });
      await ready.promise;
      expect(seen).toEqual(["put"]);
      await watch.close();
      expect(heartbeats).toBeGreaterThanOrEqual(2);
    } finally {
      nats.connection.publish = publish;
      await catalog.close();
    }
  });

  it("lists and watches thousands of keys", async () => {
    const catalog = await openNatsCatalog({ nats, cluster: "many", ...systemRuntime });
    const count = 2_500;
    // Every change is fsynced: all at once would wait longer on a slow disk than a call may take.
    let next = 0;
    const writer = async (): Promise<void> => {
      while (next < count) {
        const index = next++;
        await catalog.create(`k.${index}`, `${index}`);
      }
    };
    await Promise.all(Array.from({ length: 32 }, writer));
    expect(await catalog.list("k")).toHaveLength(count);
    let puts = 0;
    let putsAtReady = -1;
    const watch = catalog.watch("k", {
      onChange: () => puts++,
      onReady: () => {
        putsAtReady = puts;
      },
    });
    await eventually(() => expect(putsAtReady).toBe(count));
    await watch.close();
    await catalog.close();
  });

  it("refuses a bucket that was made otherwise, replicas that cannot be had, and bad names", async () => {
    await nats.manager.streams.add({ name: "KV_KITH_foreign", subjects: ["$KV.KITH_foreign.>"] });
    expect(await codeOf(openNatsCatalog({ nats, cluster: "foreign", ...systemRuntime }))).toBe("INVALID_CONFIG");
    expect(await codeOf(openNatsCatalog({ nats, cluster: "three", replicas: 3, ...systemRuntime }))).toBe(
      "INVALID_CONFIG",
    );
    expect(await codeOf(openNatsCatalog({ nats, cluster: "a", replicas: 2, ...systemRuntime }))).toBe("INVALID_CONFIG");
    expect(await codeOf(openNatsCatalog({ nats, cluster: "a.b", ...systemRuntime }))).toBe("INVALID_NAME");
  });

  it("finds out by reading anew what no message told", async () => {
    const catalog = await openNatsCatalog({ nats, cluster: "reread", rereadMs: 400, ...systemRuntime });
    const changes: string[] = [];
    let gone = 0;
    const watch = catalog.watch("a", {
      onChange: (change) => {
        changes.push(change.kind === "put" ? change.entry.key : `-${change.key}`);
        if (change.kind === "delete") gone = change.revision;
      },
      onReady: () => changes.push("ready"),
    });
    await eventually(() => expect(changes).toEqual(["ready"]));
    await catalog.create("a.kept", "1");
    const lost = await catalog.create("a.lost", "1");
    await eventually(() => expect(changes).toEqual(["ready", "a.kept", "a.lost"]));
    // A purge leaves no mark behind, and consumers are not told.
    await nats.manager.streams.purge("KV_KITH_reread", { filter: "$KV.KITH_reread.a.lost" });
    await eventually(() => expect(changes).toEqual(["ready", "a.kept", "a.lost", "-a.lost"]));
    expect(gone).toBeGreaterThanOrEqual(lost.revision);
    expect((await catalog.create("a.lost", "2")).revision).toBeGreaterThan(gone);
    await watch.close();
    await catalog.close();
  });

  it("does not take a key that changes while all is read anew for one that is gone", async () => {
    const catalog = await openNatsCatalog({ nats, cluster: "young", rereadMs: 400, ...systemRuntime });
    let entry = await catalog.create("a.changes", "0");
    await catalog.create("a.stays", "0");
    const told: string[] = [];
    const ready = deferred<void>();
    const watch = catalog.watch("a", {
      onChange: (change) => told.push(change.kind === "put" ? change.entry.value : `-${change.key}`),
      onReady: () => ready.resolve(),
    });
    await ready.promise;
    const { streams } = nats.manager;
    const info = streams.info.bind(streams);
    // Each reading begins with it, and the key changes before it is read.
    streams.info = async (...given) => {
      const found = await info(...given);
      entry = await catalog.update(entry.key, `${Number(entry.value) + 1}`, entry.revision);
      return found;
    };
    try {
      await eventually(() => expect(told).toContain("2"));
    } finally {
      streams.info = info;
      await watch.close();
      await catalog.close();
    }
    expect(told.slice(0, 4)).toEqual(["0", "0", "1", "2"]);
  });

  it("goes on when the server is killed and restarted in the middle of changes", async () => {
    const catalog = await openNatsCatalog({ nats, cluster: "killed", ...systemRuntime });
    const seen: number[] = [];
    const watch = catalog.watch("", {
      onChange: (change) => {
        if (change.kind === "put") seen.push(Number(change.entry.value));
      },
    });
    let entry = await catalog.create("counter", "0");
    for (let round = 0; round < 2; round++) {
      for (let step = 0; step < 20; step++) {
        entry = await catalog.update("counter", `${Number(entry.value) + 1}`, entry.revision);
      }
      await server.kill();
      expect(await codeOf(catalog.update("counter", "x", entry.revision))).toBe("CATALOG_UNAVAILABLE");
      await server.restart();
      await eventually(() => expect(catalog.available).toBe(true));
      expect(await catalog.get("counter")).toEqual(entry);
    }
    await eventually(() => expect(seen.at(-1)).toBe(40));
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    await watch.close();
    await catalog.close();
  });

  it("tells what a bucket that was put back from a backup holds, though its revisions are lower", async () => {
    const own = await testNatsServer();
    const backup = await mkdtemp(join(tmpdir(), "kith-backup-"));
    const link = await connectNats({ ...systemRuntime, servers: own.url });
    onTestFinished(async () => {
      await link.close();
      await own.dispose();
      await rm(backup, { recursive: true });
    });
    const catalog = await openNatsCatalog({ nats: link, cluster: "rewound", ...systemRuntime });
    const value = async (key: string): Promise<CatalogEntry> => (await catalog.get(key)) as CatalogEntry;
    const change = async (key: string, to: string): Promise<CatalogEntry> =>
      catalog.update(key, to, (await value(key)).revision);
    const remove = async (key: string): Promise<void> => catalog.delete(key, (await value(key)).revision);
    for (const key of ["a.anew", "a.back", "a.deleted", "a.during", "a.same"]) await catalog.create(key, "1");
    await remove("a.anew");
    await own.stop();
    await cp(own.dataDirectory, backup, { recursive: true });
    await own.restart();
    await eventually(() => expect(catalog.available).toBe(true));

    const told: string[] = [];
    const watch = catalog.watch("a", {
      onChange: (each) => {
        if (each.kind === "delete") told.push(`-${each.key}`);
        else told.push(`${each.entry.key}=${each.entry.value}${each.reset ? " (reset)" : ""}`);
      },
    });
    for (const to of ["2", "3", "4"]) for (const key of ["a.back", "a.during"]) await change(key, to);
    await catalog.create("a.anew", "2");
    await catalog.create("a.late", "1");
    await remove("a.deleted");
    await eventually(() => expect(told.at(-1)).toBe("-a.deleted"));
    told.length = 0;

    await own.kill();
    await rm(own.dataDirectory, { recursive: true });
    await cp(backup, own.dataDirectory, { recursive: true });
    const { streams } = link.manager;
    const info = streams.info.bind(streams);
    // The reading begins with it, and the key changes before it is read.
    streams.info = async (...given) => {
      const found = await info(...given);
      streams.info = info;
      await change("a.during", "5");
      return found;
    };
    await own.restart();
    const after = ["-a.anew", "-a.late", "a.back=1 (reset)", "a.deleted=1", "a.during=5 (reset)"];
    await eventually(() => expect([...told].sort()).toEqual(after));
    await change("a.back", "6");
    await eventually(() => expect(told.at(-1)).toBe("a.back=6"));
    expect(told).toHaveLength(after.length + 1);

    await watch.close();
    await catalog.close();
  });
});
