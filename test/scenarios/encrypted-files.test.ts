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
const rowCount = 600;
/** Words that stand in payloads alone: as a text, a keyword, a word of a text, a member's name and a place within arrays. */
const words = ["unmistakable", "keywordofthisone", "analysedwordhere", "membernamewritten", "deepdownvalue"];
const numberOf = 918_273_645_546_372;

/** Components that no other vector has. */
function vectorOf(id: number): number[] {
  return Array.from({ length: dimension }, (_, i) => Math.fround(Math.sin(id * 37.5 + i * 1.25) * 3));
}

/** What would tell of a vector: four components one after the other, as they were written. */
function traces(id: number): Buffer[] {
  return [0, 8, 20].map((at) => Buffer.from(Float32Array.from(vectorOf(id).slice(at, at + 4)).buffer));
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
    ...[7, 300, 599].flatMap((row) => traces(row).map((trace): [string, Buffer] => [`vector ${row}`, trace])),
  ];
  for (const path of [...filesBelow(data, /./), ...filesBelow(backups, /./)]) {
    const content = readFileSync(path);
    for (const [what, bytes] of wanted) {
      if (content.includes(bytes)) found.set(what, [...(found.get(what) ?? []), path.slice(folder.length)]);
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
  expect(found.has("vector 7")).toBe(true);
  expect(found.has("vector 300")).toBe(true);
  expect(found.size).toBeGreaterThan(3);
});
