import { KithError } from "../base/index.js";
import { type Datatype, keepsOriginals } from "./datatype.js";

/** How the index of a vector field is built: what one generation of it may have otherwise than another. */
export interface FieldBuild {
  datatype: Datatype;
  /** Links per node of the graph (HNSW M). */
  m: number;
  /** Beam width of the build. */
  efConstruction: number;
  /** Vectors are kept as they were written, in a file beside the index, and results are scored by these; see `keepsOriginals`. */
  originals?: boolean;
}

/** What is of the build, in a field or another generation. */
export function buildIn({ datatype, m, efConstruction, originals }: FieldBuild): FieldBuild {
  return { datatype, m, efConstruction, ...(originals === true && { originals }) };
}

/** Another build of a field's index, beside the one that answers. */
export interface OtherGeneration extends FieldBuild {
  number: number;
  /** "building": to answer one day; "kept": it has answered, and can again. */
  state: "building" | "kept";
}

/** What the coordinator must know of a generation that is being built, and the replicas need not. */
export interface GenerationPlan {
  /** Least recall@10 against an exact search; missing: that of the generation that answers, less `recallSlack`. */
  minRecall?: number;
  /** It answers when somebody says so, and not by itself. */
  isManual?: boolean;
  /** Why it does not answer though it is complete. */
  refusal?: GenerationRefusal;
}

/** The recall that was measured where it was too low. */
export interface GenerationRefusal {
  recall: number;
  wanted: number;
  /** Queries that it was measured with, of all shards. */
  samples: number;
}

/** So much less recall than the generation that answers has is as good, where no least one is named: about what 200 samples can tell. */
const recallSlack = 0.02;
/** Of the recall that generations are compared by. */
export const generationRecallK = 10;

interface BuiltField extends FieldBuild {
  name: string;
  multivector?: string | undefined;
  generation?: number;
  generations?: number;
  other?: OtherGeneration;
  plan?: GenerationPlan;
  choice?: unknown;
}

/** The number of the generation that answers. */
export function generationOf({ generation = 0 }: { generation?: number }): number {
  return generation;
}

/** The field with another generation that is being built beside the one that answers. FAILED_PRECONDITION where there is one already. */
export function withBuilding<F extends BuiltField>(field: F, build: FieldBuild): F {
  if (field.multivector !== undefined) {
    throw new KithError(
      "INVALID_SCHEMA",
      `${nameOf(field)} holds matrices, which are built in one way only: add another field, and write the matrices again`,
      { details: { field: field.name } },
    );
  }
  const { generations = generationOf(field), other } = field;
  if (other?.state === "building") {
    throw new KithError(
      "FAILED_PRECONDITION",
      `generation ${other.number} of ${nameOf(field)} is being built; wait until it answers, or drop it`,
      { details: { field: field.name, generation: other.number } },
    );
  }
  const number = generations + 1;
  return { ...field, generations: number, other: { number, ...buildIn(build), state: "building" } };
}

/** The field when its other generation, which has this number, answers; the one that has answered is kept. FAILED_PRECONDITION where there is none. */
export function withSwitched<F extends BuiltField>(field: F, number: number): F {
  const other = otherOf(field, number);
  const kept: OtherGeneration = { number: generationOf(field), ...buildIn(field), state: "kept" };
  const after: F = { ...field, generation: number, other: kept };
  delete after.plan;
  delete after.originals;
  Object.assign(after, buildIn(other));
  return after;
}

/** The field without its other generation, which has this number. FAILED_PRECONDITION where there is none. */
export function withoutOther<F extends BuiltField>(field: F, number: number): F {
  otherOf(field, number);
  const after: F = { ...field };
  delete after.other;
  delete after.plan;
  return after;
}

/** Whether a generation may answer. */
export type GenerationVerdict =
  | { kind: "building" }
  | ({ kind: "ready" | "refused" } & { refusal: GenerationRefusal; baseline: number });

/** What replicas that have a generation say of it, taken together: their measured recalls count by the number of queries. */
export function judgeGeneration(
  statuses: readonly GenerationSaid[],
  { minRecall }: Pick<GenerationPlan, "minRecall"> = {},
): GenerationVerdict {
  let samples = 0;
  let recall = 0;
  let baseline = 0;
  for (const { isReady, recall: measured } of statuses) {
    if (!isReady || measured === undefined) return { kind: "building" };
    samples += measured.samples;
    recall += measured.recall * measured.samples;
    baseline += measured.baseline * measured.samples;
  }
  // Where no replica has a point there was nothing to miss.
  recall = samples === 0 ? 1 : recall / samples;
  baseline = samples === 0 ? 1 : baseline / samples;
  const wanted = minRecall ?? baseline - recallSlack;
  return { kind: recall >= wanted ? "ready" : "refused", baseline, refusal: { recall, wanted, samples } };
}

/** The numbers of a refusal, and what can be done about it. */
export function textOfRefusal(
  { recall, wanted, samples }: Pick<GenerationRefusal, "recall" | "wanted" | "samples">,
  build: Pick<FieldBuild, "datatype" | "originals">,
): string {
  const numbers = `its recall@10 is ${recall.toFixed(4)}, measured with ${samples} queries; it must be ${wanted.toFixed(4)}`;
  const isByCodes = build.datatype !== "f32" && !keepsOriginals(build);
  const remedy = isByCodes
    ? `results of ${build.datatype} are in the order of its codes: build one with originals, which orders them by the vectors as they were written`
    : "build one with more links (m) or a wider beam (ef_construction)";
  return `${numbers}; ${remedy}, or promote it with force`;
}

interface GenerationSaid {
  isReady: boolean;
  recall?: { recall: number; baseline: number; samples: number };
}

/** The field as one that is made now, with the build that answers. */
export function withoutGenerations<F extends BuiltField>(field: F): F {
  const after: F = { ...field };
  for (const key of ["generation", "generations", "other", "plan", "choice"] as const) delete after[key];
  return after;
}

function otherOf(field: BuiltField, number: number): OtherGeneration {
  const { other } = field;
  if (other?.number === number) return other;
  const there = other === undefined ? "there is none" : `there is generation ${other.number}`;
  throw new KithError(
    "FAILED_PRECONDITION",
    `${nameOf(field)} has no generation ${number} beside generation ${generationOf(field)}, which answers; ${there}`,
    { details: { field: field.name, generation: number } },
  );
}

function nameOf({ name }: { name: string }): string {
  return name === "" ? "the vector field" : `the vector field "${name}"`;
}
