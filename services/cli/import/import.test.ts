import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
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
    const io = testIo({ cwd: served.folder, env: { KITH_TARGET: served.node.address } });
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

    const interrupted = testIo({ cwd: served.folder, env: { KITH_TARGET: served.node.address } });
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
    expect((await kith(["import", "x.csv", "-c", "zeros"])).err).toContain("name one of jsonl");
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
