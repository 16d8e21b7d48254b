/**
 * A process may open so many files only (ulimit -n): a collection whose replica finds no file handle is told so at once and is not ready, all
 * others go on, and it becomes ready when handles are given back. The same with connections: those that are open go on.
 */
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { eventually, freePort } from "../../libs/base/testing.js";
import { type CollectionHandle, connect, type KithClient, type KithError } from "../../libs/client/index.js";
import { NodeProcess } from "../cluster/child.js";
import { useCluster } from "../cluster/cluster.js";
import { program, startProcesses } from "../cluster/processes.js";
import { failureOf } from "../cluster/workload.js";

const filesMax = 120;
const limited = ["sh", "-c", `ulimit -n ${filesMax} && exec "$@"`, "sh"];

const fileCount = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

async function stateOf(client: KithClient, name: string): Promise<string | undefined> {
  return (await client.collections.list()).find((each) => each.name === name)?.state;
}

/** Creates collections until a node has no file handles for one more, and looks at what becomes of it and of the others. */
async function exhaust(client: KithClient): Promise<string> {
  const made: CollectionHandle[] = [];
  let failure: KithError | undefined;
  let failed = "";
  for (let i = 0; i < filesMax && failure === undefined; i++) {
    failed = `c${i}`;
    const handle = client.collection(failed);
    failure = await failureOf(handle.create({ vectors: { dimension: 2, metric: "l2" }, deadlineMs: 20_000 }));
    if (failure === undefined) made.push(handle);
  }
  expect(made.length).toBeGreaterThan(2);
  expect(failure).toMatchObject({
    code: "RESOURCE_EXHAUSTED",
    message: expect.stringMatching(/is registered, but not ready: node \S+ .*too many open files/i) as string,
  });
  expect(await stateOf(client, failed)).toBe("creating");
  // Those that are there are not harmed.
  for (const each of made.slice(0, 3)) {
    await each.upsert({ id: 1, vector: [1, 2] });
    expect((await each.query({ vector: [1, 2], limit: 1 })).points[0]?.id).toBe(1);
    expect(await stateOf(client, each.name)).toBe("ready");
  }
  const { replicas } = (await client.cluster.describe()).shards.find(({ collection }) => collection === failed) ?? {};
  expect(replicas?.[0]).toMatchObject({ state: "stale" });
  expect(replicas?.[0]?.fault).toMatch(/too many open files/i);
  for (const each of made.splice(0, 2)) await each.drop();
  await eventually(async () => expect(await stateOf(client, failed)).toBe("ready"), 40_000);
  const handle = client.collection(failed);
  await handle.upsert({ id: 1, vector: [3, 4] });
  expect(await handle.count()).toBe(1);
  return failed;
}

describe("a shard node", () => {
  const cluster = useCluster(() =>
    startProcesses({ shardNodes: 1, replicas: 1, prefix: (node) => (node === "shard-0" ? limited : []) }),
  );

  test("without file handles refuses a new replica as RESOURCE_EXHAUSTED, and opens it when there are some again", {
    timeout: 120_000,
  }, async () => {
    await exhaust(await cluster().connect({ retry: { attempts: 1 } }));
    expect(cluster().logOf("shard-0")).not.toMatch(/CORRUPT_DATA|is damaged/);
  });
});

test("one process with the log and the catalog does so too", { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "kith-files-"));
  const target = `127.0.0.1:${await freePort()}`;
  const flags = [
    "--node-id",
    "one",
    "--roles",
    "router,shard,coordinator",
    "--listen",
    target,
    "--data",
    join(folder, "data"),
  ];
  const command = [...limited, process.execPath, program, "start", ...flags];
  const node = new NodeProcess("one", command, { PATH: process.env["PATH"] ?? "" }, join(folder, "log"));
  node.start();
  let client: KithClient | undefined;
  try {
    client = await connect(target, { connectTimeoutMs: 20_000, retry: { attempts: 1 } });
    const name = await exhaust(client);
    client.close();
    await node.end("SIGTERM");
    node.start();
    client = await connect(target, { connectTimeoutMs: 20_000 });
    const handle = client.collection(name);
    await eventually(async () => expect(await handle.count()).toBe(1));
    expect(readFileSync(join(folder, "log"), "utf8")).not.toMatch(/CORRUPT_DATA|is damaged/);
  } finally {
    client?.close();
    await node.end("SIGTERM");
    rmSync(folder, { recursive: true, force: true });
  }
});

describe("a router", () => {
  const cluster = useCluster(() =>
    startProcesses({ shardNodes: 1, replicas: 1, prefix: (node) => (node === "router-0" ? limited : []) }),
  );

  test("without file handles for new connections answers on those that it has, and takes new ones when it can", {
    timeout: 60_000,
  }, async () => {
    const client = await cluster().connect({ retry: { attempts: 1 } });
    const handle = client.collection("there");
    await handle.create({ vectors: { dimension: 2, metric: "l2" } });
    const [host, port] = cluster().target.split(":");
    const sockets: Socket[] = [];
    try {
      for (let i = 0; i < 2 * filesMax; i++) {
        const socket = connectTcp(Number(port), host);
        socket.on("error", () => undefined);
        sockets.push(socket);
      }
      await once(sockets[0] as Socket, "connect");
      await eventually(() => expect(fileCount(cluster().pidOf("router-0"))).toBeGreaterThan(filesMax - 10));
      await handle.upsert({ id: 1, vector: [1, 2] });
      expect(await handle.count()).toBe(1);
    } finally {
      for (const socket of sockets) socket.destroy();
    }
    await eventually(async () => {
      const other = await cluster().connect({ connectTimeoutMs: 2_000 });
      expect(await other.collection("there").count()).toBe(1);
    }, 20_000);
  });
});
