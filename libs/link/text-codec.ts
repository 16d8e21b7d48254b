import type { ShardHits, ShardTermCounts, ShardTerms, ShardText, ShardTrial, ShardTrials } from "../shard-api/index.js";
import type { ByteReader, ByteWriter } from "./bytes.js";
import type { LinkCodec } from "./link-codec.js";
import { readHits, readScope, readSelect, writeHits, writeScope, writeSelect } from "./scoped-codec.js";

/*
 * How reads by BM25 cross: scope, selection and hits as in other reads of points, and what they say of terms as JSON. Nodes of one version of the
 * link wrote it.
 */

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** u32 length | JSON */
function writeJson(to: ByteWriter, value: unknown): void {
  const bytes = Buffer.from(JSON.stringify(value));
  to.u32(bytes.length);
  to.bytes(bytes);
}

function readJson<T>(from: ByteReader): T {
  return JSON.parse(utf8.decode(from.bytes(from.u32()))) as T;
}

export const termsCodec: LinkCodec<ShardTerms, ShardTermCounts> = {
  type: 10,
  writeRequest: (to, request) => writeJson(to, request),
  readRequest: (from) => readJson<ShardTerms>(from),
  writeAnswer: (to, answer) => writeJson(to, answer),
  readAnswer: (from) => readJson<ShardTermCounts>(from),
};

type Asked = Pick<ShardText, "index" | "generation" | "clauses" | "terms" | "phrases" | "averages" | "k">;

export const textCodec: LinkCodec<ShardText, ShardHits> = {
  type: 11,
  writeRequest: (to, request) => {
    const { index, generation, clauses, terms, phrases, averages, k } = request;
    writeScope(to, request);
    writeSelect(to, request.select);
    writeJson(to, { index, generation, clauses, terms, phrases, averages, k } satisfies Asked);
  },
  readRequest: (from) => ({ ...readScope(from), select: readSelect(from), ...readJson<Asked>(from) }),
  writeAnswer: writeHits,
  readAnswer: readHits,
};

export const trialCodec: LinkCodec<ShardTrial, ShardTrials> = {
  type: 14,
  writeRequest: (to, request) => writeJson(to, request),
  readRequest: (from) => readJson<ShardTrial>(from),
  writeAnswer: (to, answer) => writeJson(to, answer),
  readAnswer: (from) => readJson<ShardTrials>(from),
};
