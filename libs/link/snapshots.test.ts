import { afterEach, beforeEach, expect, test } from "vitest";
import { deferred, KithError, sleep, systemClock, systemRuntime } from "../base/index.js";
import { eventually } from "../base/testing.js";
import type { Snapshot, SnapshotBlock, SnapshotChunk, SnapshotWanted } from "../model/index.js";
import { createChannel, openStream } from "../rpc/client/index.js";
import { createRpcServer, type RpcServer } from "../rpc/server/index.js";
import { fetchSnapshot, serveSnapshots, snapshotService } from "./snapshots.js";

const replica = { collectionId: "c1", shard: 3 };
const wanted = { incarnation: "i", minSequence: 7 };
const manifest = { format: 1, incarnation: "i", sequence: 9, pointCount: 2, id: "s", sizeBytes: 100 };
const chunk = (n: number, sizeBytes = 8): SnapshotChunk => ({
  keys: [Buffer.from([1, n])],
  values: [Buffer.alloc(sizeBytes, n)],
});

let server: RpcServer;
let address: string;
let closedCount: number;
let sentCount: number;
let asked: unknown[];
/** What the node gives. */
let give: () => AsyncGenerator<SnapshotChunk>;
/** What it gives in the place of that. */
let giveFiles: (wanted: SnapshotWanted) => Partial<Snapshot>;

beforeEach(async () => {
  closedCount = sentCount = 0;
  asked = [];
  giveFiles = () => ({});
  server = createRpcServer({ ...systemRuntime, node: "n" });
  serveSnapshots(server, {
    snapshot: async (...args): Promise<Snapshot> => {
      asked.push(args);
      const chunks = give();
      return { manifest, chunks, ...giveFiles(args[1]), close: async () => void closedCount++ };
    },
  });
  address = `127.0.0.1:${await server.listen("127.0.0.1", 0)}`;
});
afterEach(() => server.drain(0));

function fetched(signal = new AbortController().signal): Promise<Snapshot> {
  return fetchSnapshot(replica, wanted, { address, node: "shard-1", clock: systemClock, signal });
}

async function all({ chunks }: Snapshot): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const { keys, values } of chunks)
    found.push([keys.map((key) => [...key]), values.map(({ length }) => length)]);
  return found;
}

test("a snapshot arrives as it was given, larger than any buffer, and is closed where it was taken", async () => {
  give = async function* () {
    for (let n = 0; n < 60; n++) yield chunk(n, 512 * 1024);
  };
  const snapshot = await fetched();
  expect(snapshot.manifest).toEqual(manifest);
  expect(await all(snapshot)).toEqual(Array.from({ length: 60 }, (_, n) => [[[1, n]], [512 * 1024]]));
  expect(asked).toEqual([[replica, wanted]]);
  await snapshot.close();
  await eventually(() => expect(closedCount).toBe(1));
});

test("a reader that is slow holds the sender", async () => {
  give = async function* () {
    for (; sentCount < 200; sentCount++) yield chunk(sentCount, 1024 * 1024);
  };
  const snapshot = await fetched();
  const iterator = snapshot.chunks[Symbol.asyncIterator]();
  await iterator.next();
  let before: number;
  do {
    before = sentCount;
    await sleep(systemClock, 200);
  } while (sentCount > before);
  // What HTTP/2 and the sockets hold, and no more.
  expect(sentCount).toBeLessThan(60);
  await snapshot.close();
  await eventually(() => expect(closedCount).toBe(1));
  expect(sentCount).toBeLessThan(60);
});

test("what the node answers comes back with its code, at the start and in between", async () => {
  give = () => {
    throw new KithError("RESOURCE_EXHAUSTED", "two are given out already");
  };
  await expect(fetched()).rejects.toMatchObject({ code: "RESOURCE_EXHAUSTED", message: "two are given out already" });
  give = async function* () {
    yield chunk(1);
    throw new KithError("CORRUPT_DATA", "a value is damaged");
  };
  await expect(all(await fetched())).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  await eventually(() => expect(closedCount).toBe(1));
});

test("a node that ends while it sends, or is not there, is told from a snapshot that is complete", async () => {
  const gate = deferred<void>();
  give = async function* () {
    yield chunk(1);
    await gate.promise;
    yield chunk(2);
  };
  const reading = all(await fetched());
  const refused = expect(reading).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  const drained = server.drain(5_000);
  gate.resolve();
  await refused;
  await drained;
  expect(closedCount).toBe(1);
  await expect(fetched()).rejects.toMatchObject({ code: "SERVER_UNREACHABLE" });
});

test("a reader that is told to stop does so at once, and the node lets go", async () => {
  const gate = deferred<void>();
  give = async function* () {
    yield chunk(1);
    await gate.promise;
    yield chunk(2);
  };
  const stop = new AbortController();
  const snapshot = await fetched(stop.signal);
  const reading = expect(all(snapshot)).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  stop.abort(new KithError("SHUTTING_DOWN", "the replica is closing"));
  await reading;
  await snapshot.close();
  gate.resolve();
  await eventually(() => expect(closedCount).toBe(1));
});

test("a request that names nothing, or does not come, is refused", async () => {
  const channel = createChannel(address, systemRuntime);
  try {
    for (const send of [true, false]) {
      const ended = deferred<KithError | undefined>();
      const stream = openStream(channel, snapshotService.fetch, {
        onMessage: () => undefined,
        onEnd: (error) => ended.resolve(error),
      });
      if (send)
        stream.write({
          replica: undefined,
          ...wanted,
          resumeId: "",
          afterKey: Buffer.alloc(0),
          withChanges: false,
          takesFiles: false,
          resumeFile: undefined,
        });
      else stream.end();
      expect(await ended.promise).toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  } finally {
    channel.close();
  }
});

test("files come in blocks, where they are wanted and given, and go on at a place", async () => {
  const files = [
    { name: "db/000001.ldb", sizeBytes: 600_000 },
    { name: "db/CURRENT", sizeBytes: 0 },
  ];
  const block = (file: number, offset: number, sizeBytes: number): SnapshotBlock => ({
    ...{ file, offset, crc32c: file + offset },
    data: new Uint8Array(sizeBytes),
  });
  const blocks = [block(0, 0, 500_000), block(0, 500_000, 100_000), block(1, 0, 0)];
  const places: unknown[] = [];
  give = () => streamOf([chunk(1)]);
  // A node that is not asked for files gives entries, and so does one of a release that knows of none.
  giveFiles = ({ takesFiles, resume }) => {
    places.push([takesFiles, resume]);
    if (takesFiles !== true) return {};
    const left = blocks.slice(resume?.file === undefined ? 0 : 1);
    return { manifest: { ...manifest, files }, blocks: streamOf(left) };
  };
  const options = { address, node: "shard-1", clock: systemClock, signal: new AbortController().signal };
  const fetch = (also: Partial<SnapshotWanted>): Promise<Snapshot> =>
    fetchSnapshot(replica, { ...wanted, ...also }, options);
  const resume = { id: "s", afterKey: new Uint8Array(0), file: { file: 0, offset: 500_000 } };
  for (const [also, expected] of [
    [{ takesFiles: true }, blocks],
    [{ takesFiles: true, resume }, blocks.slice(1)],
  ] as const) {
    const snapshot = await fetch(also);
    expect(snapshot.manifest).toEqual({ ...manifest, files });
    const found: unknown[] = [];
    for await (const { data, ...each } of snapshot.blocks ?? []) found.push({ ...each, length: data.length });
    expect(found).toEqual(expected.map(({ data, ...each }) => ({ ...each, length: data.length })));
    await snapshot.close();
  }
  const entries = await fetch({});
  expect(entries.blocks).toBeUndefined();
  expect(await all(entries)).toEqual([[[[1, 1]], [8]]]);
  await entries.close();
  expect(places).toEqual([
    [true, undefined],
    [true, resume],
    [undefined, undefined],
  ]);
});

async function* streamOf<T>(parts: readonly T[]): AsyncGenerator<T> {
  for (const part of parts) yield await Promise.resolve(part);
}
