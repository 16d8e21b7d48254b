import {
  type Datatype,
  datatypes as knownDatatypes,
  type Metric,
  type SchemaChange,
  type VectorField,
} from "../model/index.js";
import type { ChangeSchema } from "./gen/internal-pb.js";
import * as pb from "./gen/kith/v1/collections.js";
import { SparseVectorField } from "./gen/kith/v1/sparse.js";
import { payloadIndexTo } from "./payload-index.js";
import { sparseFieldTo } from "./sparse.js";

const metrics: Record<Metric, pb.Metric> = { cosine: pb.Metric.COSINE, dot: pb.Metric.DOT, l2: pb.Metric.L2 };
const datatypes: Record<Datatype, pb.Datatype> = {
  f32: pb.Datatype.F32,
  f16: pb.Datatype.F16,
  bf16: pb.Datatype.BF16,
  i8: pb.Datatype.I8,
  i4: pb.Datatype.I4,
  binary: pb.Datatype.BINARY,
  pq16: pb.Datatype.PQ16,
  pq32: pb.Datatype.PQ32,
  pq64: pb.Datatype.PQ64,
};

export function datatypeTo(datatype: Datatype): pb.Datatype {
  return datatypes[datatype];
}

/** Undefined for one that this release does not know, and for none. */
export function datatypeFrom(wire: pb.Datatype): Datatype | undefined {
  return knownDatatypes.find((datatype) => datatypes[datatype] === wire);
}

export function vectorFieldTo(field: VectorField): pb.VectorField {
  const { multivector, ...rest } = field;
  const dense = { ...rest, metric: metrics[field.metric], datatype: datatypes[field.datatype] };
  return multivector === undefined ? dense : { ...dense, multivector: pb.Multivector.MAX_SIM };
}

/** A change of the schema as the log has it. */
export function schemaChangeToWire(change: SchemaChange): ChangeSchema {
  const { version } = change;
  switch (change.kind) {
    case "addVector":
      return {
        version,
        change: {
          // A release that knows no matrices must stop at one.
          $case: change.field.multivector === undefined ? "addVector" : "addMultiVector",
          value: vectorFieldTo(change.field),
        },
      };
    case "addSparse": {
      const value = SparseVectorField.encode(sparseFieldTo(change.field)).finish();
      return { version, change: { $case: "addSparse", value } };
    }
    case "dropVector":
      return { version, change: { $case: "dropVector", value: change.name } };
    case "addPayloadIndex": {
      const value = pb.PayloadIndex.encode(payloadIndexTo(change.index)).finish();
      return { version, change: { $case: "addPayloadIndex", value } };
    }
    case "dropPayloadIndex":
      return { version, change: { $case: "dropPayloadIndex", value: change.path } };
    case "beginGeneration": {
      const { m, efConstruction, datatype, originals = false } = change.build;
      const value = { field: change.name, datatype: datatypes[datatype], m, efConstruction, originals };
      return { version, change: { $case: "beginGeneration", value } };
    }
    case "switchGeneration":
    case "dropGeneration":
      return { version, change: { $case: change.kind, value: { field: change.name, generation: change.generation } } };
    case "beginTextGeneration": {
      const { path, bm25 } = change;
      const index = payloadIndexTo({ path, kind: "bm25", isTenant: false, isPrincipal: false, bm25 });
      return { version, change: { $case: "beginTextGeneration", value: pb.PayloadIndex.encode(index).finish() } };
    }
    case "switchTextGeneration":
    case "dropTextGeneration":
      return { version, change: { $case: change.kind, value: { field: change.path, generation: change.generation } } };
  }
}
