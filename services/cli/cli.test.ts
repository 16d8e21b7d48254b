import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { KithError } from "../../libs/base/index.js";
import { connect } from "../../libs/client/index.js";
import { candidates } from "./commands/completion.js";
import { ConnectError, reportOf } from "./failure.js";
import { buildProgram, run } from "./run.js";
import { testIo } from "./testing/io.js";
import { useNode } from "./testing/node.js";

const served = useNode();
const { kith } = served;

const json = (text: string): unknown => JSON.parse(text);

describe("collections", () => {
  it("are created, listed, described and deleted", async () => {
    const created = await kith(["collection", "create", "life", "-d", "3", "--metric", "l2", "--label", "a=b"]);
    expect(created).toEqual({ code: 0, out: "created life (3 × f32, l2; 1 shard × 1 replica)\n", err: "" });
    const again = await kith(["collection", "create", "life", "-d", "3"]);
    expect(again.code).toBe(1);
    expect(again.err).toContain("[COLLECTION_EXISTS]");
    expect((await kith(["collection", "create", "life", "-d", "3", "-m", "l2", "--if-not-exists"])).code).toBe(0);
    const differs = await kith(["collection", "create", "life", "-d", "3", "--if-not-exists"]);
    expect(differs.code).toBe(1);
    expect(differs.err).toContain("exists with another schema: the metric is l2, not cosine");
    const twice = await kith(["collection", "create", "twice", "--vector", "a:3", "--vector", "a:4"]);
    expect(twice.code).toBe(2);
    expect(twice.err).toContain('The vector field "a" is named twice.');

    expect((await kith(["collection", "list"])).out).toMatch(/^NAME +STATE[^\n]*\nlife +ready +3\/l2\/f32/);
    const described = await kith(["collection", "describe", "life", "-o", "json"]);
    expect(json(described.out)).toMatchObject({ name: "life", labels: { a: "b" }, stats: { pointCount: 0 } });
    expect((await kith(["collection", "describe", "life"])).out).toContain("SEQUENCE");

    const unsure = await kith(["collection", "delete", "life"]);
    expect(unsure).toMatchObject({ code: 2, out: "" });
    expect(unsure.err).toContain("--yes");
    expect(await kith(["collection", "delete", "life", "--yes"])).toEqual({ code: 0, out: "deleted life\n", err: "" });
    expect((await kith(["collection", "describe", "life"])).code).toBe(3);
  });
});

describe("writes of parts", () => {
  it("set, overwrite, delete and clear payloads, and delete points, by ids and by filter", async () => {
    await kith(["collection", "create", "parts", "-d", "2", "--metric", "l2"]);
    const rows = [1, 2, 3, 4].map((id) => JSON.stringify({ id, vector: [id, 0], payload: { n: id } })).join("\n");
    await kith(["import", "-", "--collection", "parts", "--format", "jsonl"], { input: rows });
    const shown = async (id: number): Promise<unknown> => {
      const [point] = json((await kith(["get", "parts", String(id), "-o", "json"])).out) as { payload?: unknown }[];
      return point?.payload;
    };
    const big = '{"big":9007199254740993}';
    const set = await kith(["payload", "set", "parts", "1", "--payload", big]);
    expect(set).toEqual({ code: 0, out: "changed 1 point\n", err: "" });
    expect((await kith(["get", "parts", "1", "-o", "json"])).out).toContain('"big":9007199254740993');
    await kith(["payload", "set", "parts", "--filter", "n > 2", "--path", "a.b", "--payload", '{"c":1}']);
    expect(await shown(3)).toEqual({ n: 3, a: { b: { c: 1 } } });
    await kith(["payload", "delete", "parts", "--filter", "exists(a)", "--path", "a.b.c", "n"]);
    expect(await shown(4)).toEqual({ a: { b: {} } });
    await kith(["payload", "overwrite", "parts", "4", "--payload", '{"n":40}', "--only-if", "not exists(n)"]);
    expect(await shown(4)).toEqual({ n: 40 });
    const missing = await kith(["payload", "clear", "parts", "1", "99", "-o", "json"]);
    expect(missing.code).toBe(3);
    expect(json(missing.out)).toMatchObject({ affected: 1, errors: [{ index: 1, code: "POINT_NOT_FOUND" }] });
    expect((await kith(["payload", "clear", "parts"])).code).toBe(2);
    expect((await kith(["payload", "clear", "parts", "1", "--filter", "n = 1"])).err).toContain("not both");
    // As with a variable of the shell that was never set.
    const unset = await kith(["delete", "parts", "--filter", ""]);
    expect(unset).toMatchObject({ code: 1, err: expect.stringContaining("filter is an empty text") as string });
    const deleted = await kith(["delete", "parts", "--filter", "n < 50"]);
    expect(deleted).toEqual({ code: 0, out: "deleted 2 points\n", err: "" });
  });
});

describe("points", () => {
  const lines = [
    { id: 1, vector: [1, 0, 0], title: "east" },
    { id: "north", vector: [0, 1, 0], title: "north" },
    { id: 2, vector: [0.9, 0.1, 0], title: "almost\u001b[31m east" },
    { id: "42", vector: [0, 0, 1] },
  ];
  const input = lines.map((line) => JSON.stringify(line)).join("\n");

  beforeAll(async () => {
    const imported = await kith(["import", "-", "-f", "jsonl", "-c", "compass", "--create", "-o", "json"], { input });
    expect(imported.code, imported.err).toBe(0);
    expect(json(imported.out)).toMatchObject({ collection: "compass", upserted: 4, rejected: 0, nextRow: 4 });
    expect(imported.err).toContain("created compass");
  });

  it("are searched by vector and by id", async () => {
    const found = await kith(["search", "compass", "--vector", "[1, 0, 0]", "-n", "2", "-o", "json"]);
    expect(json(found.out)).toMatchObject({
      points: [
        { id: 1, score: 1, payload: { title: "east" } },
        { id: 2, payload: { title: "almost\u001b[31m east" } },
      ],
    });
    const table = await kith(["search", "compass", "--id", "1", "--limit", "1"]);
    expect(table.out).toMatch(/^RANK +ID +SCORE +PAYLOAD\n +1 +2 +0\.99/);
    expect(table.out).not.toContain("\u001b");
    expect(table.err).toMatch(/^1 result in .* \(server .*\)/);
    const bare = await kith(["search", "compass", "--vector", "1,0,0", "--no-with-payload", "--exact", "--ef", "10"]);
    expect(bare.out).not.toContain("east");
    expect((await kith(["search", "compass", "--id", "77"])).code).toBe(3);
  });

  it("keep the digits of their numbers from the file to every answer", async () => {
    const payload = '{"big":9007199254740993,"list":[12345678901234567890123,1.0],"text":"a b"}';
    const line = `{"id": 18446744073709551615, "vector": [0.5, 0.5, 1], "payload": ${payload.replaceAll(":", " : ")} }`;
    await kith(["import", "-", "-f", "jsonl", "-c", "exact", "--create"], { input: line });
    const get = await kith(["get", "exact", "18446744073709551615", "-o", "json"]);
    expect(get.out).toContain(`"id":"18446744073709551615","version":1,"payload":${payload}`);
    expect((await kith(["search", "exact", "--vector", "1,1,1", "-o", "json"])).out).toContain(payload);
    expect((await kith(["search", "exact", "--vector", "1,1,1"])).out).toContain(
      '{"big":9007199254740993,"list":[1234',
    );
    const pretty = await kith(["get", "exact", "18446744073709551615", "-o", "json"], { stdoutIsTerminal: true });
    expect(pretty.out).toContain('"payload": {\n      "big": 9007199254740993,\n');
  });

  it("of a file that does not fit the collection are one error, and a wrong first line is a wrong line", async () => {
    await kith(["collection", "create", "narrow", "-d", "2"]);
    const header = Buffer.alloc(8);
    header.writeUInt32LE(500, 0);
    header.writeUInt32LE(3, 4);
    writeFileSync(join(served.folder, "wide.fbin"), Buffer.concat([header, Buffer.alloc(500 * 12, 1)]));
    const wide = await kith(["import", "wide.fbin", "-c", "narrow"]);
    expect(wide.code).toBe(1);
    expect(wide.err).toMatch(
      /^error: the vectors of wide\.fbin have 3 dimensions; .* have 2 \[DIMENSION_MISMATCH\]\n$/,
    );
    const input = '{"id":1,"vector":[1,2,3]}\n{"id":2,"vector":[1,2]}\n{"id":3,"vector":[3,4]}\n';
    const lines = await kith(["import", "-", "-f", "jsonl", "-c", "narrow", "-o", "json"], { input });
    expect(json(lines.out)).toMatchObject({ upserted: 2, rejected: 1 });
    expect(lines.err).toContain("row 0: standard input, line 1: the vector has 3 dimensions; there must be 2");
  });

  it("that are refused from the first row on are told as such, not as an interruption", async () => {
    await kith(["collection", "create", "rows", "-d", "2"]);
    for (const input of ["no json\n".repeat(9), `{"id":1,"vector":[1,2]}\n${"no json\n".repeat(9)}`]) {
      const { code, err } = await kith(["import", "-", "-f", "jsonl", "-c", "rows", "--max-rejects", "2"], { input });
      expect(code).toBe(1);
      expect(err).toMatch(
        /error: gave up at row \d+ after \d+ refused rows \(--max-rejects 2\).*\[FAILED_PRECONDITION\]/,
      );
    }
  });

  it("are exported and imported again, digit for digit, also compressed", async () => {
    const lines = [
      '{"id":7,"vector":[0.1,-2.5,1234567.9],"payload":{"big":9007199254740993,"f":1.0,"__proto__":[1]}}',
      '{"id":18446744073709551615,"vector":[1,2,3],"payload":{}}',
      '{"id":"a b","vector":[0.33333334,1.4013e-45,0]}',
    ].join("\n");
    await kith(["import", "-", "-f", "jsonl", "-c", "source", "--create", "-m", "l2"], { input: lines });
    const out = await kith(["export", "source"]);
    expect(out).toMatchObject({ code: 0, out: `${lines}\n` });
    expect(out.err).toContain("exported 3 points of source");
    expect((await kith(["export", "source", "all.jsonl.gz"])).code).toBe(0);
    const copied = await kith(["import", "all.jsonl.gz", "-c", "copy", "--create", "-m", "l2"]);
    expect(copied.code, copied.err).toBe(0);
    expect((await kith(["export", "copy"])).out).toBe(`${lines}\n`);
    const bare = await kith(["export", "copy", "--no-vectors", "--no-payload", "--filter", "big > 3"]);
    expect(bare.out).toBe('{"id":7}\n');
    writeFileSync(
      join(served.folder, "cut.jsonl.gz"),
      readFileSync(join(served.folder, "all.jsonl.gz")).subarray(0, 40),
    );
    const cut = await kith(["import", "cut.jsonl.gz", "-c", "copy"]);
    expect(cut.code).toBe(1);
    expect(cut.err).toContain("cut.jsonl.gz is not a whole gzip file");
    expect((await kith(["export", "copy", "missing/x.jsonl"])).err).toContain("cannot be written");
  });

  it("are cut only on a terminal", async () => {
    const long = "word ".repeat(100).trim();
    const input = JSON.stringify({ id: 1, vector: [1, 2, 3, 4, 5, 6, 7.5, 8], group: "g".repeat(60), text: long });
    await kith(["import", "-", "-f", "jsonl", "-c", "long", "--create"], { input });
    const search = ["search", "long", "--vector", "1,2,3,4,5,6,7,8"];
    for (const args of [
      ["scroll", "long"],
      search,
      [...search, "--group-by", "group"],
      ["get", "long", "1", "--with-vectors"],
    ]) {
      // Also where the other stream is a terminal, whose width is known.
      const piped = await kith(args, { columns: 80, stderrIsTerminal: true });
      expect(piped.out).toContain(long);
      if (args[0] === "get") expect(piped.out).toContain("[1,2,3,4,5,6,7.5,8]");
      if (args.includes("group")) expect(piped.out).toContain("g".repeat(60));
      if (args[0] === "get") continue;
      const shown = await kith(args, { columns: 80, stdoutIsTerminal: true, env: { ...served.env, NO_COLOR: "1" } });
      expect(shown.out).not.toContain(long);
      for (const line of shown.out.split("\n")) expect(line.length).toBeLessThanOrEqual(110);
    }
  });

  it("are searched by a file of queries", async () => {
    writeFileSync(join(served.folder, "queries.jsonl"), '{"vector":[1,0,0]}\n{"vector":[0,0,1]}\n');
    const many = await kith(["search", "compass", "--queries", "queries.jsonl", "-n", "1", "-o", "json"]);
    const results = many.out.trim().split("\n").map(json);
    expect(results).toMatchObject([
      { query: 0, points: [{ id: 1 }] },
      { query: 1, points: [{ id: "42" }] },
    ]);
    writeFileSync(join(served.folder, "wrong.jsonl"), '{"vector":[1,0]}\n');
    const wrong = await kith(["search", "compass", "--queries", "wrong.jsonl", "-o", "json"]);
    expect(wrong.code).toBe(1);
    expect(json(wrong.out)).toMatchObject({ query: 0, error: { code: "DIMENSION_MISMATCH" } });
  });

  it("show where the time went", async () => {
    const traced = await kith(["search", "compass", "--vector", "1,0,0", "--trace"]);
    expect(traced.code, traced.err).toBe(0);
    expect(traced.out).toContain("kith.client.query");
    expect(traced.out).toMatch(/index\.search .*queue=\d.*search=\d/);
    const asJson = await kith(["search", "compass", "--vector", "1,0,0", "--trace", "-o", "json"]);
    expect((json(asJson.out) as { trace: unknown[] }).trace.length).toBeGreaterThan(1);
  });

  it("are got, counted and deleted", async () => {
    const got = await kith(["get", "compass", "1", '"42"', "9", "-o", "json", "--with-vectors"]);
    expect(got.code).toBe(3);
    expect(got.err).toBe("not found: 9\n");
    expect(json(got.out)).toMatchObject([{ id: 1, vector: [1, 0, 0] }, { id: "42" }]);
    expect((await kith(["get", "compass", "north"])).out).toContain('{"title":"north"}');
    expect((await kith(["get", "compass", "north", "--consistency", "none"])).out).toContain('{"title":"north"}');
    expect((await kith(["get", "compass", "north", "--consistency", "some"])).code).toBe(2);
    expect(await kith(["count", "compass"])).toEqual({ code: 0, out: "4\n", err: "" });
    expect(await kith(["delete", "compass", "north", "77"])).toEqual({
      code: 0,
      out: "deleted 1 of 2 points\n",
      err: "",
    });
    expect((await kith(["delete", "compass", "77"])).code).toBe(3);
    expect((await kith(["count", "compass", "-o", "json"])).out).toBe('{"collection":"compass","count":3}\n');
  });
});

describe("queries", () => {
  const films = [
    { id: 1, vector: [1, 0], title: "a", year: 1994, director: "ann", crew: [{ name: "x", age: 3 }] },
    { id: 2, vector: [0.9, 0.1], title: "b", year: 1999, director: "bob" },
    { id: 3, vector: [0.8, 0.2], title: "c", year: 2003, director: "ann" },
    { id: 4, vector: [0, 1], title: "d", director: "eve\u001b[31m" },
  ];

  beforeAll(async () => {
    const input = films.map((line) => JSON.stringify(line)).join("\n");
    const imported = await kith(["import", "-", "-f", "jsonl", "-c", "films", "--create", "--metric", "l2"], { input });
    expect(imported.code, imported.err).toBe(0);
  });

  it("keep to a filter, as text and as JSON, and say where it is wrong", async () => {
    const search = async (...args: string[]): Promise<unknown> => {
      const { out, err } = await kith(["search", "films", "--vector", "1,0", "-o", "json", ...args]);
      return out === "" ? err : (json(out) as { points: { id: number }[] }).points.map(({ id }) => id);
    };
    expect(await search("--filter", "year > 1994")).toEqual([2, 3]);
    expect(await search("--filter", '{"must_not": [{"key": "director", "match": {"value": "ann"}}]}')).toEqual([2, 4]);
    expect(await search("--filter", "year > 1994", "--offset", "1")).toEqual([3]);
    expect(await search("--filter", "year >")).toContain("column 7");
    expect(await search("--filter", '{"must": ')).toContain("--filter is not JSON");
    expect(await kith(["count", "films", "--filter", "exists(year)"])).toMatchObject({ out: "3\n" });
    expect(await kith(["count", "films", "--filter", "exists(year)", "--approximate"])).toMatchObject({ code: 0 });
  });

  it("are whole trees of JSON, of which unknown keys are refused", async () => {
    const query = JSON.stringify({
      prefetch: [{ query: { nearest: [1, 0] }, limit: 3 }],
      query: { formula: "year", defaults: { year: 0 } },
    });
    const found = await kith(["search", "films", "--query", query, "-o", "json", "--include", "title"]);
    expect(json(found.out)).toMatchObject({
      points: [
        { id: 3, score: 2003, payload: { title: "c" } },
        { id: 2, score: 1999 },
        { id: 1, score: 1994 },
      ],
    });
    writeFileSync(join(served.folder, "query.json"), query.replace("limit", "limits"));
    const wrong = await kith(["search", "films", "--query", "@query.json"]);
    expect(wrong.code).toBe(1);
    expect(wrong.err).toContain("prefetch[0].limits is unknown");
    expect((await kith(["search", "films", "--query", "[]"])).code).toBe(2);
    expect((await kith(["search", "films", "--query", query, "--id", "1"])).code).toBe(2);
  });

  it("are grouped and explained", async () => {
    const grouped = ["search", "films", "--vector", "1,0", "--group-by", "director", "-n", "2", "--group-size", "1"];
    const table = await kith([...grouped, "--explain"]);
    expect(table.out).toMatch(/^GROUP +RANK +ID +SCORE +PAYLOAD\nann +1 +1 +0 .*\nbob +1 +2 +0\.14/);
    expect(table.out).toMatch(/answer.*\n.*├─ prepare\n/);
    expect(table.out).toMatch(/└─ shard 0/);
    const asJson = json((await kith([...grouped, "-o", "json"])).out) as { groups: unknown[] };
    expect(asJson.groups).toMatchObject([
      { value: "ann", points: [{ id: 1 }] },
      { value: "bob", points: [{ id: 2 }] },
    ]);
    const explained = await kith(["search", "films", "--vector", "1,0", "--filter", "year > 1994", "--explain"]);
    expect(explained.out).toContain("query  kind=nearest");
    expect((await kith([...grouped, "--offset", "1"])).code).toBe(2);
  });

  it("are counted by value, and listed in an order", async () => {
    const count = await kith(["count", "films", "--filter", "year > 1994", "--explain"]);
    expect(count.out).toMatch(/^\d\n\n.*answer {2}own_us=[\d,]+\n.*prepare\n.*count/);
    expect(count.out).toMatch(/shard 0 {2}plan=mask/);
    const pages = await kith(["scroll", "films", "--order-by", "year", "--explain", "-o", "json"]);
    expect(json(pages.out.trimEnd().split("\n").at(-1) ?? "")).toMatchObject({ explain: { name: "answer" } });
    const facet = await kith(["facet", "films", "director", "--explain"]);
    expect(facet.out).toMatch(/^VALUE +POINTS\nann +2\nbob +1\neve/);
    expect(facet.out).not.toContain("\u001b");
    expect(json((await kith(["facet", "films", "director", "-n", "1", "-o", "json"])).out)).toEqual({
      hits: [{ value: "ann", count: 2 }],
    });
    const order = [
      "--order-by",
      "year",
      "--descending",
      "--start-from",
      "2000",
      "-o",
      "json",
      "--exclude",
      "crew[].age",
    ];
    const points = (await kith(["scroll", "films", "-n", "0", ...order])).out.trim().split("\n").map(json);
    expect(points).toMatchObject([{ id: 2 }, { id: 1, payload: { crew: [{ name: "x" }] } }]);
    expect((points[1] as { payload: { crew: object[] } }).payload.crew).toEqual([{ name: "x" }]);
    const table = await kith(["scroll", "films", "-n", "2", "--filter", "year < 2000", "--include", "title"]);
    expect(table).toMatchObject({ out: 'ID  PAYLOAD\n1   {"title":"a"}\n2   {"title":"b"}\n', err: "2 points\n" });
  });
});

describe("payload indexes", () => {
  beforeAll(async () => {
    const lines = Array.from({ length: 60 }, (_, id) =>
      JSON.stringify({
        id,
        vector: [id, 1],
        genre: id % 3 === 0 ? "drama" : "crime",
        year: 1960 + id,
        title: `Film ${id}`,
      }),
    );
    const imported = await kith(["import", "-", "-f", "jsonl", "-c", "movies", "--create"], {
      input: lines.join("\n"),
    });
    expect(imported.code, imported.err).toBe(0);
  });

  it("are created, listed and dropped", async () => {
    expect((await kith(["index", "list", "movies"])).err).toBe("movies has no payload indexes.\n");
    expect(await kith(["index", "create", "movies", "genre", "keyword", "--wait"])).toEqual({
      code: 0,
      out: "created the keyword index of genre\n",
      err: "",
    });
    const text = ["--tokenizer", "prefix", "--min-token-length", "2", "--case-sensitive", "--no-phrase", "--wait"];
    expect((await kith(["index", "create", "movies", "title", "text", ...text])).code).toBe(0);
    const wrong = await kith(["index", "create", "movies", "genre", "integer"]);
    expect(wrong.code).toBe(1);
    expect(wrong.err).toContain('the field "genre" has an index already, of the kind keyword');
    expect((await kith(["index", "create", "movies", "genre", "number"])).code).toBe(2);
    const listed = await kith(["index", "list", "movies", "-o", "json"]);
    expect(json(listed.out)).toMatchObject([
      { path: "genre", kind: "keyword", ready: true, pointCount: 60, valuePointCount: 60 },
      {
        path: "title",
        kind: "text",
        text: { tokenizer: "prefix", minTokenLength: 2, lowercase: false, phrase: false },
      },
    ]);
    expect((await kith(["index", "list", "movies"])).out).toMatch(
      /^PATH +KIND +STATE [^\n]*\ngenre +keyword +ready +60 +60 .*\ntitle +text +ready .* prefix min 2 case-sensitive no phrases\n$/,
    );
    expect(await kith(["index", "drop", "movies", "title"])).toEqual({
      code: 0,
      out: "dropped the index of title\n",
      err: "",
    });
    expect((await kith(["index", "drop", "movies", "title"])).err).toContain('there is no payload index of "title"');
    const described = await kith(["collection", "describe", "movies", "-o", "json"]);
    expect(json(described.out)).toMatchObject({ schemaVersion: 4, payloadIndexes: [{ path: "genre" }] });
  });

  it("and vector fields come and go in the SDK, and filters find the same with and without an index", async () => {
    const client = await connect(served.node.address);
    try {
      const movies = client.collection("movies");
      const filter = "year between 1990 and 1999 and genre = drama";
      const before = await movies.count({ filter });
      expect(before).toBe(4);
      await movies.createPayloadIndex("year", "integer", { isPrincipal: true, wait: true });
      // The same again is no error.
      await movies.createPayloadIndex("year", "integer", { isPrincipal: true, wait: true });
      expect(await movies.count({ filter })).toBe(before);
      const info = await movies.addVectorField("other", { dimension: 3, metric: "dot" });
      expect(info.vectors.map(({ name }) => name)).toEqual(["", "other"]);
      await movies.upsert({
        id: 1_000,
        vector: [1, 2],
        vectors: { other: [1, 2, 3] },
        payload: { year: 1995, genre: "drama" },
      });
      expect(await movies.count({ filter })).toBe(before + 1);
      const { points } = await movies.query({ vector: [1, 2, 3], using: "other", limit: 5 });
      expect(points.map(({ id }) => id)).toEqual([1_000]);
      await movies.dropVectorField("other");
      await expect(movies.query({ vector: [1, 2, 3], using: "other" })).rejects.toMatchObject({
        code: "UNKNOWN_VECTOR",
      });
      await expect(movies.dropVectorField("")).rejects.toMatchObject({ code: "INVALID_SCHEMA" });
      await movies.dropPayloadIndex("year");
      expect(await movies.count({ filter })).toBe(before + 1);
    } finally {
      client.close();
    }
  });
});

describe("names of collections", () => {
  it("are given, switched and listed on the command line, and points are deleted all at once", async () => {
    for (const name of ["blue", "green"]) await kith(["collection", "create", name, "-d", "2", "--if-not-exists"]);
    expect(await kith(["alias", "create", "live", "blue"])).toEqual({
      code: 0,
      out: "live is an alias of blue\n",
      err: "",
    });
    expect((await kith(["alias", "switch", "live", "green"])).out).toBe("live means green now\n");
    expect((await kith(["alias", "list"])).out).toMatch(/^ALIAS +COLLECTION\nlive +green\n$/);
    expect(json((await kith(["alias", "list", "blue", "-o", "json"])).out)).toEqual([]);
    expect((await kith(["collection", "describe", "live"])).out).toContain("aliases: live");
    expect((await kith(["alias", "switch", "dead", "green"])).code).toBe(3);
    expect((await kith(["alias", "create", "blue", "green"])).err).toContain('a collection "blue" exists already');
    const client = await connect(served.node.address);
    try {
      await client.collection("live").upsert([1, 2, 3].map((id) => ({ id, vector: [id, 1] })));
      expect((await kith(["collection", "truncate", "live"])).code).toBe(2);
      expect((await kith(["collection", "truncate", "live", "--yes"])).out).toBe("deleted 3 points of live\n");
      expect(await client.collection("green").count()).toBe(0);
    } finally {
      client.close();
    }
    expect((await kith(["collection", "rename", "green", "greener"])).out).toBe("green is greener now\n");
    expect((await kith(["count", "live"])).out).toBe("0\n");
    expect((await kith(["count", "green"])).code).toBe(3);
    expect((await kith(["alias", "delete", "live"])).out).toBe("deleted the alias live\n");
    for (const name of ["blue", "greener"]) expect((await kith(["collection", "delete", name, "--yes"])).code).toBe(0);
  });
});

describe("cluster and doctor", () => {
  it("show nodes, shards, replicas and lag", async () => {
    await kith(["collection", "create", "seen", "-d", "2", "--if-not-exists"]);
    const all = await kith(["cluster"]);
    expect(all.out).toMatch(/^cluster kith, version test, embedded log available/);
    for (const title of ["NODE", "SLOTS", "DIGEST"]) expect(all.out).toContain(title);
    expect(json((await kith(["cluster", "nodes", "-o", "json"])).out)).toMatchObject([{ id: "test", state: "up" }]);
    expect((await kith(["cluster", "lag"])).err).toMatch(/all \d+ replicas are active/);
    expect((await kith(["cluster", "pods"])).code).toBe(2);
  });

  it("examine the machine", async () => {
    const { code, out } = await kith(["doctor", "--data", "doctor", "-o", "json"]);
    const findings = json(out) as { check: string; verdict: string; remedy?: string }[];
    expect(findings.map((finding) => finding.check)).toEqual([
      "node",
      "memory",
      "huge pages",
      "open files",
      "compiler",
      "data folder",
      "disk space",
      "fsync",
      "nats-server",
      "server",
    ]);
    expect(findings.find((finding) => finding.check === "server")?.verdict).toBe("ok");
    for (const { verdict, remedy } of findings) expect(remedy === undefined).toBe(verdict === "ok");
    expect(code).toBe(findings.some((finding) => finding.verdict === "fail") ? 1 : 0);
    const away = await kith(["doctor", "--data", "doctor", "--nats", "nats://127.0.0.1:1", "--target", "127.0.0.1:1"]);
    expect(away.code).toBe(1);
    expect(away.out).toMatch(/FAIL {2}NATS +nats:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/);
    expect(away.out).toMatch(/warn {2}server/);
  });
});

describe("the command line", () => {
  it("says what is wrong, and how to use it, with code 2", async () => {
    for (const args of [
      ["nope"],
      ["search"],
      ["search", "x"],
      ["search", "x", "--id", "1", "--vector", "1"],
      ["count", "x", "--timeout", "never"],
      ["collection", "create", "x", "--metric", "manhattan", "-d", "2"],
      ["import", "f"],
      ["start", "--roles", "router", "--node-id", "r", "--listen", "nowhere"],
      ["start", "--roles", "shard", "--node-id", "s"],
      ["start", "--roles", "router", "--node-id", "r", "--nats-replicas", "3"],
      ["count", "x", "--tls-cert", "only-one.pem"],
      ["up", "--shards", "1", "--replicas", "2"],
      ["export", "x", "x.parquet"],
      ["export", "x", "x.npy.gz"],
      ["count", "x", "--target", "127.0.0.1:99999"],
    ]) {
      const { code, out, err } = await kith(args);
      expect([args.join(" "), code, out]).toEqual([args.join(" "), 2, ""]);
      expect(err).toMatch(/^error: /);
      expect(err).not.toContain("    at ");
    }
  });

  it("takes the settings of NATS from flags also where its URL is in the environment", async () => {
    const env = { KITH_NATS_URL: "nats://127.0.0.1:1" };
    const start = ["start", "--roles", "router", "--node-id", "r"];
    const replicas = await kith([...start, "--nats-replicas", "2"], { env });
    expect(replicas).toMatchObject({ code: 2, err: expect.stringContaining("log.replicas") as string });
    const monitor = await kith([...start, "--nats-monitor", "nowhere"], { env });
    expect(monitor).toMatchObject({ code: 2, err: expect.stringContaining("nowhere is not the URL") as string });
    const credentials = await kith([...start, "--nats-credentials", "missing.creds"], { env });
    expect(credentials.code).not.toBe(0);
    expect(credentials.err).toContain("missing.creds");
  });

  it.each([
    [
      "127.0.0.1:1",
      /^error: no Kith server answers at 127\.0\.0\.1:1: nothing listens there; .*\[SERVER_UNREACHABLE\]\n$/,
    ],
    [
      "no-such-host.invalid:7700",
      /^error: no Kith server answers at no-such-host\.invalid:7700: .*\[SERVER_UNREACHABLE\]\n$/,
    ],
    ["http://127.0.0.1:7700", /^error: "http:\/\/127\.0\.0\.1:7700" is a URL; give host:port.*\[INVALID_ADDRESS\]\n$/],
    ["https://kith.example/", /^error: "https:\/\/kith\.example\/" is a URL; give host:port.*\[INVALID_ADDRESS\]\n$/],
    ["localhost", /^error: "localhost" has no port; give host:port.*\[INVALID_ADDRESS\]\n$/],
    ["localhost:", /^error: "localhost:" .*; give host:port.*\[INVALID_ADDRESS\]\n$/],
    ["localhost:77000000", /^error: "localhost:77000000" .*\[INVALID_ADDRESS\]\n$/],
  ])("tells in one line of a target where no server is, with code 2: %s", async (target, message) => {
    for (const command of [
      ["count", "x"],
      ["import", "-", "-f", "jsonl", "-c", "x"],
      ["collection", "list"],
      ["export", "x"],
    ]) {
      const { code, out, err } = await kith([...command, "--target", target, "--timeout", "1s"]);
      expect([code, out]).toEqual([2, ""]);
      expect(err).toMatch(message);
    }
  });

  it("tells of a server that went away with code 4", async () => {
    const gone = new KithError("SERVER_UNREACHABLE", "gone");
    const context = { verbose: false, interrupted: false };
    expect(reportOf(gone, context).exitCode).toBe(4);
    expect(reportOf(new ConnectError(gone), context).exitCode).toBe(2);
    expect(
      reportOf(new ConnectError(new KithError("CANCELLED", "no")), { ...context, interrupted: true }).exitCode,
    ).toBe(130);
  });

  it("lists each option once on a page of help", async () => {
    for (const command of [
      ["import"],
      ["export"],
      ["start"],
      ["dev"],
      ["search"],
      ["collection", "create"],
      ["payload", "set"],
    ]) {
      const { out } = await kith([...command, "--help"]);
      const options = [...out.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map((match) => match[1]);
      expect(options.length).toBeGreaterThan(5);
      expect(options).toEqual([...new Set(options)]);
    }
  });

  it("has examples in every help text", async () => {
    const commands = (await buildProgram(testIo())).commands.flatMap((command) =>
      command.commands.length > 0 ? command.commands.map((each) => [command.name(), each.name()]) : [[command.name()]],
    );
    for (const command of commands.filter(([name]) => name !== "complete")) {
      const { code, out } = await kith([...command, "--help"]);
      expect(code).toBe(0);
      expect(out, command.join(" ")).toContain("Examples:\n  ");
      expect(out, command.join(" ")).toContain("--target");
    }
    expect((await kith(["--version"])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await kith(["--help"])).out).toContain("Exit codes:");
  });

  it("completes commands, options, their values and collections", async () => {
    const program = await buildProgram(testIo());
    const complete = async (...words: string[]): Promise<string[]> =>
      (await candidates(program, words, () => Promise.resolve(["alpha", "beta"]))).map(([value]) => value);
    expect(await complete("col")).toEqual(["collection"]);
    const subcommands = ["create", "list", "describe", "rename", "truncate", "update", "alter", "delete"];
    expect(await complete("collection", "")).toEqual(subcommands);
    expect(await complete("search", "")).toEqual(["alpha", "beta"]);
    expect(await complete("-t", "host:1", "count", "b")).toEqual(["beta"]);
    expect(await complete("search", "alpha", "--exa")).toEqual(["--exact", "--exact-scores"]);
    expect(await complete("count", "alpha", "--out")).toEqual(["--output"]);
    expect(await complete("collection", "create", "x", "--metric", "")).toEqual(["cosine", "dot", "l2"]);
    expect(await complete("import", "file", "-c", "a")).toEqual(["alpha"]);
    expect(await complete("import", "")).toEqual([]);
    expect(await complete("cluster", "n")).toEqual(["nodes"]);
    expect(await complete("collection", "create", "")).toEqual([]);
    for (const shell of ["bash", "zsh", "fish"])
      expect((await kith(["completion", shell])).out).toContain("kith complete");
    expect((await kith(["complete", "--", "cou"])).out).toBe("count\tcount the points of a collection\n");
  });
});

describe("dev", () => {
  it("serves until it is told to end", async () => {
    const io = testIo({ cwd: served.folder, stdoutIsTerminal: false });
    const ended = run(["dev", "--port", "0", "--data", "dev", "-o", "json"], io);
    while (!io.out().includes("\n")) await new Promise((resolve) => setTimeout(resolve, 20));
    const { target } = json(io.out()) as { target: string };
    const client = testIo({ env: { KITH_TARGET: target } });
    expect(await run(["collection", "list", "-o", "json"], client)).toBe(0);
    expect(client.out()).toBe("[]\n");
    io.controller.abort();
    expect(await ended).toBe(0);
  });

  it("says nothing of being ready where it is told to end before", async () => {
    const io = testIo({ cwd: served.folder });
    io.controller.abort();
    expect(await run(["dev", "--port", "0", "--data", "never", "-o", "json"], io)).toBe(0);
    expect(io.out()).toBe("");
  });
});
