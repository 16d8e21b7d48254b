import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type DatasetBatch,
  type DatasetFormat,
  generateMatrix,
  guessFormat,
  openDataset,
  type ReadDatasetOptions,
  readGroundTruth,
  rowNumberOf,
  withPayloads,
} from "./index.js";

let folder: string;

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The one that was used to list the folder is closed by now.
    return "";
  }
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kith-datasets-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The bytes in pieces of the given size, so that rows, headers and lines are cut anywhere. */
async function* pieces(bytes: Uint8Array, sizeBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += sizeBytes) yield bytes.subarray(at, at + sizeBytes);
}

async function readAll(
  bytes: Uint8Array,
  format: DatasetFormat,
  options: ReadDatasetOptions = {},
  pieceBytes = 7,
): Promise<DatasetBatch[]> {
  const dataset = await openDataset(pieces(bytes, pieceBytes), format, { name: "test", ...options });
  const batches: DatasetBatch[] = [];
  for await (const batch of dataset.batches()) batches.push(batch);
  return batches;
}

function valuesOf(batches: DatasetBatch[]): number[] {
  return batches.flatMap((batch) => [...(batch.columns[0]?.matrix ?? [])]);
}

function vecs(rows: number[][], element: "f32" | "u8" | "i32"): Buffer {
  return Buffer.concat(
    rows.map((row) => {
      const head = Buffer.alloc(4);
      head.writeInt32LE(row.length);
      return Buffer.concat([head, elementsOf(row, element)]);
    }),
  );
}

function elementsOf(row: number[], element: "f32" | "f64" | "u8" | "i32"): Buffer {
  if (element === "u8") return Buffer.from(row);
  const typed =
    element === "f32" ? new Float32Array(row) : element === "f64" ? new Float64Array(row) : new Int32Array(row);
  return Buffer.from(typed.buffer);
}

function bin(rows: number[][], element: "f32" | "u8", rowCount = rows.length): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(rowCount, 0);
  head.writeUInt32LE(rows[0]?.length ?? 3, 4);
  return Buffer.concat([head, ...rows.map((row) => elementsOf(row, element))]);
}

function npy(data: Buffer, header: string, version = 1): Buffer {
  const text = Buffer.from(`${header}\n`, "latin1");
  const head = Buffer.alloc(version === 1 ? 10 : 12);
  head.write("\x93NUMPY", "latin1");
  head[6] = version;
  if (version === 1) head.writeUInt16LE(text.length, 8);
  else head.writeUInt32LE(text.length, 8);
  return Buffer.concat([head, text, data]);
}

const header = (descr: string, shape: string, order = "False"): string =>
  `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${shape}), }`;

const rows = [
  [1, 2, 3],
  [4, 5, 6],
  [7, 8, 9],
  [10, 11, 12],
];
const flat = rows.flat();

describe("binary formats", () => {
  const files: [string, DatasetFormat, Buffer][] = [
    ["fvecs", "fvecs", vecs(rows, "f32")],
    ["bvecs", "bvecs", vecs(rows, "u8")],
    ["fbin", "fbin", bin(rows, "f32")],
    ["u8bin", "u8bin", bin(rows, "u8")],
    ["npy f4", "npy", npy(elementsOf(flat, "f32"), header("<f4", "4, 3"))],
    ["npy f8", "npy", npy(elementsOf(flat, "f64"), header("<f8", "4, 3"), 2)],
    ["npy u1", "npy", npy(elementsOf(flat, "u8"), header("|u1", "4, 3"), 3)],
  ];

  it.each(files)(
    "%s: every row in order, however the bytes arrive and the batches are cut",
    async (_, format, bytes) => {
      for (const pieceBytes of [1, 3, 5, 1000]) {
        for (const batchRows of [1, 2, 3, 100]) {
          const batches = await readAll(bytes, format, { batchRows }, pieceBytes);
          expect(valuesOf(batches)).toEqual(flat);
          expect(batches.map((batch) => batch.rowCount).reduce((a, b) => a + b)).toBe(4);
          expect(batches[0]?.rowCount).toBe(Math.min(4, batchRows));
          expect(batches.every((batch) => batch.columns[0]?.dimension === 3)).toBe(true);
        }
      }
    },
  );

  it.each(files)("%s: skips and limits rows", async (_, format, bytes) => {
    for (let skipRows = 0; skipRows <= 5; skipRows++) {
      for (let limitRows = 0; limitRows <= 5; limitRows++) {
        const batches = await readAll(bytes, format, { skipRows, limitRows, batchRows: 2 });
        expect(valuesOf(batches)).toEqual(rows.slice(skipRows, skipRows + limitRows).flat());
        if (batches.length > 0) expect(batches[0]?.firstRow).toBe(skipRows);
      }
    }
  });

  it.each(files)("%s: cut at any byte, it names the file and the place", async (_, format, bytes) => {
    for (let length = 0; length < bytes.length; length++) {
      // fvecs and bvecs carry no row count: cut between rows, or before the first, they are whole.
      const rowBytes = format === "fvecs" ? 16 : 7;
      if ((format === "fvecs" || format === "bvecs") && length % rowBytes === 0) continue;
      await expect(readAll(bytes.subarray(0, length), format)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(/^test.*byte \d+/) as string,
        details: { file: "test", offset: expect.any(Number) as number },
      });
    }
  });

  it("yields the whole rows before a cut, then the error", async () => {
    const bytes = vecs(rows, "f32");
    const dataset = await openDataset(pieces(bytes.subarray(0, 40), 9), "fvecs", { name: "cut.fvecs" });
    const got: DatasetBatch[] = [];
    const read = async (): Promise<void> => {
      for await (const batch of dataset.batches()) got.push(batch);
    };
    await expect(read()).rejects.toThrow("cut.fvecs ends in the middle: at byte 32 row 2 of 16 bytes was expected");
    expect(valuesOf(got)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("refuses a row of another dimension, with its row and offset", async () => {
    const bytes = vecs(rows, "f32");
    bytes.writeInt32LE(4, 32);
    for (const options of [{}, { batchRows: 1 }, { skipRows: 1 }]) {
      await expect(readAll(bytes, "fvecs", options)).rejects.toMatchObject({
        code: "DIMENSION_MISMATCH",
        details: { row: 2, offset: 32, expected: 3, got: 4 },
      });
    }
  });

  it.each([
    ["fvecs", "fvecs", vecs([[]], "f32")],
    ["fvecs of text", "fvecs", Buffer.from("hello world, this is text")],
    ["fbin", "fbin", bin([[]], "f32")],
    ["npy", "npy", npy(Buffer.alloc(0), header("<f4", "4, 0"))],
  ] as [string, DatasetFormat, Buffer][])("%s: refuses a dimension outside of the limits", async (_, format, bytes) => {
    await expect(readAll(bytes, format)).rejects.toThrow(/dimension -?\d+, outside of 1\.\.16384/);
  });

  it("refuses bytes after the promised rows", async () => {
    await expect(readAll(bin(rows, "f32", 3), "fbin")).rejects.toThrow("bytes follow the 3 rows");
  });

  it.each([
    ["no magic", Buffer.from("PK\x03\x04 something else"), "is not an npy file"],
    ["version 9", npy(Buffer.alloc(0), header("<f4", "0, 3"), 9), "version 9"],
    ["no shape", npy(Buffer.alloc(0), "{'descr': '<f4', 'fortran_order': False}"), "lacks descr"],
    ["Fortran order", npy(Buffer.alloc(48), header("<f4", "4, 3", "True")), "Fortran order"],
    ["big-endian", npy(Buffer.alloc(48), header(">f4", "4, 3")), "elements of type >f4"],
    ["strings", npy(Buffer.alloc(48), header("|S4", "4, 3")), "elements of type |S4"],
    ["one dimension", npy(Buffer.alloc(48), header("<f4", "12,")), "the shape (12,)"],
    ["three dimensions", npy(Buffer.alloc(48), header("<f4", "2, 2, 3")), "the shape (2, 2, 3)"],
  ])("npy: refuses %s", async (_, bytes, message) => {
    await expect(readAll(bytes, "npy")).rejects.toThrow(message);
  });

  it("keeps batches of long vectors small", async () => {
    const dimension = 8192;
    const matrix = generateMatrix({ rowCount: 300, dimension, seed: 1 });
    const head = Buffer.alloc(8);
    head.writeUInt32LE(300, 0);
    head.writeUInt32LE(dimension, 4);
    const batches = await readAll(Buffer.concat([head, Buffer.from(matrix.buffer)]), "fbin", {}, 65_536);
    expect(batches.map((batch) => batch.rowCount)).toEqual([128, 128, 44]);
  });

  it("any damage of any byte ends in rows or a typed error, never in something else", async () => {
    const file = npy(elementsOf(flat, "f32"), header("<f4", "4, 3"));
    await fc.assert(
      fc.asyncProperty(fc.nat(file.length - 1), fc.nat(255), async (at, value) => {
        const damaged = Buffer.from(file);
        damaged[at] = value;
        try {
          await readAll(damaged, "npy");
        } catch (error) {
          expect(error).toMatchObject({ name: "KithError" });
        }
      }),
      { seed: 7, numRuns: 300 },
    );
  });
});

describe("JSON lines", () => {
  const lines = (...records: unknown[]): Buffer =>
    Buffer.from(records.map((record) => (typeof record === "string" ? record : JSON.stringify(record))).join("\n"));

  it("reads records with a payload, flat records and named fields", async () => {
    const [batch] = await readAll(
      lines(
        { id: 1, vector: [1, 2], payload: { a: 1 } },
        "",
        { id: "b", vector: [3, 4], title: "flat", year: 1999 },
        { vector: [5, 6] },
      ),
      "jsonl",
    );
    expect(batch).toMatchObject({ rowCount: 3, firstRow: 0, endRow: 4, ids: [1, "b", undefined] });
    expect(batch?.payloads).toEqual(['{"a":1}', '{"title":"flat","year":1999}', undefined]);
    expect(valuesOf([batch as DatasetBatch])).toEqual([1, 2, 3, 4, 5, 6]);
    expect([0, 1, 2].map((index) => rowNumberOf(batch as DatasetBatch, index))).toEqual([0, 2, 3]);

    const [other] = await readAll(lines({ key: "x", embedding: [1], id: 9 }), "jsonl", {
      idField: "key",
      vectorField: "embedding",
    });
    expect(other).toMatchObject({ ids: ["x"], payloads: ['{"id":9}'] });
  });

  it("keeps the digits of every number, and names that all objects have", async () => {
    const [batch] = await readAll(
      lines(
        '{"id":9007199254740993,"vector":[1],"big":12345678901234567890123,"f":1.0,"__proto__":{"a":[1e3]}}',
        '{"id":18446744073709551615,"vector":[1],"payload":{ "n" : -9007199254740993 }}',
        '{"vector":[1],"constructor":7}',
      ),
      "jsonl",
    );
    expect(batch?.ids).toEqual([9007199254740993n, 18446744073709551615n, undefined]);
    expect(batch?.payloads).toEqual([
      '{"big":12345678901234567890123,"f":1.0,"__proto__":{"a":[1e3]}}',
      '{ "n" : -9007199254740993 }',
      '{"constructor":7}',
    ]);
    const [named] = await readAll(lines('{"vector":[1]}'), "jsonl", { idField: "constructor" });
    expect(named?.ids).toEqual([undefined]);
  });

  it("cuts a batch where the vector fields change", async () => {
    const batches = await readAll(
      lines(
        { vectors: { text: [1], image: [1, 2] } },
        { vectors: { image: [3, 4], text: [2] } },
        { vectors: { text: [3] } },
      ),
      "jsonl",
    );
    expect(batches.map((batch) => batch.columns.map((column) => [column.name, ...column.matrix]))).toEqual([
      [
        ["image", 1, 2, 3, 4],
        ["text", 1, 2],
      ],
      [["text", 3]],
    ]);
    expect(batches.map((batch) => [batch.firstRow, batch.endRow])).toEqual([
      [0, 2],
      [2, 3],
    ]);
  });

  it.each([
    ["broken JSON", '{"id": 1, ', "is not JSON", "INVALID_ARGUMENT"],
    ["an array", "[1,2]", "expected a JSON object, got an array", "INVALID_ARGUMENT"],
    ["no vector", '{"id":1}', 'there is no field "vector"', "INVALID_ARGUMENT"],
    ["an empty vector", '{"vector":[]}', "is empty", "INVALID_ARGUMENT"],
    ["a string in a vector", '{"vector":[1,"2"]}', 'element 1 of "vector" is the string "2"', "INVALID_ARGUMENT"],
    ["null in a vector", '{"vector":[null,1]}', 'element 0 of "vector" is null', "INVALID_ARGUMENT"],
    ["another dimension", '{"vector":[1,2,3]}', "has 3 dimensions; the lines before have 2", "DIMENSION_MISMATCH"],
    ["a negative id", '{"id":-1,"vector":[1,2]}', "the id -1", "INVALID_ID"],
    ["an id that is no integer", '{"id":1.5,"vector":[1,2]}', "the id 1.5", "INVALID_ID"],
    ["an id beyond u64", '{"id":18446744073709551616,"vector":[1,2]}', "the id 18446744073709551616", "INVALID_ID"],
    ["an object id", '{"id":{},"vector":[1,2]}', "must be a string or a whole number", "INVALID_ID"],
    ["a payload that is a number", '{"vector":[1,2],"payload":7}', "must be an object", "INVALID_ARGUMENT"],
    ["a payload and more", '{"vector":[1,2],"payload":{},"x":1}', "other fields beside it (x)", "INVALID_ARGUMENT"],
    ["vectors that are no object", '{"vectors":[1,2]}', '"vectors" must be an object', "INVALID_ARGUMENT"],
  ])("refuses %s, naming the line", async (_, line, message, code) => {
    const text = lines({ id: 5, vector: [1, 2] }, line, { id: 6, vector: [3, 4] });
    await expect(readAll(text, "jsonl")).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message) as string,
      details: { file: "test", line: 2 },
    });
    // With a place for bad rows, the others still come.
    const bad: [number, string][] = [];
    const batches = await readAll(text, "jsonl", { onBadRow: (row, _error, raw) => bad.push([row, raw]) });
    expect(bad).toEqual([[1, line]]);
    expect(batches).toMatchObject([{ ids: [5, 6], rowNumbers: [0, 2], endRow: 3 }]);
  });

  it("refuses bytes that are not UTF-8 and lines without end", async () => {
    await expect(readAll(Buffer.from([0x7b, 0xff, 0xfe, 0x0a]), "jsonl")).rejects.toThrow(
      "test, line 1: the line is not UTF-8",
    );
    await expect(readAll(Buffer.alloc(17 * 1024 * 1024, 0x20), "jsonl", {}, 1 << 20)).rejects.toThrow(
      "line 1 is longer than",
    );
  });

  it("goes on from any row with the same rows", async () => {
    const text = lines(...rows.map((vector, id) => ({ id, vector })));
    for (let skipRows = 0; skipRows <= 4; skipRows++) {
      const batches = await readAll(text, "jsonl", { skipRows, batchRows: 3 });
      expect(valuesOf(batches)).toEqual(rows.slice(skipRows).flat());
      if (batches.length > 0) expect(batches[0]?.firstRow).toBe(skipRows);
    }
  });
});

describe("opening", () => {
  it("guesses the format from the extension", () => {
    expect(guessFormat("/a/b.FVECS")).toBe("fvecs");
    expect(guessFormat("x.ndjson")).toBe("jsonl");
    expect(guessFormat("x.fbin")).toBe("fbin");
    expect(guessFormat("x.xls")).toBeUndefined();
    expect(guessFormat("constructor")).toBeUndefined();
    expect(guessFormat("x.constructor")).toBeUndefined();
  });

  it("reads a file, and says what is wrong with a path", async () => {
    const path = join(folder, "a.fvecs");
    writeFileSync(path, vecs(rows, "f32"));
    const dataset = await openDataset(path, undefined);
    expect(dataset).toMatchObject({ format: "fvecs", sizeBytes: 64, name: path });
    const batches: DatasetBatch[] = [];
    for await (const batch of dataset.batches()) batches.push(batch);
    expect(valuesOf(batches)).toEqual(flat);
    expect(dataset.bytesRead()).toBe(64);

    await expect(openDataset(join(folder, "none.fvecs"), undefined)).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(openDataset(folder, "fvecs")).rejects.toThrow("is a directory");
    await expect(openDataset(join(folder, "x.xls"), undefined)).rejects.toThrow(
      "name one of jsonl, csv, parquet, fvecs",
    );
    await expect(openDataset(pieces(Buffer.alloc(0), 1), undefined)).rejects.toThrow(
      "a stream does not tell its format",
    );
  });

  it("closes a file that is not read, or not to its end", async () => {
    const path = join(folder, "open.fvecs");
    writeFileSync(path, vecs(rows, "f32"));
    const isOpen = (): boolean => readdirSync("/proc/self/fd").some((fd) => linkOf(fd) === path);
    const dataset = await openDataset(path, undefined);
    expect(isOpen()).toBe(true);
    await dataset.close();
    await dataset.close();
    expect(isOpen()).toBe(false);
    const half = await openDataset(path, undefined, { batchRows: 1 });
    for await (const batch of half.batches()) if (batch.endRow === 2) break;
    expect(isOpen()).toBe(false);
  });

  it("stops for a signal", async () => {
    const controller = new AbortController();
    const dataset = await openDataset(pieces(vecs(rows, "f32"), 16), "fvecs", {
      batchRows: 1,
      signal: controller.signal,
    });
    const read = async (): Promise<void> => {
      for await (const batch of dataset.batches()) if (batch.endRow === 2) controller.abort();
    };
    await expect(read()).rejects.toMatchObject({ code: "CANCELLED" });
  });
});

describe("payloads beside the vectors", () => {
  const payloadLines = Buffer.from('{"n":0}\n\nnull\n{"n":3}\n');

  async function join(payloads: Uint8Array, options: ReadDatasetOptions = {}): Promise<unknown[]> {
    const dataset = await openDataset(pieces(vecs(rows, "f32"), 9), "fvecs", options);
    const found: unknown[] = [];
    for await (const batch of withPayloads(dataset.batches(), pieces(payloads, 5), { name: "p" })) {
      found.push(...(batch.payloads ?? []));
    }
    return found;
  }

  it("belong to the row of their line, wherever reading begins and however it is cut", async () => {
    const expected = ['{"n":0}', undefined, undefined, '{"n":3}'];
    for (const batchRows of [1, 3, 10]) {
      for (const skipRows of [0, 1, 3]) {
        expect(await join(payloadLines, { batchRows, skipRows })).toEqual(expected.slice(skipRows));
      }
    }
  });

  it("must be there for every row, and be objects", async () => {
    await expect(join(payloadLines.subarray(0, 14))).rejects.toThrow(
      "p, line 4: the file ends here, but there is a row 3",
    );
    await expect(join(Buffer.from('{"n":0}\n[1]\n'))).rejects.toThrow("p, line 2: a payload must be a JSON object");
    await expect(join(Buffer.from("{oops\n"))).rejects.toThrow("p, line 1: this is not JSON");
  });
});

describe("ground truth files", () => {
  it("reads ivecs and ibin, with and without distances", async () => {
    const ivecs = await readGroundTruth(pieces(vecs(rows, "i32"), 5), "ivecs");
    expect(ivecs).toMatchObject({ queryCount: 4, k: 3 });
    expect([...ivecs.ids]).toEqual(flat);

    const ids = Buffer.concat([bin(rows, "f32").subarray(0, 8), elementsOf(flat, "i32")]);
    expect([...(await readGroundTruth(pieces(ids, 5), "ibin")).ids]).toEqual(flat);
    const both = Buffer.concat([ids, elementsOf(flat, "f32")]);
    expect([...((await readGroundTruth(pieces(both, 5), "ibin")).distances ?? [])]).toEqual(flat);
  });

  it("refuses what is cut or uneven", async () => {
    const uneven = vecs([[1, 2], [3]], "i32");
    await expect(readGroundTruth(pieces(uneven, 5), "ivecs")).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
    await expect(readGroundTruth(pieces(vecs(rows, "i32").subarray(0, 30), 5), "ivecs")).rejects.toThrow("row 1");
    const ids = Buffer.concat([bin(rows, "f32").subarray(0, 8), elementsOf(flat, "i32")]);
    await expect(readGroundTruth(pieces(ids.subarray(0, 30), 5), "ibin")).rejects.toThrow("truncated");
    await expect(readGroundTruth(pieces(Buffer.concat([ids, ids]), 5), "ibin")).rejects.toThrow("bytes follow");
    await expect(readGroundTruth(pieces(Buffer.alloc(8, 0xff), 5), "ibin")).rejects.toThrow("is the format right");
  });
});

it.each(["jsonl", "csv", "npy", "fvecs", "parquet"] as const)(
  "%s: what is 4 GiB when it is unpacked is refused by what its first bytes are, in a file and in a stream",
  async (format) => {
    // One value without an end; a member of gzip may follow the other.
    const piece = gzipSync(Buffer.alloc(32 * 1024 * 1024, format === "csv" ? "x" : 0));
    const bomb = Buffer.concat([
      gzipSync(Buffer.from(format === "csv" ? "vector\n" : "")),
      ...Array.from({ length: 128 }, () => piece),
    ]);
    const path = join(folder, `bomb.${format}.gz`);
    writeFileSync(path, bomb);
    const before = process.memoryUsage().rss;
    // To find the end of a row of text takes seconds in pieces.
    for (const source of format === "csv" ? [path] : [path, pieces(bomb, 64 * 1024)]) {
      const read = async (): Promise<void> => {
        const dataset = await openDataset(source, format);
        try {
          for await (const batch of dataset.batches()) expect(batch).toBeUndefined();
        } finally {
          await dataset.close();
        }
      };
      await expect(read()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(192 * 1024 * 1024);
  },
);
