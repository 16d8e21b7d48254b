import { KithError } from "../../base/index.js";
import {
  checkBm25,
  checkNewPayloadIndex,
  checkSparseField,
  checkVectorField,
  type FieldBuild,
  type Metric,
  type PayloadIndex,
  payloadIndexOf,
  type SparseField,
  type VectorField,
  withBuilding,
  withoutOther,
  withoutOtherText,
  withSwitched,
  withTextBuilding,
  withTextSwitched,
} from "../../model/index.js";
import { fieldNumberMax } from "../../storage/index.js";
import { datatypeFrom, type ipb, payloadIndexFrom, pb, sparseFieldFrom } from "../../wire/index.js";
import { type Schema, type SchemaField, type SchemaPayloadIndex, vectorFieldsOf } from "../recover/schema.js";

const metrics: Record<number, Metric | undefined> = {
  [pb.Metric.COSINE]: "cosine",
  [pb.Metric.DOT]: "dot",
  [pb.Metric.L2]: "l2",
};

/** Whether this release can take the step: skipped, it would make replicas of different releases differ. */
export function isKnownChange({ change }: ipb.ChangeSchema): boolean {
  switch (change?.$case) {
    case "dropVector":
    case "dropPayloadIndex":
    case "switchGeneration":
    case "dropGeneration":
    case "switchTextGeneration":
    case "dropTextGeneration":
      return true;
    case "beginTextGeneration":
      return payloadIndexFromWire(change.value)?.bm25 !== undefined;
    case "addPayloadIndex":
      return payloadIndexFromWire(change.value) !== undefined;
    case "beginGeneration":
      return buildFromWire(change.value) !== undefined;
    case "addSparse":
      return sparseFromWire(change.value) !== undefined;
    case "addVector":
    case "addMultiVector":
      return fieldFromWire(change.value) !== undefined;
    case undefined:
      return false;
  }
}

/** Undefined where it has a datatype that this release does not know. */
function buildFromWire({ datatype, m, efConstruction, originals }: ipb.BeginGeneration): FieldBuild | undefined {
  const known = datatypeFrom(datatype);
  return known && { datatype: known, m, efConstruction, originals };
}

/** Undefined where the field has a metric, a datatype or a comparison of matrices that this release does not know. */
function fieldFromWire({
  metric,
  datatype,
  multivector = pb.Multivector.UNSPECIFIED,
  ...field
}: pb.VectorField): VectorField | undefined {
  const known = { metric: metrics[metric], datatype: datatypeFrom(datatype) };
  if (known.metric === undefined || known.datatype === undefined) return undefined;
  const dense: VectorField = { ...field, metric: known.metric, datatype: known.datatype };
  // Of the catalog alone.
  delete dense.autoRecall;
  if (multivector === pb.Multivector.UNSPECIFIED) return dense;
  return multivector === pb.Multivector.MAX_SIM ? { ...dense, multivector: "maxSim" } : undefined;
}

type Addition = Extract<NonNullable<ipb.ChangeSchema["change"]>, { $case: "addVector" | "addMultiVector" }>;

function isAddition(change: ipb.ChangeSchema["change"]): change is Addition {
  return change?.$case === "addVector" || change?.$case === "addMultiVector";
}

/** Undefined where the index is of a kind, or has an option, that this release does not know. */
function payloadIndexFromWire(bytes: Uint8Array): PayloadIndex | undefined {
  let message: pb.PayloadIndex;
  try {
    message = pb.PayloadIndex.decode(bytes);
  } catch {
    return undefined;
  }
  // A field of a newer release would be lost here unnoticed.
  const isWhole = Buffer.compare(pb.PayloadIndex.encode(message).finish(), bytes) === 0;
  return isWhole ? payloadIndexFrom(message) : undefined;
}

/** Undefined where the field has something that this release does not know. */
function sparseFromWire(bytes: Uint8Array): SparseField | undefined {
  let message: pb.SparseVectorField;
  try {
    message = pb.SparseVectorField.decode(bytes);
  } catch {
    return undefined;
  }
  const isWhole = Buffer.compare(pb.SparseVectorField.encode(message).finish(), bytes) === 0;
  return isWhole ? sparseFieldFrom(message) : undefined;
}

/**
 * The schema after one step. Throws KithError where the step does not fit: it is then refused as a whole, with the same error
 * on every replica. What points hold of a dropped field is not looked at; see docs/format.md.
 */
export function changedSchema(schema: Schema, { version, change }: ipb.ChangeSchema): Schema {
  if (version !== schema.version + 1) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `the change leads to version ${version} of the schema, which has version ${schema.version}: decide by the schema as it is`,
      { details: { version, schemaVersion: schema.version } },
    );
  }
  if (isAddition(change)) return added(schema, version, change.value);
  if (change?.$case === "addSparse") return sparseAdded(schema, version, change.value);
  if (change?.$case === "dropVector") return dropped(schema, version, change.value);
  if (change?.$case === "addPayloadIndex") return indexAdded(schema, version, change.value);
  if (change?.$case === "dropPayloadIndex") {
    const dropped = payloadIndexOf(schema.payloadIndexes, change.value);
    return { ...schema, version, payloadIndexes: schema.payloadIndexes.filter((each) => each !== dropped) };
  }
  if (change?.$case === "beginGeneration") {
    const build = buildFromWire(change.value);
    if (build === undefined) throw new KithError("INTERNAL", "a generation of an unknown datatype was let through");
    return changedField(schema, version, change.value.field, (field) => {
      checkVectorField({ ...field, ...build });
      return withBuilding(field, build);
    });
  }
  if (change?.$case === "switchGeneration") {
    const { field: name, generation } = change.value;
    return changedField(schema, version, name, (field) => withSwitched(field, generation));
  }
  if (change?.$case === "dropGeneration") {
    const { field: name, generation } = change.value;
    return changedField(schema, version, name, (field) => withoutOther(field, generation));
  }
  if (change?.$case === "beginTextGeneration") {
    const { path, bm25 } = payloadIndexFromWire(change.value) ?? {};
    if (path === undefined || bm25 === undefined) {
      throw new KithError("INTERNAL", "a generation of an unknown kind of text index was let through");
    }
    checkBm25(bm25, path);
    return changedIndex(schema, version, path, (index) => withTextBuilding(index, bm25));
  }
  if (change?.$case === "switchTextGeneration") {
    const { field: path, generation } = change.value;
    return changedIndex(schema, version, path, (index) => withTextSwitched(index, generation));
  }
  if (change?.$case === "dropTextGeneration") {
    const { field: path, generation } = change.value;
    return changedIndex(schema, version, path, (index) => withoutOtherText(index, generation));
  }
  throw new KithError("INTERNAL", "a change of the schema of an unknown kind was let through");
}

function changedIndex(
  schema: Schema,
  version: number,
  path: string,
  change: (index: SchemaPayloadIndex) => SchemaPayloadIndex,
): Schema {
  const after = change(payloadIndexOf(schema.payloadIndexes, path));
  return {
    ...schema,
    version,
    payloadIndexes: schema.payloadIndexes.map((each) => (each.path === path ? after : each)),
  };
}

function changedField(
  schema: Schema,
  version: number,
  name: string,
  change: (field: SchemaField) => SchemaField,
): Schema {
  if (!schema.fields.some((field) => field.name === name)) throw unknownField(name);
  return { ...schema, version, fields: schema.fields.map((field) => (field.name === name ? change(field) : field)) };
}

function unknownField(name: string): KithError {
  return new KithError("UNKNOWN_VECTOR", `there is no vector field "${name}"`, { details: { field: name } });
}

function indexAdded(schema: Schema, version: number, wire: Uint8Array): Schema {
  const index = payloadIndexFromWire(wire);
  if (index === undefined) throw new KithError("INTERNAL", "a payload index of an unknown kind was let through");
  const { payloadIndexes, nextIndex: number } = schema;
  checkNewPayloadIndex(payloadIndexes, index);
  return { ...schema, version, payloadIndexes: [...payloadIndexes, { ...index, number }], nextIndex: number + 1 };
}

function added(schema: Schema, version: number, wire: pb.VectorField): Schema {
  const field = fieldFromWire(wire);
  if (field === undefined) throw new KithError("INTERNAL", "a vector field of an unknown kind was let through");
  checkVectorField(field);
  const number = newNumber(schema, field.name);
  return { ...schema, version, fields: [...schema.fields, { ...field, number }], nextField: number + 1 };
}

function sparseAdded(schema: Schema, version: number, wire: Uint8Array): Schema {
  const field = sparseFromWire(wire);
  if (field === undefined) throw new KithError("INTERNAL", "a sparse field of an unknown kind was let through");
  checkSparseField(field);
  const number = newNumber(schema, field.name);
  return { ...schema, version, sparse: [...schema.sparse, { ...field, number }], nextField: number + 1 };
}

/** INVALID_SCHEMA where a field of whatever kind has the name, or there are no numbers left. */
function newNumber(schema: Schema, name: string): number {
  if (vectorFieldsOf(schema).some((each) => each.name === name)) {
    throw new KithError("INVALID_SCHEMA", `there is a vector field "${name}" already`, { details: { field: name } });
  }
  const number = schema.nextField;
  if (number > fieldNumberMax) {
    throw new KithError(
      "INVALID_SCHEMA",
      `all ${fieldNumberMax + 1} numbers of fields are used up, those of dropped fields too: make a new collection`,
      { details: { field: name } },
    );
  }
  return number;
}

function dropped(schema: Schema, version: number, name: string): Schema {
  const fields = schema.fields.filter((field) => field.name !== name);
  const sparse = schema.sparse.filter((field) => field.name !== name);
  const left = fields.length + sparse.length;
  if (left === schema.fields.length + schema.sparse.length) throw unknownField(name);
  if (left === 0) {
    throw new KithError("INVALID_SCHEMA", `"${name}" is the only vector field; a collection needs at least one`, {
      details: { field: name },
    });
  }
  return { ...schema, version, fields, sparse };
}
