import { mkdirSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type FileSum, PostingsIndex, type PostingsOptions } from "../../ann/index.js";
import { crc32c, KithError } from "../../base/index.js";
import { type KeyRing, openSealed } from "../../encryption/index.js";
import type { Bm25Options } from "../../model/index.js";
import { analysisVersion, type Analyzer, analyzerOf, FieldTexts } from "../../text/index.js";
import { readManifest, writeManifest, writeSynced } from "./checkpoint-files.js";
import type { Checkpoint, CheckpointStamp, Generation, GenerationStats } from "./derived-index.js";
import type { PayloadRows } from "./payload-generation.js";
import { TermDictionary } from "./term-dictionary.js";

/** A checkpoint: the postings, the terms as a list of JSON, and the manifest, which names both and comes last. */
const ownFile = /^(?:postings|terms)-[0-9a-f-]+\.(?:bin|json)(?:\.tmp)?$/;

interface Manifest extends CheckpointStamp {
  format: 1;
  /** Nothing but the very same index reads it. */
  options: Bm25Options;
  /** `analysisVersion` of the terms; missing: 1. */
  analysis?: number;
  postings: { name: string } & FileSum;
  terms: { name: string } & FileSum;
}

/** One build of an index by BM25: postings of native code, and the terms that they are of. */
export class TextGeneration implements Generation<PayloadRows> {
  readonly analyzer: Analyzer;
  readonly postings: PostingsIndex;
  readonly dictionary: TermDictionary;
  readonly #options: Bm25Options;
  readonly #texts: FieldTexts;
  /** The save under way, or the last one; never rejects. */
  #saving: Promise<unknown> = Promise.resolve();
  #saves = 0;
  readonly #keys: KeyRing | undefined;

  constructor(
    options: Bm25Options,
    keys?: KeyRing,
    postings = PostingsIndex.create(postingsOptions(options)),
    dictionary = new TermDictionary(),
  ) {
    this.#options = options;
    this.#keys = keys;
    this.#texts = new FieldTexts(options);
    this.analyzer = analyzerOf(options.analyzer);
    this.postings = postings;
    this.dictionary = dictionary;
  }

  /** See IndexKind.load. */
  static async load(
    directory: string,
    options: Bm25Options,
    keys?: KeyRing,
  ): Promise<Checkpoint<TextGeneration> | undefined> {
    const manifest = await readManifest<Manifest>(directory, 1);
    if (manifest === undefined) return undefined;
    if (JSON.stringify(manifest.options) !== JSON.stringify(options)) {
      throw new KithError("CORRUPT_DATA", `it is of another index: ${JSON.stringify(manifest.options)}`);
    }
    if (manifest.analysis !== analysisVersion) return undefined;
    const { terms, postings, storeId, sequence } = manifest;
    const bytes = openSealed(keys, fileContext(terms.name), await readFile(join(directory, terms.name)));
    if (bytes.length !== terms.bytes || crc32c(bytes) !== terms.crc) {
      throw new KithError("CORRUPT_DATA", "its terms are damaged");
    }
    const dictionary = TermDictionary.of(JSON.parse(bytes.toString()) as string[]);
    const index = await PostingsIndex.load(postingsOptions(options), join(directory, postings.name), postings, keys);
    return { generation: new TextGeneration(options, keys, index, dictionary), stamp: { storeId, sequence } };
  }

  add({ slots, payloads }: PayloadRows): Promise<void> {
    const fieldCount = this.#options.fields.length;
    const offsets = new Uint32Array(slots.length + 1);
    const lengths = new Uint32Array(slots.length * fieldCount);
    const terms: number[] = [];
    const counts: number[] = [];
    const places = new Map<number, number>();
    for (const [row, payload] of payloads.entries()) {
      places.clear();
      for (const [f, texts] of this.#texts.of(payload).entries()) {
        for (const text of texts) {
          const tokens = this.analyzer.tokens(text);
          lengths[row * fieldCount + f] = (lengths[row * fieldCount + f] as number) + tokens.length;
          for (const token of tokens) {
            const term = this.dictionary.add(token);
            let place = places.get(term);
            if (place === undefined) {
              place = counts.length;
              places.set(term, place);
              terms.push(term);
              for (let i = 0; i < fieldCount; i++) counts.push(0);
            }
            counts[place + f] = (counts[place + f] as number) + 1;
          }
        }
      }
      offsets[row + 1] = terms.length;
    }
    return this.postings.add({
      slots,
      offsets,
      terms: Uint32Array.from(terms),
      counts: Uint32Array.from(counts),
      lengths,
    });
  }

  remove(slots: Uint32Array): void {
    this.postings.remove(slots);
  }

  stats(): GenerationStats {
    const { aliveCount, memoryBytes } = this.postings.stats();
    // Merges leave dead rows out by themselves.
    return {
      rowCount: aliveCount,
      aliveCount,
      unindexedCount: 0,
      memoryBytes: memoryBytes + this.dictionary.memoryBytes,
    };
  }

  flush(signal?: AbortSignal): Promise<void> {
    return this.postings.flush(signal);
  }

  save(directory: string, stamp: CheckpointStamp): Promise<void> {
    // The state of the call's moment; files of two saves come into their place in the order of the calls.
    const terms = Buffer.from(JSON.stringify(this.dictionary.terms));
    const name = `${stamp.sequence}-${++this.#saves}-${crc32c(terms).toString(16)}`;
    const postingsName = `postings-${name}.bin`;
    mkdirSync(directory, { recursive: true });
    const keys = this.#keys;
    const writing = this.postings.save(join(directory, postingsName), keys);
    const before = this.#saving;
    const saved = (async () => {
      const sum = await writing;
      const termsName = `terms-${name}.json`;
      await writeSynced(join(directory, termsName), keys?.seal(fileContext(termsName), terms) ?? terms);
      await before;
      const manifest: Manifest = {
        format: 1,
        ...stamp,
        options: this.#options,
        analysis: analysisVersion,
        postings: { name: postingsName, ...sum },
        terms: { name: termsName, bytes: terms.length, crc: crc32c(terms) },
      };
      await writeManifest(directory, manifest);
      for (const found of await readdir(directory)) {
        if (ownFile.test(found) && !found.includes(name)) await rm(join(directory, found), { force: true });
      }
    })();
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  async close(): Promise<void> {
    await this.#saving;
    await this.postings.close();
  }
}

function postingsOptions({ k1, fields }: Bm25Options): PostingsOptions {
  return { kind: "text", k1, fields };
}

function fileContext(name: string): string {
  return `index file ${name}`;
}
