/** With a master key no file has a known value in it, whatever sort of field, index, code or file it would be in: data, log, checkpoints, backups, temporary files. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { connect } from "../../libs/client/index.js";
import { filesBelow } from "../cluster/damage.js";
import { TestServer } from "../cluster/rest-server.js";

const folder = mkdtempSync(join(tmpdir(), "kith-sealed-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const dimension = 32;
/** So many that a checkpoint is written when the server ends. */
const rowCount = 1_200;
/** So many that codes are fitted to them, and checkpoints have these. */
const codedCount = 4_200;
const rowsLookedFor = [7, 300, 599];
/** Words that stand in payloads alone: as a text, a keyword, a word of a text, a member's name and a place within arrays. */
const words = ["unmistakable", "keywordofthisone", "analysedwordhere", "membernamewritten", "deepdownvalue"];
const numberOf = 918_273_645_546_372;

/** Components that no other vector has, one after the other, and directions far enough apart for codes of eight bits. */
function vectorOf(id: number): number[] {
  return Array.from({ length: dimension }, (_, i) => {
    const scattered = Math.sin(id * 12.9898 + i * 78.233) * 43_758.5453;
    return Math.fround((scattered - Math.floor(scattered)) * 6 - 3);
  });
}

/** What would tell of a vector: four components one after the other, as they were written; eight of them in half as many bits. */
function traces(id: number): [string, Buffer][] {
  const vector = Float32Array.from(vectorOf(id));
  const bytes = (numbers: ArrayBufferView): Buffer =>
    Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return [0, 8, 20].flatMap((at): [string, Buffer][] => [
    [`vector ${id}`, bytes(vector.slice(at, at + 4))],
    [`f16 ${id}`, bytes(Uint16Array.from(vector.slice(at, at + 8), f16))],
    [`bf16 ${id}`, bytes(Uint16Array.from(vector.slice(at, at + 8), bf16))],
  ]);
}

const word = new DataView(new ArrayBuffer(4));
function bitsOf(value: number): number {
  word.setFloat32(0, value);
  return word.getUint32(0);
}
/** The nearest, to an even last bit where two are as near, of numbers that are neither too large nor below 2^-14. */
function f16(value: number): number {
  const bits = bitsOf(Math.abs(value));
  return (((bits + 0xfff + ((bits >>> 13) & 1)) >>> 13) - (112 << 10)) | (value < 0 ? 0x8000 : 0);
}
function bf16(value: number): number {
  const bits = bitsOf(value);
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/**
 * Whether a vector's codes stand anywhere: its components by one scale, whichever it is, but for what is rounded off, in whole numbers of one byte or, where these
 * are too coarse for the data, of two.
 */
function hasCodes(content: Buffer, vector: number[]): boolean {
  return (
    hasNumbers(new Int8Array(content), vector) ||
    hasNumbers(new Int16Array(new Uint8Array(content).buffer, 0, content.length >> 1), vector)
  );
}
function hasNumbers(numbers: Int8Array | Int16Array, vector: number[]): boolean {
  const largest = vector.reduce((best, value, i) => (Math.abs(value) > Math.abs(vector[best] as number) ? i : best), 0);
  for (let from = 0; from + vector.length <= numbers.length; from++) {
    const scale = (numbers[from + largest] as number) / (vector[largest] as number);
    if (scale > 10 && vector.every((value, i) => Math.abs((numbers[from + i] as number) - value * scale) < 1.5))
      return true;
  }
  return false;
}

async function filled(encryption: object, name: string): Promise<Map<string, string[]>> {
  const backups = join(folder, `${name}-backups`);
  const data = join(folder, name);
  const server = await TestServer.start({}, { data, backup: { folder: backups }, ...encryption });
  const client = await connect(server.node.address);
  try {
    const rows = client.collection("rows");
    await rows.create({
      vectors: {
        plain: { dimension, metric: "l2" },
        half: { dimension, metric: "l2", datatype: "f16" },
        coded: { dimension, metric: "cosine", datatype: "i8", originals: true },
        product: { dimension, metric: "l2", datatype: "pq16", originals: true },
        matrix: { dimension, metric: "cosine", multivector: "maxSim" },
      },
      sparse: { sparse: {} },
    });
    await rows.createPayloadIndex("word", "keyword");
    await rows.createPayloadIndex("title", "bm25");
    await rows.createPayloadIndex("text", "text");
    await rows.createPayloadIndex("n", "integer");
    for (let from = 0; from < rowCount; from += 300) {
      await rows.upsert(
        Array.from({ length: 300 }, (_, i) => {
          const id = from + i;
          const vector = vectorOf(id);
          return {
            id,
            vectors: { plain: vector, half: vector, coded: vector, product: vector, matrix: [vector, vector] },
            sparse: { sparse: { indices: vector.slice(0, 8).map((_, at) => at + id), values: vector.slice(0, 8) } },
            payload: {
              text: `${words[0]} ${words[2]}`,
              word: words[1],
              title: `${words[2]} again`,
              n: numberOf,
              [words[3] as string]: { list: [{ value: words[4] }] },
            },
          };
        }),
      );
    }
    await rows.setPayload([1], { word: words[1] });
    await rows.waitIndexed();
    const { points } = await rows.query({ vector: vectorOf(7), using: "product", limit: 1 });
    expect(points.map(({ id }) => id)).toEqual([7]);
    const codes = client.collection("codes");
    const build = { dimension, m: 4, efConstruction: 16 };
    await codes.create({
      vectors: {
        f16: { ...build, metric: "l2", datatype: "f16" },
        bf16: { ...build, metric: "l2", datatype: "bf16" },
        i8: { ...build, metric: "dot", datatype: "i8" },
      },
    });
    for (let from = 0; from < codedCount; from += 1_050) {
      const ids = Array.from({ length: 1_050 }, (_, i) => from + i);
      await codes.upsert(
        ids.map((id) => ({ id, vectors: { f16: vectorOf(id), bf16: vectorOf(id), i8: vectorOf(id) } })),
      );
    }
    await codes.waitIndexed();
    const { id } = await client.backups.create("rows", { full: true });
    await eventually(async () => expect((await client.backups.list()).map((each) => each.id)).toContain(id));
  } finally {
    client.close();
    await server.close();
  }
  const found = new Map<string, string[]>();
  const wanted: [string, Buffer][] = [
    ...words.map((word): [string, Buffer] => [word, Buffer.from(word)]),
    ["number", Buffer.from(String(numberOf))],
    ...rowsLookedFor.flatMap(traces),
  ];
  for (const path of [...filesBelow(data, /./), ...filesBelow(backups, /./)]) {
    const content = readFileSync(path);
    for (const [what, bytes] of wanted) {
      if (content.includes(bytes)) found.set(what, [...(found.get(what) ?? []), path.slice(folder.length)]);
    }
    for (const row of rowsLookedFor) {
      const what = `i8 ${row}`;
      if (hasCodes(content, vectorOf(row))) found.set(what, [...(found.get(what) ?? []), path.slice(folder.length)]);
    }
  }
  return found;
}

test("no file has a known value where there is a master key", { timeout: 60_000 }, async () => {
  const key = randomBytes(32).toString("base64");
  const found = await filled({ encryption: { key } }, "sealed");
  expect([...found]).toEqual([]);
});

test("without one, what is looked for is there to be found", { timeout: 60_000 }, async () => {
  const found = await filled({}, "open");
  const kinds = ["vector", "f16", "bf16", "i8"].flatMap((kind) => rowsLookedFor.map((row) => `${kind} ${row}`));
  expect([...found.keys()].sort()).toEqual([...words, "number", ...kinds].sort());
  const files = [...found.values()].flat();
  for (const kind of [
    /\/log\//,
    /\.ldb$/,
    /\/index-dense-\d+\/rows-/,
    /\/given-/,
    /\/index-text-\d+\//,
    /-backups\//,
  ]) {
    expect(
      files.some((path) => kind.test(path)),
      String(kind),
    ).toBe(true);
  }
});
