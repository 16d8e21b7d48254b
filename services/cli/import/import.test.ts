import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { describe, expect, it, vi } from "vitest";
import { KithError } from "../../../libs/base/index.js";
import { connect } from "../../../libs/client/index.js";
import { generateMatrix } from "../../../libs/datasets/index.js";
import { run } from "../run.js";
import { testIo } from "../testing/io.js";
import { useNode } from "../testing/node.js";

const served = useNode();
const { kith } = served;

const json = (text: string): unknown => JSON.parse(text);

describe("import", () => {
  const dimension = 8;
  const rowCount = 500;

  function fvecs(matrix: Float32Array): Buffer {
    const rows: Buffer[] = [];
    for (let at = 0; at < matrix.length; at += dimension) {
      const head = Buffer.alloc(4);
      head.writeInt32LE(dimension);
      rows.push(head, Buffer.from(matrix.slice(at, at + dimension).buffer));
    }
    return Buffer.concat(rows);
  }

  it("writes the good rows, reports the others, and ends with 1", async () => {
    const matrix = generateMatrix({ rowCount, dimension, seed: 5 });
    matrix[3 * dimension + 2] = NaN;
    matrix.fill(0, 7 * dimension, 8 * dimension);
    writeFileSync(join(served.folder, "bad.fvecs"), fvecs(matrix));
    const result = await kith([
      "import",
      "bad.fvecs",
      "-c",
      "bad",
      "--create",
      "--rejects",
      "bad.rejects",
      "--batch",
      "64",
    ]);
    expect(result.code).toBe(1);
    expect(result.out).toMatch(/^imported 498 points into bad in .*; 2 rows were refused\n$/);
    const rejects = readFileSync(join(served.folder, "bad.rejects"), "utf8").trim().split("\n").map(json);
    expect(rejects).toMatchObject([
      { row: 3, id: 3, code: "VECTOR_NOT_FINITE" },
      { row: 7, id: 7, code: "ZERO_VECTOR" },
    ]);
    expect((await kith(["count", "bad"])).out).toBe("498\n");
  });

  it("stops at Ctrl-C, says how to go on, and goes on", async () => {
    const matrix = generateMatrix({ rowCount, dimension, seed: 6 });
    const bytes = fvecs(matrix);
    writeFileSync(join(served.folder, "long.fvecs"), bytes);
    const io = testIo({ cwd: served.folder, env: served.env });
    // The file ends in the middle of a row: the import stops there with an error, as it would at a crash.
    writeFileSync(join(served.folder, "long.fvecs"), bytes.subarray(0, 200 * 36 + 10));
    const create = ["--create", "--metric", "l2", "--batch", "50", "--state", "state"];
    const cut = await run(["import", "long.fvecs", "-c", "long", ...create], io);
    expect(cut).toBe(1);
    expect(io.err()).toMatch(/is truncated.*rows before \d+ are done, the same command with --resume goes on there/s);
    // Another file is not mistaken for the one that was interrupted.
    writeFileSync(join(served.folder, "long.fvecs"), bytes);
    const other = await kith(["import", "long.fvecs", "-c", "long", "--state", "state", "--resume"]);
    expect(other.code).toBe(1);
    expect(other.err).toContain("belongs to another import: sizeBytes was 7210 and is 18000");

    // Nor are other options, which would give other points.
    const same = JSON.parse(readFileSync(join(served.folder, "state"), "utf8")) as Record<string, unknown>;
    const { mtimeMs: changedMs } = statSync(join(served.folder, "long.fvecs"));
    const whole = { ...same, sizeBytes: bytes.length, modifiedMs: Math.round(changedMs) };
    writeFileSync(join(served.folder, "state"), JSON.stringify(whole));
    const resume = ["import", "long.fvecs", "-c", "long", "--state", "state", "--resume"];
    for (const [flags, what] of [
      [["--mode", "insert"], "mode was upsert and is insert"],
      [["--id-field", "key"], "idField was id and is key"],
      [["--vector-field", "v"], "vectorField was vector and is v"],
      [["--payloads", "two.jsonl"], "payloads was none and is "],
    ] as const) {
      expect((await kith([...resume, ...flags])).err).toContain(what);
    }
    // A collection that was made anew has none of the rows that are done.
    writeFileSync(join(served.folder, "state"), JSON.stringify({ ...whole, collectionId: "gone" }));
    expect((await kith(resume)).err).toContain(`collectionId was gone and is ${String(same["collectionId"])}`);
    writeFileSync(join(served.folder, "state"), JSON.stringify(same));

    const interrupted = testIo({ cwd: served.folder, env: served.env });
    interrupted.controller.abort();
    expect(await run(["import", "long.fvecs", "-c", "long", "--state", "state"], interrupted)).toBe(130);

    // The state of a real interruption, as the first run would have left it with the whole file.
    const { mtimeMs } = statSync(join(served.folder, "long.fvecs"));
    const state = JSON.parse(readFileSync(join(served.folder, "state"), "utf8")) as Record<string, unknown>;
    writeFileSync(
      join(served.folder, "state"),
      JSON.stringify({ ...state, sizeBytes: bytes.length, modifiedMs: Math.round(mtimeMs) }),
    );
    const resumed = await kith(["import", "long.fvecs", "-c", "long", "--state", "state", "--resume", "-o", "json"]);
    expect(resumed.code, resumed.err).toBe(0);
    expect(resumed.err).toContain(`resuming at row ${String(state["nextRow"])}`);
    expect(json(resumed.out)).toMatchObject({ upserted: rowCount - Number(state["nextRow"]), nextRow: rowCount });
    expect((await kith(["count", "long"])).out).toBe(`${rowCount}\n`);
    expect(() => readFileSync(join(served.folder, "state"))).toThrow("ENOENT");
  });

  it("keeps how far it has come in a folder of its own, for each collection, and goes on there", async () => {
    const bytes = fvecs(generateMatrix({ rowCount, dimension, seed: 8 }));
    const path = join(served.folder, "inputs", "own.fvecs");
    mkdirSync(join(served.folder, "inputs"));
    // The last row is not whole.
    writeFileSync(path, bytes.subarray(0, bytes.length - 10));
    const args = ["import", "inputs/own.fvecs", "--create", "--metric", "l2", "--batch", "50", "-c"];
    const cut = await kith([...args, "own"]);
    const nextRow = Number(
      /rows before (\d+) are done, the same command with --resume goes on there/.exec(cut.err)?.[1],
    );
    expect(nextRow).toBeGreaterThan(0);
    expect(readdirSync(join(served.folder, "inputs"))).toEqual(["own.fvecs"]);
    const states = join(served.folder, "kith-state", "imports");
    expect(readdirSync(states).map((name) => json(readFileSync(join(states, name), "utf8")))).toMatchObject([
      { collection: "own", file: path, nextRow },
    ]);
    expect((await kith([...args, "other", "--resume"])).err).toContain("there is nothing to resume");
    const again = await kith([...args, "own", "--resume", "--take", String(nextRow)]);
    expect(again.err).toContain("everything was imported already");

    const xdg = { KITH_TARGET: served.node.address, XDG_STATE_HOME: join(served.folder, "xdg") };
    expect((await kith([...args, "xdg"], { env: xdg })).code).toBe(1);
    expect(readdirSync(join(served.folder, "xdg", "kith", "imports"))).toHaveLength(1);
    // A folder that cannot be made stops no import.
    writeFileSync(join(served.folder, "a-file"), "");
    const nowhere = { KITH_TARGET: served.node.address, KITH_STATE_DIR: join(served.folder, "a-file", "x") };
    const skipped = await kith([...args, "nowhere", "--take", "5"], { env: nowhere });
    expect([skipped.code, skipped.err]).toEqual([0, expect.stringContaining("--resume will not work, since")]);
    expect((await kith([...args, "nowhere", "--resume"], { env: nowhere })).code).toBe(2);
  });

  it("says at once that Ctrl-C was heard, and what happens now", async () => {
    const stdin = new PassThrough();
    const io = testIo({ cwd: served.folder, env: served.env, stdin });
    const running = run(["import", "-", "-f", "jsonl", "-c", "piped", "--create", "-m", "l2", "--batch", "1"], io);
    stdin.write('{"id":1,"vector":[1,2]}\n{"id":2,"vector":[1,3]}\n');
    await vi.waitFor(async () => expect((await kith(["count", "piped"])).out).toBe("2\n"), 10_000);
    io.controller.abort(new KithError("CANCELLED", "interrupted"));
    expect(io.err()).toMatch(
      /interrupted: no more rows are read, those on the way are waited for.*again ends at once\n$/,
    );
    expect(await running).toBe(130);
    expect(io.err()).toContain("stopped: all rows before 2 are done (2 written, 0 refused)");
  });

  it("lets the last of several rows with one id win", async () => {
    const lines = Array.from({ length: 600 }, (_, i) => JSON.stringify({ id: i % 7, vector: [i, 1], n: i }));
    writeFileSync(join(served.folder, "twice.jsonl"), lines.join("\n"));
    const args = ["import", "twice.jsonl", "-c", "twice", "--create", "-m", "l2", "--shards", "2"];
    const done = await kith([...args, "--batch", "3", "--in-flight", "16", "-o", "json"]);
    expect([done.code, json(done.out)]).toMatchObject([0, { upserted: 600, rejected: 0 }]);
    const points = (await kith(["scroll", "twice", "-o", "json"])).out.trim().split("\n").map(json);
    expect(points.map((point) => (point as { payload: { n: number } }).payload.n)).toEqual([
      595, 596, 597, 598, 599, 593, 594,
    ]);
  });

  it("reads CSV and Parquet, and what it exports as CSV is what it imports", async () => {
    const csv = 'docid,emb,title,zip,big\n7,"[0.1,2]",Heat,01234,9007199254740993\n"""7""",1 2,"a, ""b""",2,\n';
    writeFileSync(join(served.folder, "films.csv.gz"), gzipSync(csv));
    const fields = ["--id-field", "docid", "--vector-field", "emb", "--column-type", "zip=string"];
    const imported = await kith(["import", "films.csv.gz", "-c", "csv", "--create", "-m", "l2", ...fields]);
    expect(imported.code, imported.err).toBe(0);
    const lines = [
      '{"id":7,"vector":[0.1,2],"payload":{"title":"Heat","zip":"01234","big":9007199254740993}}',
      '{"id":"7","vector":[1,2],"payload":{"title":"a, \\"b\\"","zip":"2"}}',
    ];
    expect((await kith(["export", "csv"])).out).toBe(`${lines.join("\n")}\n`);
    expect((await kith(["export", "csv", "all.csv.gz"])).code).toBe(0);
    expect((await kith(["import", "all.csv.gz", "-c", "csv2", "--create", "-m", "l2"])).code).toBe(0);
    expect((await kith(["export", "csv2"])).out).toBe(`${lines.join("\n")}\n`);
    const asCsv = await kith([
      "export",
      "csv2",
      "-",
      "--format",
      "csv",
      "--filter",
      '{"must":[{"key":"zip","match":{"value":"2"}}]}',
    ]);
    expect(asCsv.out).toBe(
      'id,vector,payload,expiresAt\n"""7""","[1,2]","{""title"":""a, \\""b\\"""",""zip"":""2""}",\n',
    );

    const parquet = parquetWriteBuffer({
      columnData: [
        { name: "id", data: [1n, 9007199254740993n] },
        {
          name: "vector",
          data: [
            [1, 2],
            [3, 4],
          ],
        },
        { name: "title", data: ["a", null] },
      ],
      schema: [
        { name: "root", num_children: 3 },
        { name: "id", type: "INT64", repetition_type: "REQUIRED" },
        { name: "vector", repetition_type: "OPTIONAL", num_children: 1, converted_type: "LIST" },
        { name: "list", repetition_type: "REPEATED", num_children: 1 },
        { name: "element", repetition_type: "OPTIONAL", type: "FLOAT" },
        { name: "title", repetition_type: "OPTIONAL", type: "BYTE_ARRAY", converted_type: "UTF8" },
      ],
    });
    writeFileSync(join(served.folder, "some.parquet"), Buffer.from(parquet));
    expect((await kith(["import", "some.parquet", "-c", "parquet", "--create", "-m", "l2"])).code).toBe(0);
    expect((await kith(["export", "parquet"])).out).toBe(
      '{"id":1,"vector":[1,2],"payload":{"title":"a"}}\n{"id":9007199254740993,"vector":[3,4]}\n',
    );
    const named = ["collection", "create", "named", "--vector", "a:2:l2", "--vector", "b_0:1:l2"];
    expect((await kith(named)).code).toBe(0);
    const input = '{"id":1,"vectors":{"a":[1,2],"b_0":[3]},"payload":{}}\n{"id":2,"vectors":{"a":[4,5]}}\n';
    expect((await kith(["import", "-", "-f", "jsonl", "-c", "named"], { input })).code).toBe(0);
    const exported = await kith(["export", "named", "-", "-f", "csv"]);
    expect(exported.out).toBe('id,vectors.a,vectors.b_0,payload,expiresAt\n1,"[1,2]",[3],{},\n2,"[4,5]",,,\n');
    expect((await kith(["delete", "named", "1", "2"])).code).toBe(0);
    expect((await kith(["import", "-", "-f", "csv", "-c", "named"], { input: exported.out })).code).toBe(0);
    expect((await kith(["export", "named"])).out).toBe(input);
    const expiring =
      '{"id":1,"vector":[1,2],"payload":{"a":1},"expiresAt":"2100-01-02T03:04:05.678Z"}\n' +
      '{"id":2,"vector":[3,4],"payload":null,"expiresAt":"2100-01-01T00:00:00.000Z"}\n{"id":3,"vector":[5,6],"payload":{}}\n';
    const create = ["--create", "-m", "l2"];
    expect((await kith(["import", "-", "-f", "jsonl", "-c", "exp", ...create], { input: expiring })).code).toBe(0);
    expect((await kith(["export", "exp"])).out).toBe(expiring);
    const expiringCsv = (await kith(["export", "exp", "-", "-f", "csv"])).out;
    expect((await kith(["import", "-", "-f", "csv", "-c", "exp2", ...create], { input: expiringCsv })).code).toBe(0);
    expect((await kith(["export", "exp2"])).out).toBe(expiring);
    const wrong = '{"id":4,"vector":[1,2],"payload":{},"expiresAt":"tomorrow"}\n';
    expect(await kith(["import", "-", "-f", "jsonl", "-c", "exp"], { input: wrong })).toMatchObject({
      code: 1,
      err: expect.stringContaining('the field "expiresAt" must be a date and time with a zone') as string,
    });
    for (const [flag, value] of [
      ["--delimiter", "ab"],
      ["--column-type", "a=date"],
      ["--column-type", "a"],
    ] as const) {
      expect((await kith(["import", "-", "-f", "csv", "-c", "named", flag, value])).code).toBe(2);
    }
  });

  it("gives up when too much is refused, and when the collection does not fit", async () => {
    writeFileSync(join(served.folder, "zeros.jsonl"), '{"vector":[0,0]}\n'.repeat(50));
    const zeros = await kith([
      "import",
      "zeros.jsonl",
      "-c",
      "zeros",
      "--create",
      "--max-rejects",
      "10",
      "--batch",
      "5",
    ]);
    expect(zeros.code).toBe(1);
    expect(zeros.err).toContain("--max-rejects 10");
    const missing = await kith(["import", "zeros.jsonl", "-c", "nothing"]);
    expect(missing.code).toBe(3);
    expect(missing.err).toContain("COLLECTION_NOT_FOUND");
    expect((await kith(["import", "none.fvecs", "-c", "zeros"])).code).toBe(3);
    expect((await kith(["import", "x.xls", "-c", "zeros"])).err).toContain("name one of jsonl");
  });

  it("takes the payloads of a binary file from the file beside it", async () => {
    writeFileSync(join(served.folder, "two.fvecs"), fvecs(generateMatrix({ rowCount: 2, dimension, seed: 7 })));
    writeFileSync(join(served.folder, "two.jsonl"), '{"word":"a"}\n{"word":"b"}\n');
    const done = await kith(["import", "two.fvecs", "--payloads", "two.jsonl", "-c", "two", "--create"]);
    expect(done.code, done.err).toBe(0);
    expect(json((await kith(["get", "two", "0", "1", "-o", "json"])).out)).toMatchObject([
      { id: 0, payload: { word: "a" } },
      { id: 1, payload: { word: "b" } },
    ]);
    expect((await kith(["import", "two.jsonl", "--payloads", "two.jsonl", "-c", "two"])).code).toBe(2);
  });

  it("waits for the graph as long as --timeout says, and else for long", async () => {
    writeFileSync(join(served.folder, "one.jsonl"), '{"vector":[1,1]}\n');
    const client = await connect(served.node.address);
    const handles = Object.getPrototypeOf(client.collection("any")) as ReturnType<typeof client.collection>;
    client.close();
    const waits = vi.spyOn(handles, "waitIndexed");
    const args = ["import", "one.jsonl", "-c", "waited", "--create", "--wait"];
    expect((await kith(args)).code).toBe(0);
    expect((await kith([...args, "--timeout", "45m"])).code).toBe(0);
    expect(waits.mock.calls.map(([options]) => options?.deadlineMs)).toEqual([undefined, 2_700_000]);
    waits.mockRestore();
  });

  it("skips, takes and offsets", async () => {
    writeFileSync(
      join(served.folder, "ten.jsonl"),
      Array.from({ length: 10 }, (_, i) => `{"vector":[${i + 1},1]}`).join("\n"),
    );
    const args = ["import", "ten.jsonl", "-c", "ten", "--create", "--skip", "2", "--take", "3", "--id-offset", "1000"];
    expect((await kith(args)).code).toBe(0);
    expect(json((await kith(["get", "ten", "1002", "1003", "1004", "-o", "json"])).out)).toHaveLength(3);
    expect((await kith(["count", "ten"])).out).toBe("3\n");
  });
});
