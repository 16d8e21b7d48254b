import type { IdKey } from "../../model/index.js";
import type { ipb } from "../../wire/index.js";
import { idsOf } from "./mutation.js";

type Mutation = NonNullable<ipb.Operation["mutation"]>;

/** The rows of an operation that are kept. */
interface Rows {
  count: number;
  kept: readonly number[];
}

/**
 * What an operation does to some of the points that it names by ids; undefined where it names none of these. One that is about a filter, or
 * about all points, is the same for any part of them.
 */
export function partOf(operation: ipb.Operation, owns: (id: IdKey) => boolean): ipb.Operation | undefined {
  const { mutation } = operation;
  if (mutation === undefined) return operation;
  const ids = idsOf(operation);
  if (ids.length === 0) return operation;
  const kept: number[] = [];
  ids.forEach((id, row) => {
    if (owns(id)) kept.push(row);
  });
  if (kept.length === 0) return undefined;
  if (kept.length === ids.length) return operation;
  return { ...operation, mutation: cut(mutation, { count: ids.length, kept }) };
}

function cut(mutation: Mutation, rows: Rows): Mutation {
  switch (mutation.$case) {
    case "upsert": {
      const { value } = mutation;
      const { ids, vectors, payloads } = value;
      const part = { ids: column(ids, rows), vectors: matrices(vectors, rows), payloads: column(payloads, rows) };
      return { $case: "upsert", value: { ...value, ...part } };
    }
    case "delete":
      return { $case: "delete", value: { ...mutation.value, ids: column(mutation.value.ids, rows) } };
    case "put": {
      const { value } = mutation;
      const { target, vectors, sparse, payloads, expiresAtMs } = value;
      const part = {
        target: targetOf(target, rows),
        vectors: matrices(vectors, rows),
        sparse: sparse.map((each) => ({ ...each, vectors: column(each.vectors, rows) })),
        payloads: column(payloads, rows),
        expiresAtMs: column(expiresAtMs, rows),
      };
      return { $case: "put", value: { ...value, ...part } };
    }
    case "updateVectors": {
      const { value } = mutation;
      const { target, vectors, sparse } = value;
      const part = {
        target: targetOf(target, rows),
        vectors: matrices(vectors, rows),
        sparse: sparse.map((each) => ({ ...each, vectors: column(each.vectors, rows) })),
      };
      return { $case: "updateVectors", value: { ...value, ...part } };
    }
    case "restricted": {
      const inner = mutation.value.mutation && cut(mutation.value.mutation, rows);
      // What is cut stays of its kind.
      return { $case: "restricted", value: { ...mutation.value, mutation: inner } } as Mutation;
    }
    case "changeSchema":
    case "truncate":
    case "seal":
    case "adopt":
      return mutation;
    default:
      return { ...mutation, value: { ...mutation.value, target: targetOf(mutation.value.target, rows) } } as Mutation;
  }
}

function targetOf(target: ipb.Target | undefined, rows: Rows): ipb.Target | undefined {
  return (
    target && { ...target, ids: column(target.ids, rows), expectedVersions: column(target.expectedVersions, rows) }
  );
}

/** A column that has a value for each row, or none at all. */
function column<T>(values: readonly T[], { count, kept }: Rows): T[] {
  return values.length === count ? kept.map((row) => values[row] as T) : [...values];
}

/** Of a field of matrices. */
function matricesOf(
  { name, matrix, rows }: ipb.UpsertPoints["vectors"][number],
  kept: readonly number[],
): ipb.UpsertPoints["vectors"][number] {
  const rowBytes = matrix.length / rows.reduce((sum, count) => sum + count, 0);
  const ends: number[] = [];
  for (const count of rows) ends.push((ends.at(-1) ?? 0) + count * rowBytes);
  const parts = kept.map((row) => matrix.subarray(ends[row - 1] ?? 0, ends[row]));
  return { name, matrix: Buffer.concat(parts), rows: kept.map((row) => rows[row] as number) };
}

/** What cannot be cut fits no schema, and is refused as it is. */
function matrices(columns: ipb.UpsertPoints["vectors"], { count, kept }: Rows): ipb.UpsertPoints["vectors"] {
  return columns.map((each) => {
    const { matrix } = each;
    if (each.rows.length === count) return matricesOf(each, kept);
    const rowBytes = matrix.length / count;
    if (!Number.isInteger(rowBytes)) return each;
    const part = new Uint8Array(kept.length * rowBytes);
    kept.forEach((row, i) => part.set(matrix.subarray(row * rowBytes, (row + 1) * rowBytes), i * rowBytes));
    return { ...each, matrix: part };
  });
}
