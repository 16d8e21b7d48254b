import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { analyzerDefaults, type Bm25Options } from "../../model/index.js";
import { readManifest, writeManifest } from "./checkpoint-files.js";
import { TextGeneration } from "./text-generation.js";

const options: Bm25Options = {
  k1: 1.2,
  fields: [{ path: "body", weight: 1, b: 0.75 }],
  analyzer: { ...analyzerDefaults, language: "turkish" },
};

test("a checkpoint whose terms another release has made otherwise is not read", async () => {
  const parent = await mkdtemp(join(tmpdir(), "kith-text-"));
  const directory = join(parent, "texts");
  const generation = new TextGeneration(options);
  await generation.add({ slots: Uint32Array.of(0), payloads: [{ body: "IŞIK" }] });
  await generation.save(directory, { storeId: "s", sequence: 1 });
  await generation.close();
  const loaded = await TextGeneration.load(directory, options);
  expect(loaded?.generation.dictionary.terms).toEqual(["ışık"]);
  await loaded?.generation.close();
  const manifest = await readManifest<{ format: 1; analysis?: number }>(directory, 1);
  delete manifest?.analysis;
  await writeManifest(directory, manifest as { format: 1 });
  expect(await TextGeneration.load(directory, options)).toBeUndefined();
  await rm(parent, { recursive: true });
});
