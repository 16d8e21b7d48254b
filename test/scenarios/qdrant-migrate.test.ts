/** `kith migrate` of every kind of collection, killed in the middle: the same command goes on, and what is there afterwards is the same, and comes back the same. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import { QdrantClient } from "@qdrant/js-client-rest";
import { eventually } from "../../libs/base/testing.js";
import { program } from "../cluster/processes.js";
import { TestServer } from "../cluster/rest-server.js";

let servers: TestServer[];
let source: QdrantClient;
let target: QdrantClient;
let folder: string;
const urls: string[] = [];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-migrate-"));
  servers = await Promise.all([1, 2].map(() => TestServer.start({}, { qdrant: { httpPort: 0 } })));
  urls.push(...servers.map(({ node }) => `http://${node.qdrantAddress}`));
  [source, target] = urls.map((url) => new QdrantClient({ url })) as [QdrantClient, QdrantClient];
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()));
  rmSync(folder, { recursive: true, force: true });
});

const pointCount = 400;

async function fill(): Promise<void> {
  await source.createCollection("kinds", {
    vectors: {
      whole: { size: 4, distance: "Dot" },
      coded: { size: 4, distance: "Cosine", quantization_config: { scalar: { type: "int8" } } },
      half: { size: 4, distance: "Euclid", datatype: "float16" },
      rows: { size: 2, distance: "Cosine", multivector_config: { comparator: "max_sim" } },
    },
    sparse_vectors: { words: { modifier: "idf" } },
    shard_number: 2,
  });
  const random = (id: number, length: number) => Array.from({ length }, (_, i) => Math.sin(id * 31 + i + 1));
  const points = Array.from({ length: pointCount }, (_, id) => ({
    id,
    vector: {
      whole: random(id, 4),
      coded: random(id + 1, 4),
      half: random(id + 2, 4),
      rows: [random(id, 2), random(id + 3, 2)],
      ...(id % 3 > 0 && { words: { indices: [id, id + 7], values: [1, 0.5] } }),
    },
    payload: { n: id, text: `text ${id}`, at: { lon: id / 10, lat: 1 }, none: null },
  }));
  await source.upsert("kinds", { wait: true, points });
  for (const [field, schema] of [
    ["n", "integer"],
    ["at", "geo"],
    ["text", { type: "text", tokenizer: "word", phrase_matching: true }],
  ] as const) {
    await source.createPayloadIndex("kinds", { field_name: field, field_schema: schema, wait: true });
  }
  await source.createCollection("keyed", { vectors: { size: 2, distance: "Dot" }, sharding_method: "custom" });
  for (const key of ["a", "b"]) {
    await source.createShardKey("keyed", { shard_key: key });
    const own = [1, 2].map((id) => ({ id, vector: [id, 1], payload: { key } }));
    await source.upsert("keyed", { wait: true, points: own, shard_key: key });
  }
  await source.updateCollectionAliases({
    actions: [{ create_alias: { alias_name: "live", collection_name: "kinds" } }],
  });
}

const migrate = (from: string | undefined, to: string | undefined, ...more: string[]) => {
  const args = [program, "migrate", "--from", from ?? "", "--to", to ?? "", "--output", "json", ...more];
  const child = spawn(process.execPath, args, { env: { ...process.env, KITH_STATE_DIR: folder } });
  const said = { out: "", err: "" };
  child.stdout.on("data", (text) => (said.out += String(text)));
  child.stderr.on("data", (text) => (said.err += String(text)));
  return { child, said };
};

/** Everything that the server has of the collections. */
async function all(client: QdrantClient): Promise<object> {
  const { points } = await client.scroll("kinds", { limit: pointCount, with_vector: true });
  const keyed = ["a", "b"].map((key) => client.scroll("keyed", { limit: 9, with_vector: true, shard_key: key }));
  const { config, payload_schema: indexes, points_count: count } = await client.getCollection("kinds");
  return { points, keyed: await Promise.all(keyed), config, indexes, count, aliases: await client.getAliases() };
}

test("it goes on where it was killed, with everything, and back", { timeout: 90_000 }, async () => {
  await fill();
  const killed = migrate(urls[0], urls[1], "--batch", "2");
  const exited = once(killed.child, "exit");
  await eventually(async () => {
    const { count } = await target.count("kinds", { exact: true }).catch(() => ({ count: 0 }));
    return count >= 20;
  }, 30_000);
  killed.child.kill("SIGKILL");
  await exited;
  const { count: before } = await target.count("kinds", { exact: true });
  expect(before).toBeLessThan(pointCount);

  const whole = migrate(urls[0], urls[1], "--batch", "50");
  expect(await once(whole.child, "exit"), whole.said.err).toEqual([0, null]);
  expect(JSON.parse(whole.said.out)).toMatchObject({
    aliases: 1,
    collections: [
      { collection: "keyed", points: 4, pointsThere: 4, same: true, differing: [] },
      { collection: "kinds", points: pointCount, pointsThere: pointCount, compared: 200, same: true, differing: [] },
    ],
  });
  const there = await all(target);
  expect(there).toEqual(await all(source));

  // And back, into an empty place.
  for (const name of ["kinds", "keyed"]) await source.deleteCollection(name);
  const back = migrate(urls[1], urls[0], "--sample", "400");
  expect(await once(back.child, "exit"), back.said.err).toEqual([0, null]);
  expect(await all(source)).toEqual(there);
});
