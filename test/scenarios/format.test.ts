/**
 * A data folder that the first release has written (test/fixtures/format-1, storage format 1) opens with this one: it is
 * migrated in place, answers as before, and has the digest that a replay of its log leads to.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { KithClient, PointInput, ScoredPoint } from "../../libs/client/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { Cluster } from "../cluster/cluster.js";
import { onceAvailable } from "../cluster/eventually.js";
import { startInProcess } from "../cluster/in-process.js";

type Json = Record<string, unknown>;

interface ShardState {
  collection: string;
  shard: number;
  logSequence: number;
  appliedSequence: number;
  pointCount: number;
  digest: string;
}

interface Question {
  collection: string;
  get?: (string | number)[];
  query?: Json & { vector?: number[]; point?: number };
  answer: Json[];
}

/** What make.mjs wrote beside the folder; bigints are text that ends with "n". */
interface Expected {
  shards: ShardState[];
  collections: { name: string; labels: Json; vectors: Json[] }[];
  contents: Record<string, { count: number; sha256: string; points: [string, number][] }>;
  repeated: {
    upsert?: PointInput[];
    delete?: number[];
    options: { mode?: "insert"; idempotencyKey: string };
    answer: Json;
  }[];
  questions: Question[];
}

const fixture = new URL("../fixtures/format-1/", import.meta.url).pathname;
const expected = JSON.parse(readFileSync(join(fixture, "expected.json"), "utf8")) as Expected;
const folders: string[] = [];
const clusters: Cluster[] = [];
afterAll(async () => {
  for (const cluster of clusters) await cluster.close();
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function unpack(): string {
  const folder = mkdtempSync(join(tmpdir(), "kith-format-"));
  folders.push(folder);
  const { status, stderr } = spawnSync("tar", ["-xzf", join(fixture, "data.tgz"), "-C", folder], { encoding: "utf8" });
  expect(status, stderr).toBe(0);
  return folder;
}

async function start(data: string): Promise<{ cluster: Cluster; client: KithClient }> {
  const cluster = await startInProcess({ data, nodeId: "dev" });
  clusters.push(cluster);
  return { cluster, client: await cluster.connect() };
}

/** Alarms of the replicas since so many characters of the log, without those that tell of a start as any other. */
function alarms(cluster: Cluster, from = 0): string[] {
  const lines = cluster.logOf("dev").slice(from).split("\n");
  return lines.flatMap((line) => {
    if (!line.includes("replica alarm")) return [];
    return [(JSON.parse(line) as { alarm: string }).alarm];
  });
}

const idOf = (id: string | number): number | bigint | string =>
  typeof id === "string" && /^\d+n$/.test(id) ? BigInt(id.slice(0, -1)) : id;

/** As make.mjs writes answers. */
function plain(value: unknown): unknown {
  const text = JSON.stringify(value, (_, each: unknown) => {
    if (typeof each === "bigint") return `${each}n`;
    return each instanceof Float32Array ? [...each] : each;
  });
  return JSON.parse(text);
}

async function contents(client: KithClient, name: string): Promise<Expected["contents"][string]> {
  const hash = createHash("sha256");
  const points: [string, number][] = [];
  for await (const point of client.collection(name).scroll({ withVectors: true, batch: 97 })) {
    const { id, version, payload = null, vector = null, vectors = {} } = point;
    const named = Object.keys(vectors)
      .sort()
      .map((key) => [key, [...(vectors[key] ?? [])]]);
    hash.update(JSON.stringify([String(id), version, payload, vector && [...vector], named]));
    points.push([String(id), version]);
  }
  return { count: await client.collection(name).count(), sha256: hash.digest("hex"), points };
}

/** Everything that the release that made the folder was asked, asked again. */
async function expectSameAnswers(client: KithClient): Promise<void> {
  for (const { name, labels, vectors } of expected.collections) {
    expect(await client.collection(name).info()).toMatchObject({ labels, vectors });
    expect(await contents(client, name)).toEqual(expected.contents[name]);
  }
  for (const { collection, get, query, answer } of expected.questions) {
    const handle = client.collection(collection);
    if (get !== undefined) expect(plain(await handle.get(get.map(idOf), { withVectors: true }))).toEqual(answer);
    if (query === undefined) continue;
    const { points } = await handle.query(query);
    const bare = (each: ScoredPoint | Json): unknown => plain({ ...each, score: undefined });
    expect(points.map(bare)).toEqual(answer.map(bare));
    for (const [i, { score }] of points.entries()) expect(score).toBeCloseTo(answer[i]?.["score"] as number, 5);
  }
}

/** All shards, once they are active and have applied all that their logs hold. */
async function applied(client: KithClient): Promise<ShardState[]> {
  return eventually(async () => {
    const { shards } = await client.cluster.describe();
    const states = shards.map(({ collection, shard, logSequence = 0, replicas: [replica] }) => {
      if (replica?.state !== "active") throw new Error(`shard ${shard} of ${collection} is ${replica?.state}`);
      const { appliedSequence, pointCount, digest } = replica;
      expect(appliedSequence).toBe(logSequence);
      return { collection, shard, logSequence, appliedSequence, pointCount, digest };
    });
    return states.sort((a, b) => (`${a.collection}${a.shard}` < `${b.collection}${b.shard}` ? -1 : 1));
  });
}

const digestsOf = (states: readonly ShardState[]): string[] => states.map(({ digest }) => digest);

test("a folder of format 1 is migrated, answers the same, and has the digest of a replay", async () => {
  const data = unpack();
  const { cluster, client } = await start(data);
  await onceAvailable(() => expectSameAnswers(client));
  const migrated = await applied(client);
  const withoutDigest = ({ digest: _, ...rest }: ShardState): unknown => rest;
  expect(migrated.map(withoutDigest)).toEqual(expected.shards.map(withoutDigest));
  const each = expected.shards.length;
  expect(alarms(cluster).sort()).toEqual([
    ...new Array<string>(each).fill("migrated"),
    ...new Array<string>(each).fill("migration_started"),
  ]);
  // Digests of two formats have nothing in common.
  for (const [i, digest] of digestsOf(migrated).entries()) expect(digest).not.toBe(expected.shards[i]?.digest);

  // The second start finds nothing to migrate.
  const from = cluster.logOf("dev").length;
  await cluster.stop("dev");
  await cluster.start("dev");
  await onceAvailable(() => expectSameAnswers(client));
  expect(await applied(client)).toEqual(migrated);
  expect(alarms(cluster, from)).toEqual([]);

  const replayed = unpack();
  rmSync(join(replayed, "replicas"), { recursive: true });
  const other = await start(replayed);
  expect(await applied(other.client)).toEqual(migrated);
  await expectSameAnswers(other.client);

  // Writes that the first release has made, repeated: their outcomes are known still, and nothing changes.
  for (const { upsert, delete: ids, options, answer } of expected.repeated) {
    const articles = client.collection("articles");
    const repeated = await (upsert === undefined
      ? articles.delete(ids ?? [], options)
      : articles.upsert(upsert, options));
    expect(repeated).toMatchObject(answer);
  }
  expect(digestsOf(await applied(client))).toEqual(digestsOf(migrated));
  await expectSameAnswers(client);
  // It takes writes as any other.
  const { upserted } = await client.collection("media").upsert({ id: "new", vectors: { image: [1, 2, 3, 4] } });
  expect(upserted).toBe(1);
  expect(await client.collection("media").count()).toBe((expected.contents["media"]?.count ?? 0) + 1);
});
