import { KithError } from "../base/index.js";
import type { Bm25Options } from "./bm25.js";
import type { OtherGeneration } from "./generation.js";

/** Another build of an index by BM25, beside the one that answers. */
export interface OtherTextGeneration extends Pick<OtherGeneration, "number" | "state"> {
  bm25: Bm25Options;
}

/** What generations make of an index by BM25, whose `bm25` is that of the one that answers. */
export interface TextGenerations {
  /** The number of the build that answers; missing: 0, the first one. */
  generation?: number;
  /** The highest number that was ever given; missing: that of the one that answers. */
  generations?: number;
  otherText?: OtherTextGeneration;
  /** The other one does not answer by itself once it is built; only in the catalog. */
  isManual?: boolean;
}

interface BuiltIndex extends TextGenerations {
  path: string;
  bm25?: Bm25Options;
}

/** The index with another generation that is being built beside the one that answers. INVALID_SCHEMA, FAILED_PRECONDITION where there is one already. */
export function withTextBuilding<I extends BuiltIndex>(index: I, bm25: Bm25Options): I {
  const { path, generation = 0, generations = generation, otherText } = index;
  if (index.bm25 === undefined) {
    throw new KithError("INVALID_SCHEMA", `the index of "${path}" is none by BM25: drop it, and make it otherwise`, {
      details: { path },
    });
  }
  if (otherText?.state === "building") {
    throw new KithError(
      "FAILED_PRECONDITION",
      `generation ${otherText.number} of the index "${path}" is being built; wait until it answers, or drop it`,
      { details: { path, generation: otherText.number } },
    );
  }
  const number = generations + 1;
  return { ...index, generations: number, otherText: { number, bm25, state: "building" } };
}

/** The index when its other generation, which has this number, answers; the one that has answered is kept. FAILED_PRECONDITION where there is none. */
export function withTextSwitched<I extends BuiltIndex>(index: I, number: number): I {
  const other = otherTextOf(index, number);
  const { generation = 0, bm25 = other.bm25 } = index;
  const after: I = { ...index, generation: number, bm25: other.bm25 };
  delete after.isManual;
  return { ...after, otherText: { number: generation, bm25, state: "kept" } };
}

/** The index without its other generation, which has this number. FAILED_PRECONDITION where there is none. */
export function withoutOtherText<I extends BuiltIndex>(index: I, number: number): I {
  otherTextOf(index, number);
  const after: I = { ...index };
  delete after.otherText;
  delete after.isManual;
  return after;
}

/** The index as one that is made now, with the build that answers. */
export function withoutTextGenerations<I extends BuiltIndex>(index: I): I {
  const after: I = { ...index };
  for (const key of ["generation", "generations", "otherText", "isManual"] as const) delete after[key];
  return after;
}

function otherTextOf({ path, generation = 0, otherText }: BuiltIndex, number: number): OtherTextGeneration {
  if (otherText?.number === number) return otherText;
  const there = otherText === undefined ? "there is none" : `there is generation ${otherText.number}`;
  throw new KithError(
    "FAILED_PRECONDITION",
    `the index "${path}" has no generation ${number} beside generation ${generation}, which answers; ${there}`,
    { details: { path, generation: number } },
  );
}
