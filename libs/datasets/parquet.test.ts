import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { type ColumnSource, parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, expect, test } from "vitest";
import { openDataset } from "./index.js";
import { type DatasetBatch, type DatasetSource, type ReadDatasetOptions, rowNumberOf } from "./types.js";

type SchemaElement = NonNullable<Parameters<typeof parquetWriteBuffer>[0]["schema"]>[number];

const folder = mkdtempSync(join(tmpdir(), "kith-parquet-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A list of numbers as pyarrow writes one. */
function list(name: string, type: "FLOAT" | "DOUBLE"): SchemaElement[] {
  return [
    { name, repetition_type: "OPTIONAL", num_children: 1, converted_type: "LIST" },
    { name: "list", repetition_type: "REPEATED", num_children: 1 },
    { name: "element", repetition_type: "OPTIONAL", type },
  ];
}

const optional = (name: string, rest: Omit<SchemaElement, "name">): SchemaElement => ({
  name,
  repetition_type: "OPTIONAL",
  ...rest,
});

/** `schema` by column, in their order. */
function parquet(
  columnData: ColumnSource[],
  schema: SchemaElement[][],
  over: { rowGroupSize?: number; offsetIndex?: boolean } = {},
): Buffer {
  const { offsetIndex = true, rowGroupSize } = over;
  return Buffer.from(
    parquetWriteBuffer({
      columnData: columnData.map((column) => ({ ...column, offsetIndex })),
      schema: [{ name: "root", num_children: columnData.length }, ...schema.flat()],
      pageSize: 256,
      ...(rowGroupSize !== undefined && { rowGroupSize }),
    }),
  );
}

async function batchesOf(source: DatasetSource, options: ReadDatasetOptions = {}): Promise<DatasetBatch[]> {
  const dataset = await openDataset(source, "parquet", options);
  const batches: DatasetBatch[] = [];
  for await (const batch of dataset.batches()) batches.push(batch);
  return batches;
}

const int64 = (name: string): SchemaElement => optional(name, { type: "INT64" });
const text = (name: string): SchemaElement => optional(name, { type: "BYTE_ARRAY", converted_type: "UTF8" });

test("columns are an id, a vector and a payload with their types and all digits", async () => {
  const file = parquet(
    [
      { name: "docid", data: [9007199254740993n, 7n, null] },
      {
        name: "emb",
        data: [
          [0.5, -1],
          [2, 3],
          [4, 5],
        ],
      },
      { name: "title", data: ["a \u00e9", null, "__proto__"] },
      { name: "big", data: [-9007199254740993n, null, 1n] },
      { name: "score", data: [1.5, NaN, null] },
      { name: "ok", data: [true, false, null] },
      { name: "at", data: [1_700_000_000_123_456n, -1n, null] },
      { name: "day", data: [19_000, null, -1] },
      { name: "blob", data: [Uint8Array.of(0xff, 0xfe), Buffer.from("text"), null] },
      { name: "json", data: [{ n: 1 }, null, [2]] },
    ],
    [
      [int64("docid")],
      list("emb", "FLOAT"),
      [text("title")],
      [int64("big")],
      [optional("score", { type: "DOUBLE" })],
      [optional("ok", { type: "BOOLEAN" })],
      [
        optional("at", {
          type: "INT64",
          converted_type: "TIMESTAMP_MICROS",
          logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "MICROS" },
        }),
      ],
      [optional("day", { type: "INT32", converted_type: "DATE" })],
      [optional("blob", { type: "BYTE_ARRAY" })],
      [optional("json", { type: "BYTE_ARRAY", converted_type: "JSON" })],
    ],
  );
  const [batch] = await batchesOf(Readable.from([file]), { idField: "docid", vectorField: "emb" });
  expect(batch?.ids).toEqual([9007199254740993n, 7, undefined]);
  expect(batch?.columns).toEqual([{ name: "", dimension: 2, matrix: Float32Array.of(0.5, -1, 2, 3, 4, 5) }]);
  expect(batch?.payloads).toEqual([
    '{"title":"a \u00e9","big":-9007199254740993,"score":1.5,"ok":true,"at":"2023-11-14T22:13:20.123456Z","day":"2022-01-08","blob":"//4=","json":{"n":1}}',
    '{"ok":false,"at":"1969-12-31T23:59:59.999999Z","blob":"text"}',
    '{"title":"__proto__","big":1,"day":"1969-12-31","json":[2]}',
  ]);
});

test("vectors by name are a struct, and the payload may be one too", async () => {
  const file = parquet(
    [
      { name: "id", data: ["a", "b"] },
      {
        name: "vectors",
        data: [
          { title: [1], image: [2, 3] },
          { title: [4], image: null },
        ],
      },
      { name: "payload", data: [{ n: 9007199254740993n }, null] },
    ],
    [
      [text("id")],
      [optional("vectors", { num_children: 2 }), ...list("title", "DOUBLE"), ...list("image", "FLOAT")],
      [optional("payload", { num_children: 1 }), int64("n")],
    ],
  );
  const batches = await batchesOf(Readable.from([file]));
  expect(batches.map(({ columns }) => columns.map(({ name, matrix }) => [name, ...matrix]))).toEqual([
    [
      ["image", 2, 3],
      ["title", 1],
    ],
    [["title", 4]],
  ]);
  expect(batches.map(({ payloads }) => payloads)).toEqual([['{"n":9007199254740993}'], undefined]);
});

test.each([true, false])(
  "rows are read by parts, from where they are wanted (index of pages: %s)",
  async (offsetIndex) => {
    const count = 10_000;
    const ids = Array.from({ length: count }, (_, i) => BigInt(i));
    const file = parquet(
      [
        { name: "id", data: ids },
        { name: "vector", data: ids.map((id) => [Number(id), 1]) },
      ],
      [[int64("id")], list("vector", "FLOAT")],
      { rowGroupSize: 6_000, offsetIndex },
    );
    const path = join(folder, `rows-${offsetIndex}.parquet`);
    writeFileSync(path, file);
    const dataset = await openDataset(path, undefined, { skipRows: 1_234, limitRows: 7_000, batchRows: 500 });
    expect(dataset.sizeBytes).toBe(file.length);
    const seen: unknown[] = [];
    for await (const batch of dataset.batches()) {
      batch.ids?.forEach((id, i) => {
        expect(rowNumberOf(batch, i)).toBe(id);
        expect(batch.columns[0]?.matrix[i * 2]).toBe(id);
        seen.push(id);
      });
    }
    expect(seen).toEqual(Array.from({ length: 7_000 }, (_, i) => 1_234 + i));
    expect(dataset.bytesRead() / file.length).toBeCloseTo(0.8234, 3);
    await dataset.close();
  },
);

test("wrong rows are told by their number, compressed files are read, and nothing is left behind", async () => {
  const file = parquet(
    [
      { name: "id", data: ["a", "b", "c", "d"] },
      { name: "vector", data: [[1, 2], [1, null], null, [1, 2, 3]] },
    ],
    [[text("id")], list("vector", "DOUBLE")],
  );
  const path = join(folder, "bad.parquet.gz");
  writeFileSync(path, gzipSync(file));
  const before = readdirSync(tmpdir()).filter((name) => name.startsWith("kith-parquet-"));
  const bad: [number, string][] = [];
  const onBadRow = (row: number, error: Error): void => void bad.push([row, error.message]);
  const [batch] = await batchesOf(path, { name: "bad", onBadRow });
  expect(batch?.ids).toEqual(["a"]);
  expect(bad).toEqual([
    [1, 'bad, row 1: element 1 of "vector" is null, not a number'],
    [2, expect.stringContaining('bad, row 2: there is no field "vector"')],
    [3, "bad, row 3: the vector has 3 dimensions; the rows before have 2"],
  ]);
  expect(readdirSync(tmpdir()).filter((name) => name.startsWith("kith-parquet-"))).toEqual(before);
});

test("what is no Parquet file, and one without a vector, are one error", async () => {
  const fails = async (bytes: Buffer): Promise<unknown> =>
    batchesOf(Readable.from([bytes])).catch((error: unknown) => error);
  const invalid = (message: string): object => ({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining(message) as string,
  });
  expect(await fails(Buffer.from("id,vector\n1,2\n"))).toMatchObject(invalid("is not a whole Parquet file"));
  expect(await fails(Buffer.alloc(0))).toMatchObject(invalid("the file is empty, and a Parquet file never is"));
  const file = parquet([{ name: "id", data: ["a"] }], [[text("id")]]);
  expect(await fails(file)).toMatchObject(invalid('it has no column "vector" and no "vectors", but "id"'));
  const damaged = Buffer.from(parquet([{ name: "vector", data: [[1, 2]] }], [list("vector", "FLOAT")]));
  damaged.fill(0xee, 4, 24);
  expect(await fails(damaged)).toMatchObject(invalid("cannot be read"));
  await expect(openDataset(join(folder, "missing.parquet"), undefined)).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(readFileSync(join(folder, "bad.parquet.gz")).length).toBeGreaterThan(0);
});
