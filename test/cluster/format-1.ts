/** The data folder that the first release wrote (test/fixtures/format-1), and what that release answered. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { KithClient, PointInput, ScoredPoint } from "../../libs/client/index.js";
import { eventually } from "../../libs/base/testing.js";

type Json = Record<string, unknown>;

export interface ShardState {
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
export const expected = JSON.parse(readFileSync(join(fixture, "expected.json"), "utf8")) as Expected;

/** A copy of the folder; deleted by who asks for it. */
export function unpackFormat1(): string {
  const folder = mkdtempSync(join(tmpdir(), "kith-format-"));
  const { status, stderr } = spawnSync("tar", ["-xzf", join(fixture, "data.tgz"), "-C", folder], { encoding: "utf8" });
  expect(status, stderr).toBe(0);
  return folder;
}

/** Alarms of the replicas in a node's log. */
export function alarmsIn(log: string): string[] {
  return log.split("\n").flatMap((line) => {
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

const vectorsOf = (collection: string): Json[] =>
  expected.collections.find(({ name }) => name === collection)?.vectors ?? [];

/** Everything that the release that made the folder was asked, asked again. */
export async function expectSameAnswers(client: KithClient): Promise<void> {
  for (const { name, labels, vectors } of expected.collections) {
    expect(await client.collection(name).info()).toMatchObject({ labels, vectors });
    expect(await contents(client, name)).toEqual(expected.contents[name]);
  }
  for (const { collection, get, query, answer } of expected.questions) {
    const handle = client.collection(collection);
    if (get !== undefined) expect(plain(await handle.get(get.map(idOf), { withVectors: true }))).toEqual(answer);
    if (query === undefined) continue;
    const { points } = await handle.query(query);
    const field = vectorsOf(collection).find(({ name }) => name === (query["using"] ?? ""));
    if (field?.["datatype"] === "i8") expectNearlySame(points, answer);
    else {
      expect(points.map(bare)).toEqual(answer.map(bare));
      for (const [i, { score }] of points.entries()) expect(score).toBeCloseTo(answer[i]?.["score"] as number, 5);
    }
  }
}

/** All but the score. */
const bare = (each: ScoredPoint | Json): unknown => plain({ ...each, score: undefined });

/** The first release ranked by i8 codes, which were off by up to so much; this one by the vectors that they were made of. */
const codeError = 0.01;

/** The same points, but where scores are nearer to each other than the codes could tell. */
function expectNearlySame(points: readonly ScoredPoint[], answer: readonly Json[]): void {
  const scores = points.map(({ score }) => score);
  const before = answer.map(({ score }) => score as number);
  expect(scores).toHaveLength(before.length);
  for (const [i, score] of scores.entries()) expect(Math.abs(score - (before[i] as number))).toBeLessThan(codeError);
  for (const [i, each] of answer.entries()) {
    const same = points.find(({ id }) => String(id) === String(idOf(each["id"] as string | number)));
    if (same !== undefined) expect(bare(same)).toEqual(bare(each));
    else expect(Math.abs((before[i] as number) - (scores.at(-1) as number))).toBeLessThan(codeError);
  }
}

/** All shards, once they are active and have applied all that their logs hold. */
export async function applied(client: KithClient): Promise<ShardState[]> {
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

export const digestsOf = (states: readonly ShardState[]): string[] => states.map(({ digest }) => digest);
