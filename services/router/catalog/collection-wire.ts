import { KithError, limits } from "../../../libs/base/index.js";
import type { Names } from "../../../libs/cluster/index.js";
import {
  checkAuto,
  type Collection,
  type FieldChoice,
  indexDefaults,
  type Metric,
  type PayloadIndex,
  payloadIndexKinds,
  type SparseField,
  strictLimits,
  strictRefusals,
  type StrictMode,
  type VectorField,
} from "../../../libs/model/index.js";
import {
  datatypeFrom,
  datatypeTo,
  payloadIndexFrom,
  payloadIndexTo,
  pb,
  sparseFieldFrom,
  sparseFieldTo,
  vectorFieldTo,
} from "../../../libs/wire/index.js";

const metricOf: Record<number, Metric | undefined> = {
  [pb.Metric.COSINE]: "cosine",
  [pb.Metric.DOT]: "dot",
  [pb.Metric.L2]: "l2",
};
const stateNumber: Record<Collection["state"], pb.CollectionState> = {
  creating: pb.CollectionState.CREATING,
  ready: pb.CollectionState.READY,
  deleting: pb.CollectionState.DELETING,
};

/** INVALID_SCHEMA for a metric or a datatype that there is not, and for a datatype beside one that is to be picked. */
export function fieldFrom(field: pb.VectorField): VectorField {
  const metric = metricOf[field.metric];
  if (metric === undefined) {
    throw new KithError("INVALID_SCHEMA", `the vector field "${field.name}" has no metric; choose COSINE, DOT or L2`, {
      details: { field: field.name, metric: field.metric },
    });
  }
  const datatype = field.datatype === pb.Datatype.UNSPECIFIED ? "f32" : datatypeFrom(field.datatype);
  if (datatype === undefined) {
    throw new KithError(
      "INVALID_SCHEMA",
      `the vector field "${field.name}" has the unknown datatype ${field.datatype}`,
      {
        details: { field: field.name, datatype: field.datatype },
      },
    );
  }
  const { multivector = pb.Multivector.UNSPECIFIED } = field;
  if (multivector !== pb.Multivector.UNSPECIFIED && multivector !== pb.Multivector.MAX_SIM) {
    throw new KithError(
      "INVALID_SCHEMA",
      `the vector field "${field.name}" compares matrices in the unknown way ${multivector}; choose MAX_SIM`,
      { details: { field: field.name, multivector } },
    );
  }
  const known: VectorField = {
    ...(multivector === pb.Multivector.MAX_SIM && { multivector: "maxSim" }),
    name: field.name,
    dimension: field.dimension,
    metric,
    datatype,
    m: field.m === 0 ? indexDefaults.m : field.m,
    efConstruction: field.efConstruction === 0 ? indexDefaults.efConstruction : field.efConstruction,
    efSearch: field.efSearch === 0 ? indexDefaults.efSearch : field.efSearch,
    ...(field.originals === true && { originals: true }),
    ...(field.autoRecall !== undefined && { autoRecall: field.autoRecall }),
  };
  checkAuto(known);
  return known;
}

/** INVALID_SCHEMA for a modifier that there is not. */
export function sparseFrom(field: pb.SparseVectorField): SparseField {
  const known = sparseFieldFrom(field);
  if (known !== undefined) return known;
  throw new KithError("INVALID_SCHEMA", `the sparse field "${field.name}" has the unknown modifier ${field.modifier}`, {
    details: { field: field.name, modifier: field.modifier },
  });
}

/** `record` with its present name. */
export function collectionTo(record: Collection, names: Names): pb.Collection {
  return {
    id: record.id,
    name: record.name,
    vectors: record.fields.map(vectorFieldTo),
    sparseVectors: (record.sparseFields ?? []).map(sparseFieldTo),
    shardCount: record.shards.filter(({ state }) => state === "active").length,
    replicationFactor: record.replicationFactor,
    epoch: record.epoch,
    createdAt: new Date(record.createdAtMs),
    labels: record.labels,
    state:
      record.restoring !== undefined && record.state === "ready"
        ? pb.CollectionState.CREATING
        : stateNumber[record.state],
    payloadIndexes: record.payloadIndexes.map(payloadIndexTo),
    schemaVersion: record.schemaVersion,
    strictMode: record.strictMode && strictTo(record.strictMode),
    recallTarget: record.recallTarget,
    choices: record.fields.flatMap(({ name, choice }) => (choice === undefined ? [] : [choiceTo(name, choice)])),
    ...(record.partitionKey !== undefined && { partitionKey: record.partitionKey }),
    aliases: names.aliasesOf(record.id),
  };
}

function choiceTo(field: string, { target, datatype, reason, rows, trials, atMs }: FieldChoice): pb.VectorChoice {
  return {
    ...{ field, recall: target, datatype: datatypeTo(datatype), reason, rowCount: rows, chosenAt: new Date(atMs) },
    trials: trials.map(({ datatype: tried, canHold, ...trial }) => {
      return { ...trial, datatype: datatypeTo(tried), reaches: canHold };
    }),
  };
}

/** The limits that are set; undefined for none. */
export function strictFrom(wire: pb.StrictMode | undefined): StrictMode | undefined {
  if (wire === undefined) return undefined;
  const strict: StrictMode = {};
  for (const limit of strictLimits) if (wire[limit] !== 0) strict[limit] = wire[limit];
  for (const refusal of strictRefusals) if (wire[refusal]) strict[refusal] = true;
  return Object.keys(strict).length === 0 ? undefined : strict;
}

function strictTo(strict: StrictMode): pb.StrictMode {
  return pb.StrictMode.fromPartial(strict);
}

/** INVALID_SCHEMA for a kind or a tokenizer that there is not. */
export function indexFrom(message: pb.PayloadIndex | undefined): PayloadIndex {
  const index = message && payloadIndexFrom(message);
  if (index !== undefined) return index;
  const path = (message?.path ?? "").slice(0, limits.pathLength);
  throw new KithError(
    "INVALID_SCHEMA",
    `the payload index of ${JSON.stringify(path)} has no kind, or a kind or tokenizer that is not known; the kinds are ${payloadIndexKinds.join(", ")}`,
    { details: { path, kind: message?.kind ?? 0 } },
  );
}
