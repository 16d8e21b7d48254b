import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { guessFormat, openDataset } from "./index.js";
import { type DatasetBatch, type ReadDatasetOptions, rowNumberOf } from "./types.js";

const folder = mkdtempSync(join(tmpdir(), "kith-csv-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Row {
  row: number;
  id: unknown;
  vectors: Record<string, number[]>;
  payload: string | undefined;
}

function rowsOf(batch: DatasetBatch): Row[] {
  return Array.from({ length: batch.rowCount }, (_, i) => ({
    row: rowNumberOf(batch, i),
    id: batch.ids?.[i],
    vectors: Object.fromEntries(
      batch.columns.map(({ name, dimension, matrix }) => [
        name,
        [...matrix.subarray(i * dimension, (i + 1) * dimension)],
      ]),
    ),
    payload: batch.payloads?.[i],
  }));
}

async function read(content: string | Buffer, options: ReadDatasetOptions = {}): Promise<Row[]> {
  const dataset = await openDataset(Readable.from([Buffer.from(content)]), "csv", { name: "x.csv", ...options });
  const rows: Row[] = [];
  for await (const batch of dataset.batches()) rows.push(...rowsOf(batch));
  return rows;
}

/** What is refused of the rows, and those that are not. */
async function sifted(content: string | Buffer): Promise<{ rows: Row[]; bad: [number, string][] }> {
  const bad: [number, string][] = [];
  const rows = await read(content, { onBadRow: (row, error) => bad.push([row, error.message]) });
  return { rows, bad };
}

test("columns are an id, a vector as JSON or as numbers, and a payload with types and all digits", async () => {
  const text = [
    "id,vector,title,year,score,big,ok,tags,place,empty",
    '42,"[0.5, -1e-3]","Heat, the ""film""",1995,1.50,9007199254740993,TRUE,"[""a"",1]","{""lat"":1.0}",',
    '"18446744073709551615",1 2,007,-0,.5,1e999,no,[sic],{},',
    '"""42""","3;4",\u00e9,,,,,,,',
    ',"5,6",x,,,,,,,',
  ].join("\r\n");
  expect(await read(`\uFEFF${text}\n\n`)).toEqual([
    {
      row: 0,
      id: 42,
      vectors: { "": [0.5, Math.fround(-1e-3)] },
      payload:
        '{"title":"Heat, the \\"film\\"","year":1995,"score":1.50,"big":9007199254740993,"ok":true,"tags":["a",1],"place":{"lat":1.0}}',
    },
    {
      row: 1,
      id: 18446744073709551615n,
      vectors: { "": [1, 2] },
      payload: '{"title":"007","year":-0,"score":".5","big":"1e999","ok":"no","tags":"[sic]","place":{}}',
    },
    { row: 2, id: "42", vectors: { "": [3, 4] }, payload: '{"title":"\u00e9"}' },
    { row: 3, id: undefined, vectors: { "": [5, 6] }, payload: '{"title":"x"}' },
  ]);
});

test("vectors may be in numbered columns, several by name, and the payload one column of JSON", async () => {
  const text = 'emb_0,key,emb_1,payload\n1,a,2,"{""n"": 9007199254740993}"\n3,b,4,\n5,c,6,null\n';
  expect(await read(text, { idField: "key", vectorField: "emb" })).toEqual([
    { row: 0, id: "a", vectors: { "": [1, 2] }, payload: '{"n": 9007199254740993}' },
    { row: 1, id: "b", vectors: { "": [3, 4] }, payload: undefined },
    { row: 2, id: "c", vectors: { "": [5, 6] }, payload: undefined },
  ]);
  const named = 'id,vectors.title,vectors.image_0\n1,[1],2 3\n2,,"[4,5]"\n';
  expect((await read(named)).map(({ vectors }) => vectors)).toEqual([
    { title: [1], image_0: [2, 3] },
    { image_0: [4, 5] },
  ]);
});

test("types of columns can be given, and the character between cells", async () => {
  const columnTypes = new Map([
    ["zip", "string"],
    ["n", "number"],
    ["b", "boolean"],
    ["j", "json"],
  ] as const);
  const [row] = await read("vector;zip;n;b;j\n1 2;01234;5;True;3\n", { delimiter: ";", columnTypes });
  expect(row?.payload).toBe('{"zip":"01234","n":5,"b":true,"j":3}');
  for (const [cells, message] of [
    ["1;1;x;true;3", '"n" has the string "x", which is not a number'],
    ["1;1;2;maybe;3", '"b" has the string "maybe", which is neither true nor false'],
    ["1;1;2;true;{", 'the cell of "j" is not JSON'],
  ]) {
    await expect(read(`vector;zip;n;b;j\n${cells}`, { delimiter: ";", columnTypes })).rejects.toThrow(message);
  }
  const other = new Map([["zup", "string"]] as const);
  await expect(read("vector,zip\n1,2", { columnTypes: other })).rejects.toThrow('a type is given for the column "zup"');
});

test("a wrong row is told by its number, and the others are read", async () => {
  const bytes = Buffer.concat([
    Buffer.from('id,vector,t\n1,[1 2],a\n2,"[1,2]",b\n3,"[1,2]"\n4,"[1,2,3]",d\n5,,e\n6,1 x,f\n-1,1 2,g\n8,"[1,2]",'),
    Buffer.from([0xff, 0x0a]),
    Buffer.from('9,"[1,null]",h\n"""",1 2,i\n1e3,3 4,j\n'),
  ]);
  const { rows, bad } = await sifted(bytes);
  expect(rows.map(({ row, id }) => [row, id])).toEqual([
    [1, 2],
    [6, "-1"],
    [10, "1e3"],
  ]);
  expect(bad.map(([row, message]) => [row, message.slice("x.csv, row 0: ".length)])).toEqual([
    [0, expect.stringContaining('the cell of "vector" is not JSON')],
    [2, "the row has 2 cells, and the header has 3"],
    [3, "the vector has 3 dimensions; the rows before have 2"],
    [4, "there is no vector: its cell is empty"],
    [5, 'the vector "vector" has the string "x", which is not a number'],
    [7, 'the cell of "t" is not UTF-8'],
    [8, 'element 1 of "vector" is null, not a number'],
    [9, expect.stringContaining('the cell of "id" is not JSON')],
  ]);
});

test.each([
  ["a,b\n1,2", 'there is no column "vector", "vector_0" or "vectors.<name>", but "a", "b"'],
  ["vector,payload,x\n1,2,3", 'there is a column "payload", and others beside it ("x")'],
  ["vector,a,a\n1,2,3", 'the column "a" stands twice'],
  ["vector,,a\n1,2,3", "column 2 has no name"],
  ["vector_0,vector_2\n1,2", 'there is no column "vector_1", though others are numbered'],
  ["vector,vector_0\n1,2", 'there is a column "vector", and "vector_0" too'],
  ['vector,a\n1,"open', "is not well-formed CSV"],
])("a header that cannot be meant is one error before any row: %j", async (text, message) => {
  await expect(sifted(text)).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining(message) as string,
  });
});

test("what the parser says is told without the bytes of cells, and UTF-16 by its name", async () => {
  const failureOf = async (text: string | Buffer): Promise<string> =>
    sifted(text).then(
      () => "",
      (error: unknown) => (error as Error).message,
    );
  const json = await failureOf('{"id":1,"vector":[1,2]}\n');
  expect(json).toMatch(/is not well-formed CSV: Invalid Opening Quote: a quote is found on field 0 at line 1$/);
  const utf16 = await failureOf(Buffer.from('\ufeffid,vector\n1,"[1,2]"\n', "utf16le"));
  expect(utf16).toMatch(/at line 2; it looks like UTF-16, and UTF-8 is read$/);
});

test("rows are passed over and taken, compressed or not, by path and from a stream", async () => {
  const text = `id\tvector\n${Array.from({ length: 10 }, (_, i) => `${i}\t${i} 1`).join("\n")}\n`;
  writeFileSync(join(folder, "a.tsv"), text);
  writeFileSync(join(folder, "b.tsv.gz"), gzipSync(text));
  expect([guessFormat("a.csv"), guessFormat("x/b.tsv.gz")]).toEqual(["csv", "csv"]);
  for (const name of ["a.tsv", "b.tsv.gz"]) {
    const dataset = await openDataset(join(folder, name), undefined, { skipRows: 3, limitRows: 5, batchRows: 2 });
    const batches = [];
    for await (const batch of dataset.batches()) batches.push(batch);
    expect(batches.flatMap((batch) => batch.ids)).toEqual([3, 4, 5, 6, 7]);
    expect(batches.map(({ firstRow, endRow }) => [firstRow, endRow])).toEqual([
      [3, 5],
      [5, 7],
      [7, 8],
    ]);
    expect(dataset.bytesRead()).toBeGreaterThan(0);
    await dataset.close();
  }
  expect(await read(gzipSync(text.replaceAll("\t", ",")), { limitRows: 1 })).toHaveLength(1);
  await expect(read(gzipSync(text).subarray(0, 30))).rejects.toThrow("is not a whole gzip file");
});
