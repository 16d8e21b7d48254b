/** `kith migrate`: collections go over with everything, from where it was interrupted, what differs is told, and they come back the same way. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadNodeConfig } from "../../../libs/config/index.js";
import { silentLogger } from "../../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../node/index.js";
import { run } from "../run.js";
import { testIo } from "../testing/io.js";

let source: RunningNode;
let target: RunningNode;
let proxy: Server;
let folder: string;
/** Writes of points that came to the target, and after how many of them it refuses the next. */
let writes = 0;
let refuseAfter = Infinity;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-migrate-"));
  [source, target] = await Promise.all(
    ["source", "target"].map(started) as [Promise<RunningNode>, Promise<RunningNode>],
  );
  proxy = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (/^PUT .*\/points\?/.test(`${request.method} ${request.url}`) && ++writes > refuseAfter) {
        response.writeHead(400).end('{"status":{"error":"the disk is full"},"result":null,"time":0}');
        return;
      }
      const body = chunks.length > 0 ? Buffer.concat(chunks) : null;
      void fetch(`http://${target.qdrantAddress}${request.url}`, { method: request.method ?? "", body }).then(
        async (answer) => void response.writeHead(answer.status).end(await answer.text()),
      );
    });
  });
  await new Promise<void>((done) => proxy.listen(0, "127.0.0.1", done));
});
afterAll(async () => {
  proxy.closeAllConnections();
  await new Promise((done) => proxy.close(done));
  await Promise.all([source.close(), target.close()]);
  rmSync(folder, { recursive: true, force: true });
});

function started(name: string): Promise<RunningNode> {
  const flags = {
    nodeId: name,
    roles: ["router", "shard", "coordinator"],
    data: join(folder, name),
    listen: { port: 0 },
    qdrant: { httpPort: 0 },
    drainTimeoutMs: 2_000,
  };
  return startNode(loadNodeConfig({ flags }), { version: "test", logger: () => silentLogger });
}

async function kith(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = testIo({ env: { KITH_STATE_DIR: folder } });
  const code = await run(args, io);
  return { code: Number(code), out: io.out(), err: io.err() };
}

async function call(server: RunningNode, method: string, path: string, body?: object | string): Promise<unknown> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(`http://${server.qdrantAddress}${path}`, {
    method,
    body: body === undefined ? null : text,
  });
  const answer = await response.text();
  expect(response.status, answer).toBe(200);
  return (JSON.parse(answer) as { result: unknown }).result;
}

/** The text of what the server has: every digit counts. */
async function scrolled(server: RunningNode, name: string): Promise<string> {
  const body = JSON.stringify({ limit: 1_000, with_vector: true });
  const url = `http://${server.qdrantAddress}/collections/${name}/points/scroll`;
  const text = await (await fetch(url, { method: "POST", body })).text();
  return text.replace(/,"time":.*$/, "");
}

test("collections go over with their schemas, indexes, points and aliases, and back again", {
  timeout: 60_000,
}, async () => {
  const from = `http://${source.qdrantAddress}`;
  const to = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  await call(source, "PUT", "/collections/films", {
    vectors: { size: 3, distance: "Cosine", hnsw_config: { m: 24 } },
    shard_number: 2,
    metadata: { owner: "ä" },
  });
  await call(source, "PUT", "/collections/films/index?wait=true", { field_name: "year", field_schema: "integer" });
  const title = { type: "text", tokenizer: "word", lowercase: true };
  await call(source, "PUT", "/collections/films/index?wait=true", { field_name: "title", field_schema: title });
  const rows = Array.from({ length: 40 }, (_, i) => ({
    id: i,
    vector: [i, 1, 2],
    payload: { year: 1900 + i, title: `Film ${i}`, nested: { list: [i, null] } },
  }));
  await call(source, "PUT", "/collections/films/points?wait=true", { points: rows });
  const digits = '{"points":[{"id":18446744073709551615,"vector":[1,2,3],"payload":{"n":9007199254740993,"f":1.0}}]}';
  await call(source, "PUT", "/collections/films/points?wait=true", digits);
  await call(source, "PUT", "/collections/parts", {
    vectors: { text: { size: 2, distance: "Dot" }, image: { size: 2, distance: "Euclid" } },
  });
  const parts = [
    { id: "550e8400-e29b-41d4-a716-446655440000", vector: { text: [0.1, 0.7] } },
    { id: 2, vector: { text: [1, 2], image: [3, 4] } },
  ];
  await call(source, "PUT", "/collections/parts/points?wait=true", { points: parts });
  await call(source, "POST", "/collections/aliases", {
    actions: [{ create_alias: { alias_name: "live", collection_name: "films" } }],
  });

  refuseAfter = 3;
  const broken = await kith("migrate", "--from", from, "--to", to, "--batch", "8");
  expect(broken.code).toBe(1);
  expect(broken.err).toMatch(/the disk is full; the same command goes on where it stopped/);
  refuseAfter = Infinity;
  writes = 0;
  const whole = await kith("migrate", "--from", from, "--to", to, "--batch", "8", "--output", "json");
  expect(whole.code, whole.err).toBe(0);
  // 41 points by 8 are 6 pages, of which 3 were written before; and one of the other collection.
  expect(writes).toBe(4);
  expect(JSON.parse(whole.out)).toMatchObject({
    from,
    to,
    aliases: 1,
    collections: [
      { collection: "films", created: false, points: 41, pointsThere: 41, compared: 41, differing: [], same: true },
      { collection: "parts", created: true, points: 2, pointsThere: 2, compared: 2, differing: [], same: true },
    ],
  });
  for (const name of ["films", "parts"]) expect(await scrolled(target, name)).toBe(await scrolled(source, name));
  expect(await call(target, "GET", "/collections/films")).toMatchObject({
    config: {
      params: { vectors: { size: 3, distance: "Cosine", hnsw_config: { m: 24 } }, shard_number: 2 },
      metadata: { owner: "ä" },
    },
    payload_schema: { year: { data_type: "integer", points: 40 }, title: { data_type: "text", params: title } },
  });
  expect(await call(target, "GET", "/aliases")).toEqual({
    aliases: [{ alias_name: "live", collection_name: "films" }],
  });

  // What differs is told, and ends with 1.
  await call(target, "POST", "/collections/parts/points/payload?wait=true", { payload: { other: true }, points: [2] });
  await call(target, "POST", "/collections/parts/points/delete?wait=true", { points: [parts[0]?.id] });
  const copied = await kith("migrate", "--from", to, "--to", from, "-c", "parts", "--output", "json");
  expect(copied.code).toBe(1);
  expect(JSON.parse(copied.out)).toMatchObject({
    collections: [{ collection: "parts", created: false, points: 1, pointsThere: 2, differing: [] }],
  });
  // Back into an empty place.
  await call(source, "DELETE", "/collections/parts");
  const back = await kith("migrate", "--from", to, "--to", from, "-c", "parts");
  expect(back.code, back.err).toBe(0);
  expect(back.out).toMatch(/parts +1 +1 +0 +1 +0/);
  expect(await scrolled(source, "parts")).toBe(await scrolled(target, "parts"));

  // Points of a collection with other vectors are not written into it.
  await call(target, "PUT", "/collections/other", { vectors: { size: 2, distance: "Dot" } });
  await call(source, "PUT", "/collections/other", { vectors: { size: 3, distance: "Dot" } });
  const refused = await kith("migrate", "--from", from, "--to", to, "--collections", "other");
  expect(refused.code).toBe(1);
  expect(refused.err).toMatch(/has a collection "other" with other vectors/);
  const missing = await kith("migrate", "--from", from, "--to", to, "--collections", "nothing");
  expect(missing.code).toBe(3);
  const nowhere = await kith("migrate", "--from", "http://127.0.0.1:1", "--to", to, "--timeout", "100ms");
  expect(nowhere.code).toBe(4);
});
