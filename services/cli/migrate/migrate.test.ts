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
/** What becomes of the text of a write on its way. */
let changed = (text: string): string => text;
/** Points with this text are refused. */
let unwanted: string | undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-migrate-"));
  [source, target] = await Promise.all(
    ["source", "target"].map(started) as [Promise<RunningNode>, Promise<RunningNode>],
  );
  proxy = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const isWrite = /^PUT .*\/points\?/.test(`${request.method} ${request.url}`);
      const refuse = (status: number, error: string): void =>
        void response.writeHead(status).end(JSON.stringify({ status: { error }, result: null, time: 0 }));
      if (isWrite && ++writes > refuseAfter) return refuse(507, "the disk is full");
      const given = Buffer.concat(chunks).toString();
      if (isWrite && unwanted !== undefined && given.includes(unwanted)) return refuse(422, "it is not liked");
      const text = isWrite ? changed(given) : given;
      const body = text === "" ? null : text;
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
  expect(back.out).toMatch(/parts +1 +1 +0 +0 +1 +0/);
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

test("points that are refused are told and left out, and points that came over otherwise are found", {
  timeout: 60_000,
}, async () => {
  const from = `http://${source.qdrantAddress}`;
  const to = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const ends = ["migrate", "--from", from, "--to", to, "--collections", "guests", "--batch", "16", "--output", "json"];
  const vectors = { size: 2, distance: "Dot" };
  await call(source, "PUT", "/collections/guests", { vectors });
  // The one side takes fewer points at a time than pages have.
  const strict = { enabled: true, upsert_max_batchsize: 5 };
  await call(target, "PUT", "/collections/guests", { vectors, strict_mode_config: strict });
  const odd = '{"id":18446744073709551615,"vector":[7,1],"payload":{"name":"an odd guest"}}';
  const guests = Array.from({ length: 30 }, (_, id) =>
    JSON.stringify({ id, vector: [id, 1], payload: { name: id % 10 === 3 ? "an odd guest" : `guest ${id}.` } }),
  );
  await call(source, "PUT", "/collections/guests/points?wait=true", `{"points":[${[...guests, odd].join()}]}`);

  unwanted = "odd guest";
  const stopped = await kith(...ends, "--refused", "1");
  expect(stopped.code).toBe(1);
  expect(stopped.err).toMatch(
    /2 points of "guests" were refused, more than --refused 1; the last is 13: .*it is not liked/,
  );
  const some = await kith(...ends);
  expect(some.code, some.err).toBe(1);
  expect(some.err).not.toContain("error:");
  const why = expect.stringMatching(/it is not liked$/) as string;
  expect(some.out).toContain('"refused":[{"id":3,');
  expect(some.out).toContain('{"id":18446744073709551615,');
  expect(JSON.parse(some.out)).toMatchObject({
    collections: [{ points: 31, pointsThere: 27, same: false, refused: [{ id: 3, why }, { id: 13 }, { id: 23 }, {}] }],
  });
  expect(some.err).toContain("guests: point 13 was refused");
  const progress = some.err.split("\n").filter((line) => line.startsWith("{"));
  expect(progress.map((line) => JSON.parse(line) as object)).toEqual([
    { collection: "guests", points: 0, total: 31 },
    { collection: "guests", points: 27, total: 31 },
  ]);

  unwanted = undefined;
  changed = (text) => text.replace("guest 7.", "guest 8.").replace(/"id":9,"vector":\[9/, '"id":9,"vector":[9.5');
  const other = await kith(...ends);
  expect(other.code).toBe(1);
  expect(JSON.parse(other.out)).toMatchObject({
    collections: [{ points: 31, pointsThere: 31, compared: 31, refused: [], same: false }],
  });
  const [{ differing }] = (JSON.parse(other.out) as { collections: [{ differing: string[] }] }).collections;
  expect(differing.sort()).toEqual(["7 has another payload", "9 has another vector"]);
  changed = (text) => text;
  const same = await kith(...ends);
  expect(same.code, same.err).toBe(0);
});

test("a server that leads elsewhere is not followed: it would be given the key", async () => {
  let asked = 0;
  const elsewhere = createServer((_, response) => {
    asked++;
    response.end("{}");
  });
  const leading = createServer((_, response) => {
    response.writeHead(307, { location: `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/` }).end();
  });
  try {
    for (const server of [elsewhere, leading]) {
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    }
    const from = `http://127.0.0.1:${(leading.address() as AddressInfo).port}`;
    const { code, err } = await kith("migrate", "--from", from, "--to", `http://${target.qdrantAddress}`);
    expect(code).not.toBe(0);
    expect(err).toMatch(/leads to http:\/\/127\.0\.0\.1:\d+\/: give that address where it is meant/);
    expect(asked).toBe(0);
  } finally {
    elsewhere.close();
    leading.close();
  }
});
