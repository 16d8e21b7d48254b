import { KithError } from "../../../libs/base/index.js";
import type { Id } from "../../../libs/client/index.js";
import { idFromName, idFromNum, idFromUuid, type IdKey, idMapKey, isUuid } from "../../../libs/model/index.js";
import { parseId } from "../values.js";

/** A query, and what people have said of the points that answer it. */
export interface JudgedQuery {
  /** Of the file, from 1. */
  line: number;
  text: string;
  vector: Float32Array | undefined;
  /** Grades above 0 by `idMapKey` of the point. */
  grades: ReadonlyMap<string, number>;
}

/** Judged queries of one file. Their lists are in memory as a whole: about 30 KB a query. */
const queriesMax = 10_000;
const keys = ["text", "vector", "relevant"];

/**
 * Judged queries from JSON lines: `{"text": "...", "vector": [...], "relevant": {"<id>": grade}}`. All have a vector, or none has.
 * What is wrong is told with its line, as INVALID_ARGUMENT.
 */
export function readJudged(text: string, name: string): JudgedQuery[] {
  const queries = text.split("\n").flatMap((row, i) => {
    if (row.trim() === "") return [];
    try {
      return [judgedQuery(JSON.parse(row), i + 1)];
    } catch (cause) {
      throw invalid(`line ${i + 1} of ${name}: ${(cause as Error).message}`, cause);
    }
  });
  const [first] = queries;
  if (first === undefined || queries.length < 2) {
    throw invalid(
      `${name} has ${first === undefined ? "no judged query" : "one judged query"}; give two at least: to find weights on, and to check them on`,
    );
  }
  if (queries.length > queriesMax) {
    throw invalid(`${name} has ${queries.length} judged queries; give ${queriesMax} at most`);
  }
  const other = queries.find(({ vector }) => (vector === undefined) !== (first.vector === undefined));
  if (other !== undefined) {
    const [has, lacks] = first.vector === undefined ? [other, first] : [first, other];
    throw invalid(
      `line ${has.line} of ${name} has a vector, line ${lacks.line} has none; give one to all queries or to none`,
    );
  }
  return queries;
}

/** How libs/model keeps an id of the command line or of the SDK. */
export function idKeyOf(id: Id): IdKey {
  if (typeof id !== "string") return idFromNum(id);
  return isUuid(id) ? idFromUuid(id) : idFromName(id);
}

function judgedQuery(value: unknown, line: number): JudgedQuery {
  if (!isObject(value)) throw new Error('it is no object such as {"text": "boundary layer", "relevant": {"12": 1}}');
  const unknown = Object.keys(value).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw new Error(`the key "${unknown}" is not known; there are ${keys.join(", ")}`);
  const { text, vector, relevant } = value;
  if (typeof text !== "string" || text.trim() === "") throw new Error('"text" must be the text of the query');
  return { line, text, vector: vectorOf(vector), grades: gradesOf(relevant) };
}

function vectorOf(value: unknown): Float32Array | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length === 0 || !value.every((each) => typeof each === "number")) {
    throw new Error('"vector" must be a list of numbers');
  }
  return Float32Array.from(value);
}

function gradesOf(value: unknown): Map<string, number> {
  if (!isObject(value)) throw new Error('"relevant" must be an object of grades by id, such as {"12": 1}');
  const grades = new Map<string, number>();
  for (const [id, grade] of Object.entries(value)) {
    if (typeof grade !== "number" || !Number.isFinite(grade) || grade < 0) {
      throw new Error(`the grade of ${id} is ${JSON.stringify(grade)}; it must be a number of 0 or more`);
    }
    const key = idMapKey(idKeyOf(parseId(id)));
    if (grade > 0) grades.set(key, grade);
  }
  if (grades.size === 0) throw new Error('"relevant" has no grade above 0, so that no list is better than another');
  return grades;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(message: string, cause?: unknown): KithError {
  return new KithError("INVALID_ARGUMENT", message, { cause });
}
