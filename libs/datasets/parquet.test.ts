import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { parquetMetadata } from "hyparquet";
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

/** A number as an unsigned LEB128, of five bytes: in this length any size can be written over another. */
function leb(value: number): Buffer {
  return Buffer.from(
    [0, 7, 14, 21, 28].map((shift, i) => (Math.floor(value / 2 ** shift) & 0x7f) | (i < 4 ? 0x80 : 0)),
  );
}

/** A field of Thrift's compact protocol, by the distance of its number to the one before: an i32. */
const i32 = (step: number, value: number): Buffer => Buffer.concat([Buffer.from([(step << 4) | 5]), leb(value * 2)]);

/** A Parquet file of one column "vector" of floats, with one page; `lies`: what its header and the table of contents name. */
function onePage(
  lies: { unpacked?: number; values?: number; rows?: number; codec?: "ZSTD" | "GZIP" | "SNAPPY" },
  data: Buffer,
): Buffer {
  const { unpacked = data.length, values = 1, rows = 1, codec } = lies;
  const codecs = { SNAPPY: 1, GZIP: 2, ZSTD: 6 };
  const stop = Buffer.from([0]);
  const page = Buffer.concat([
    ...[i32(1, 0), i32(1, unpacked), i32(1, data.length)],
    // DataPageHeader: values, PLAIN_DICTIONARY with indexes of no bits is the shortest way to many values; levels are RLE.
    ...[Buffer.from([0x2c]), i32(1, values), i32(1, 0), i32(1, 3), i32(1, 3), stop, stop],
    data,
  ]);
  const i64 = (step: number, value: number): Buffer => Buffer.concat([Buffer.from([(step << 4) | 6]), leb(value * 2)]);
  const string = (text: string): Buffer => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
  const list = (step: number, type: number, items: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([(step << 4) | 9, (items.length << 4) | type]), ...items]);
  const root = Buffer.concat([Buffer.from([0x48]), string("root"), i32(1, 1), stop]);
  const field = Buffer.concat([i32(1, 4), i32(2, 0), Buffer.from([0x18]), string("vector"), stop]);
  const meta = Buffer.concat([
    ...[i32(1, 4), list(1, 5, [Buffer.from([0])]), list(1, 8, [string("vector")])],
    ...[
      i32(1, codec === undefined ? 0 : codecs[codec]),
      i64(1, values),
      i64(1, unpacked),
      i64(1, page.length),
      i64(2, 4),
      stop,
    ],
  ]);
  const chunk = Buffer.concat([i64(2, 4), Buffer.from([0x1c]), meta, stop]);
  const group = Buffer.concat([list(1, 12, [chunk]), i64(1, unpacked), i64(1, rows), stop]);
  const footer = Buffer.concat([i32(1, 1), list(1, 12, [root, field]), i64(1, rows), list(1, 12, [group]), stop]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  const mark = Buffer.from("PAR1");
  return Buffer.concat([mark, page, footer, length, mark]);
}

test.each([
  [
    "a page that names 2 GB",
    { unpacked: 2_000_000_000, codec: "SNAPPY" } as const,
    /row group of row 0 cannot be read.*unpack to 2000000000 bytes|has 2000000000 bytes/,
  ],
  ["a page that names two billion values", { values: 2_000_000_000 }, /name 2000000000 values, and at most/],
  ["a group that names four billion rows", { rows: 4_000_000_000 }, /4000000000 rows are named, and at most/],
  [
    "zstd that would unpack to a gigabyte, where its page names eight bytes",
    { unpacked: 8, codec: "ZSTD" } as const,
    /lies\.parquet/,
  ],
  ["gzip that would unpack to more than its page names", { unpacked: 8, codec: "GZIP" } as const, /lies\.parquet/],
])("%s is refused, and takes no memory", async (_title, lies, message) => {
  const floats = Buffer.alloc(8 << 20);
  const codec = "codec" in lies ? lies.codec : undefined;
  const data = codec === "GZIP" ? gzipSync(floats) : codec === "ZSTD" ? zstdBomb(8_192) : Buffer.alloc(4);
  const path = join(folder, "lies.parquet");
  writeFileSync(path, onePage(lies, data));
  const before = process.memoryUsage();
  await expect(batchesOf(path)).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringMatching(message) as string,
  });
  const after = process.memoryUsage();
  expect(after.rss - before.rss).toBeLessThan(512 << 20);
});

test("an index of pages that names other places is refused", async () => {
  const rowCount = 5_000;
  const ids = Array.from({ length: rowCount }, (_, i) => BigInt(i));
  const columns = [
    { name: "id", data: ids },
    { name: "vector", data: ids.map(() => [1, 2]) },
  ];
  const whole = parquet(columns, [[int64("id")], list("vector", "FLOAT")], { rowGroupSize: rowCount });
  const { row_groups: groups } = parquetMetadata(new Uint8Array(whole).buffer);
  const at = Number(groups[0]?.columns[0]?.offset_index_offset);
  const path = join(folder, "index.parquet");
  const refusals: string[] = [];
  for (let i = 0; i < 16; i++) {
    const file = Buffer.from(whole);
    file[at + i] = (file[at + i] as number) ^ 2;
    writeFileSync(path, file);
    const message = await batchesOf(path).then(
      () => "",
      (error: Error & { code?: string }) => `${error.code} ${error.message}`,
    );
    refusals.push(message);
  }
  for (const each of refusals) expect(each).toMatch(/^INVALID_ARGUMENT|^$/);
  expect(refusals.filter((each) => each.includes("the index of pages does not name the pages")).length).toBeGreaterThan(
    2,
  );
});

/** A frame of so many blocks of 128 KiB, each of them one byte that is repeated. */
function zstdBomb(blocks: number): Buffer {
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58]);
  const size = 128 * 1024;
  const block = (isLast: boolean): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUIntLE((size << 3) | (1 << 1) | (isLast ? 1 : 0), 0, 3);
    return bytes;
  };
  return Buffer.concat([header, ...Array.from({ length: blocks }, (_, i) => block(i === blocks - 1))]);
}
