import { KithError } from "../base/index.js";
import type { FieldChoice } from "./choice.js";
import { checkRecallTarget, type Collection, type VectorField } from "./collection.js";
import { type Datatype, keepsOriginals } from "./datatype.js";
import { buildIn, type FieldBuild } from "./generation.js";

/** Vectors of a field, in all shards together, from which on the datatype of one with `autoRecall` is picked. */
export const autoRowsMin = 10_000;

/** LIMIT_OUT_OF_RANGE, INVALID_SCHEMA: whether the datatype of a new field can be picked by the data. */
export function checkAuto({ name, datatype, originals, multivector, autoRecall }: VectorField): void {
  if (autoRecall === undefined) return;
  const of = name === "" ? "" : ` of "${name}"`;
  checkRecallTarget(autoRecall, `auto_recall${of}`);
  if (datatype === "f32" && originals !== true && multivector === undefined) return;
  const beside = multivector !== undefined ? "matrices" : datatype === "f32" ? "originals" : `the datatype ${datatype}`;
  throw new KithError(
    "INVALID_SCHEMA",
    `auto_recall${of} picks the datatype by the data, and ${beside} cannot stand beside it; give one of them`,
    { details: { field: name, datatype } },
  );
}

/** How a field is built in the datatype that was picked: in coarse ones with the vectors as they were written, by which they were tried. */
export function buildFor({ m, efConstruction }: FieldBuild, datatype: Datatype): FieldBuild {
  return buildIn({
    datatype,
    m,
    efConstruction,
    originals: keepsOriginals({ datatype, originals: datatype === "i8" }),
  });
}

/** The collection with what was picked for a field, of which nothing is to be picked from then on. A recall that `isHeld` becomes its target, unless it has one. */
export function withChoice(collection: Collection, name: string, choice: FieldChoice, isHeld: boolean): Collection {
  const fields = collection.fields.map((each) => {
    if (each.name !== name) return each;
    const field: VectorField = { ...each, choice };
    delete field.autoRecall;
    return field;
  });
  const recallTarget = collection.recallTarget ?? (isHeld ? choice.target : undefined);
  return { ...collection, fields, ...(recallTarget !== undefined && { recallTarget }) };
}
