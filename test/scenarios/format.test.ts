/**
 * A data folder that the first release has written (test/fixtures/format-1, storage format 1) opens with this one: it is
 * migrated in place, answers as before, and has the digest that a replay of its log leads to.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { KithClient } from "../../libs/client/index.js";
import type { Cluster } from "../cluster/cluster.js";
import { onceAvailable } from "../cluster/eventually.js";
import {
  alarmsIn,
  applied,
  digestsOf,
  expected,
  expectSameAnswers,
  type ShardState,
  unpackFormat1,
} from "../cluster/format-1.js";
import { startInProcess } from "../cluster/in-process.js";

const folders: string[] = [];
const clusters: Cluster[] = [];
afterAll(async () => {
  for (const cluster of clusters) await cluster.close();
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function unpack(): string {
  const folder = unpackFormat1();
  folders.push(folder);
  return folder;
}

async function start(data: string): Promise<{ cluster: Cluster; client: KithClient }> {
  const cluster = await startInProcess({ data, nodeId: "dev" });
  clusters.push(cluster);
  return { cluster, client: await cluster.connect() };
}

test("a folder of format 1 is migrated, answers the same, and has the digest of a replay", async () => {
  const data = unpack();
  const { cluster, client } = await start(data);
  await onceAvailable(() => expectSameAnswers(client));
  const migrated = await applied(client);
  const withoutDigest = ({ digest: _, ...rest }: ShardState): unknown => rest;
  expect(migrated.map(withoutDigest)).toEqual(expected.shards.map(withoutDigest));
  const each = expected.shards.length;
  expect(alarmsIn(cluster.logOf("dev")).sort()).toEqual([
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
  expect(alarmsIn(cluster.logOf("dev").slice(from))).toEqual([]);

  const replayed = unpack();
  rmSync(join(replayed, "replicas"), { recursive: true });
  const other = await start(replayed);
  expect(await applied(other.client)).toEqual(migrated);
  await expectSameAnswers(other.client);

  // Writes that the first release has made, repeated: nothing changes. Of a call to several shards the outcome of the first alone is known still, since
  // operations have other ids; of what is written to one shard all is.
  const articles = client.collection("articles");
  for (const { upsert, delete: ids, options } of expected.repeated) {
    if (upsert === undefined) {
      const { deleted } = await articles.delete(ids ?? [], options);
      expect(deleted).toBeGreaterThan(0);
    } else {
      const { upserted, errors } = await articles.upsert(upsert, options);
      expect(upserted).toBeGreaterThan(0);
      expect(upserted + errors.length).toBe(upsert.length);
      expect(new Set(errors.map(({ code }) => code))).toEqual(new Set(["POINT_EXISTS"]));
    }
  }
  expect(digestsOf(await applied(client))).toEqual(digestsOf(migrated));
  await expectSameAnswers(client);
  // It takes writes as any other.
  const { upserted } = await client.collection("media").upsert({ id: "new", vectors: { image: [1, 2, 3, 4] } });
  expect(upserted).toBe(1);
  expect(await client.collection("media").count()).toBe((expected.contents["media"]?.count ?? 0) + 1);
});
