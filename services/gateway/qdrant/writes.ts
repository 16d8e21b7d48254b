import { type ErrorCode, KithError, limits } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, printJson } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, type Operation, optionsOf, tell, updated } from "./api.js";
import { filterOf } from "./filter.js";
import { idOf, idsOf } from "./ids.js";
import { targetOf } from "./reads.js";
import { partitionsOf, shardKeyField, type ShardKeys, shardKeysIn } from "./shard-keys.js";
import {
  below,
  eachOf,
  InvalidValue,
  listOf,
  member,
  objectOf,
  optional,
  type Reply,
  required,
  textOf,
  wordOf,
  wrong,
} from "./values.js";
import { isVectorObject, storedVectorOf, type VectorMap, vectorsOf } from "./vectors.js";

type Work = NonNullable<pb.WriteOperation["operation"]>;

interface Step {
  readonly work: Work;
  /** Points that are named by id must exist. */
  readonly isStrict: boolean;
}

/** What one operation becomes: writes that are made in order. */
type Translate = (object: JsonObject, at: string, keys: ShardKeys) => Step[];

function payloadOf(object: JsonObject): Buffer {
  return Object.keys(object).length === 0 ? Buffer.alloc(0) : Buffer.from(printJson(object));
}

/** Puts into a payload what belongs there besides what was given. */
type Keyed = (payload: JsonObject) => JsonObject;

function pointOf(value: JsonValue | undefined, at: string, keyed: Keyed): pb.Point {
  const object = objectOf(value, at);
  return {
    id: required(object, "id", at, idOf),
    vectors: vectorsOf(member(object, "vector") ?? member(object, "vectors"), below(at, "vector")),
    payload: payloadOf(keyed(optional(object, "payload", at, objectOf) ?? {})),
    version: 0,
    expiresAtMs: 0,
  };
}

/** Points in columns: ids, vectors and payloads at the same places. */
function columnsOf(value: JsonValue | undefined, at: string, keyed: Keyed): pb.Point[] {
  const object = objectOf(value, at);
  const ids = required(object, "ids", at, idsOf);
  const payloads = optional(object, "payloads", at, listOf);
  const vectors = columnVectors(member(object, "vectors"), below(at, "vectors"), ids.length);
  if (payloads !== undefined && payloads.length !== ids.length) {
    throw new InvalidValue(below(at, "payloads"), `there are ${payloads.length} payloads for ${ids.length} ids`);
  }
  return ids.map((id, i) => ({
    id,
    vectors: vectors[i] as VectorMap,
    payload: payloadOf(keyed(objectOf(payloads?.[i] ?? {}, `${at}.payloads[${i}]`))),
    version: 0,
    expiresAtMs: 0,
  }));
}

function columnVectors(value: JsonValue | undefined, at: string, count: number): VectorMap[] {
  const points = Array.from({ length: count }, () => Object.create(null) as VectorMap);
  const fill = (name: string, column: JsonValue, where: string): void => {
    const list = listOf(column, where);
    if (list.length !== count) throw new InvalidValue(where, `there are ${list.length} vectors for ${count} ids`);
    list.forEach((vector, i) => {
      const stored = vector === null ? undefined : storedVectorOf(vector, `${where}[${i}]`);
      if (stored !== undefined) (points[i] as VectorMap)[name] = stored;
    });
  };
  if (value === undefined) return points;
  if (isJsonObject(value) && !isVectorObject(value)) {
    for (const [name, column] of Object.entries(value)) fill(name, column, `${at}.${name}`);
  } else fill("", value, at);
  return points;
}

/** Several writes where there are more points than one takes, and none where there are no points. */
function parts<T>(items: readonly T[]): T[][] {
  const found: T[][] = [];
  for (let at = 0; at < items.length; at += limits.batchPoints) found.push(items.slice(at, at + limits.batchPoints));
  return found;
}

const modes = {
  upsert: pb.UpsertMode.UNSPECIFIED,
  insert_only: pb.UpsertMode.INSERT_ONLY,
  update_only: pb.UpsertMode.UPDATE_ONLY,
} as const;

/** Partitions to write into: those that are named, else all that may have a point of an id; undefined where there are none. */
function intoOf(
  object: JsonObject,
  at: string,
  keys: ShardKeys,
): { isNamed: boolean; partitions: (string | undefined)[] } {
  const named = partitionsOf(object, at, keys);
  const partitions = named ?? (keys.isHidden ? [...keys.known.keys()] : [undefined]);
  return { isNamed: named !== undefined, partitions };
}

/** The payload with the shard key of its partition, where that is where it is. */
function withKey(object: JsonObject, partition: string | undefined, keys: ShardKeys): JsonObject {
  const key = keys.isHidden && partition !== undefined ? keys.known.get(partition) : undefined;
  return key === undefined ? object : { ...object, [shardKeyField]: key };
}

/** Of points with the same id the last one is written. */
function latest(points: readonly pb.Point[]): pb.Point[] {
  const byId = new Map(points.map((point) => [`${point.id?.id?.$case} ${point.id?.id?.value}`, point]));
  return byId.size === points.length ? [...points] : [...byId.values()];
}

const upsertWork: Translate = (object, at, keys) => {
  const batch = member(object, "batch");
  const { isNamed, partitions } = intoOf(object, at, keys);
  if (keys.isHidden && !isNamed)
    throw wrong(below(at, "shard_key"), "Shard key not specified: say which one points go to");
  const mode = modes[optional(object, "update_mode", at, wordOf(["upsert", "insert_only", "update_only"])) ?? "upsert"];
  const onlyIf = filterOf(member(object, "update_filter"), below(at, "update_filter"));
  return partitions.flatMap((partition) => {
    const keyed = (payload: JsonObject): JsonObject => withKey(payload, partition, keys);
    const points =
      batch === undefined
        ? eachOf(required(object, "points", at, listOf), below(at, "points"), (each, place) =>
            pointOf(each, place, keyed),
          )
        : columnsOf(batch, below(at, "batch"), keyed);
    return parts(latest(points)).flatMap((some) => upsertSteps(some, mode, onlyIf));
  });
};

function upsertSteps(points: pb.Point[], mode: pb.UpsertMode, onlyIf: pb.Filter | undefined): Step[] {
  const step = (upsertMode: pb.UpsertMode, condition: pb.Filter | undefined): Step => ({
    work: {
      $case: "upsert",
      value: { ...pb.UpsertRequest.create({ mode: upsertMode, payloadOnly: true }), points, onlyIf: condition },
    },
    isStrict: false,
  });
  if (onlyIf === undefined || mode === pb.UpsertMode.INSERT_ONLY) return [step(mode, undefined)];
  const update = step(pb.UpsertMode.UPDATE_ONLY, onlyIf);
  // The filter is about points that exist; new ones are written whatever it says.
  return mode === pb.UpsertMode.UPDATE_ONLY ? [update] : [update, step(pb.UpsertMode.INSERT_ONLY, undefined)];
}

interface Aim extends pb.WriteTarget {
  /** Whether points that are named by id must exist. */
  isStrict: boolean;
}

/**
 * What a write is about: of ids, as many as one write takes, in each partition. `perKey`: a filter without a shard key is asked in each partition, too,
 * because what is written differs.
 */
function aimsOf(object: JsonObject, at: string, keys: ShardKeys, perKey = false): Aim[] {
  const target = targetOf(object, at);
  const { isNamed, partitions } = intoOf(object, at, keys);
  const base = { expectedVersions: [], onlyIf: undefined, isStrict: isNamed || !keys.isHidden };
  if ("filter" in target) {
    const points = { $case: "filter", value: target.filter } as const;
    const scopes = isNamed || perKey ? partitions : [undefined];
    return scopes.map((partition) => ({ ...base, points, partition }));
  }
  return partitions.flatMap((partition) =>
    parts(target.ids).map((ids): Aim => ({ ...base, points: { $case: "ids", value: { ids } }, partition })),
  );
}

const emptyObject = Buffer.from("{}");

function writtenPayload(object: JsonObject): Buffer {
  const payload = payloadOf(object);
  return payload.length > 0 ? payload : emptyObject;
}

const deleteWork: Translate = (object, at, keys) =>
  aimsOf(object, at, keys).map(({ points, partition }) => ({
    work: {
      $case: "delete",
      value: {
        ...pb.DeletePointsRequest.create({ partition }),
        ids: points?.$case === "ids" ? points.value.ids : [],
        filter: points?.$case === "filter" ? points.value : undefined,
      },
    },
    isStrict: false,
  }));

const setPayloadWork: Translate = (object, at, keys) => {
  const payload = writtenPayload(required(object, "payload", at, objectOf));
  const path = optional(object, "key", at, textOf);
  if (path === "") throw wrong(below(at, "key"), "the path is empty; leave it out for the whole payload");
  return aimsOf(object, at, keys).map(({ isStrict, ...target }) => ({
    work: { $case: "setPayload", value: { ...pb.SetPayloadRequest.create({ path: path ?? "" }), target, payload } },
    isStrict,
  }));
};

const overwritePayloadWork: Translate = (object, at, keys) => {
  const given = required(object, "payload", at, objectOf);
  if (optional(object, "key", at, textOf) !== undefined) return setPayloadWork(object, at, keys);
  return aimsOf(object, at, keys, keys.isHidden).map(({ isStrict, ...target }) => {
    const payload = writtenPayload(withKey(given, target.partition, keys));
    const value = { ...pb.OverwritePayloadRequest.create({}), target, payload };
    return { work: { $case: "overwritePayload", value }, isStrict };
  });
};

const deletePayloadWork: Translate = (object, at, keys) => {
  const paths = eachOf(required(object, "keys", at, listOf), below(at, "keys"), textOf);
  return aimsOf(object, at, keys).map(({ isStrict, ...target }) => ({
    work: { $case: "deletePayload", value: { ...pb.DeletePayloadRequest.create({ paths }), target } },
    isStrict,
  }));
};

const clearPayloadWork: Translate = (object, at, keys) => {
  // What is left is the shard key.
  if (keys.isHidden) {
    return overwritePayloadWork({ ...object, payload: {} }, at, keys).map((step) => ({ ...step, isStrict: false }));
  }
  return aimsOf(object, at, keys).map(({ isStrict: _, ...target }) => ({
    work: { $case: "clearPayload", value: { ...pb.ClearPayloadRequest.create({}), target } },
    isStrict: false,
  }));
};

const updateVectorsWork: Translate = (object, at, keys) => {
  const onlyIf = filterOf(member(object, "update_filter"), below(at, "update_filter"));
  const points = eachOf(
    required(object, "points", at, listOf),
    below(at, "points"),
    (value, place): pb.PointVectors => {
      const point = objectOf(value, place);
      return {
        id: required(point, "id", place, idOf),
        vectors: vectorsOf(member(point, "vector") ?? member(point, "vectors"), below(place, "vector")),
      };
    },
  );
  const { isNamed, partitions } = intoOf(object, at, keys);
  return partitions.flatMap((partition) =>
    parts(points).map((some): Step => {
      const value = { ...pb.UpdateVectorsRequest.create({ partition }), points: some, onlyIf };
      return { work: { $case: "updateVectors", value }, isStrict: isNamed || !keys.isHidden };
    }),
  );
};

const deleteVectorsWork: Translate = (object, at, keys) => {
  const vectors = eachOf(required(object, "vector", at, listOf), below(at, "vector"), textOf);
  return aimsOf(object, at, keys).map(({ isStrict: _, ...target }) => ({
    work: { $case: "deleteVectors", value: { ...pb.DeleteVectorsRequest.create({ vectors }), target } },
    isStrict: false,
  }));
};

interface Done {
  token: pb.Token | undefined;
}

/** Makes the writes of one operation, one after the other. */
async function make(ask: Ask, steps: readonly Step[]): Promise<Done> {
  // Whether there is such a collection is told all the same.
  if (steps.length === 0) await describe(ask);
  let token: pb.Token | undefined;
  for (const { work, isStrict } of steps) {
    const done = await makeOne(ask, work);
    const refused = isStrict ? done.errors.find(({ code }) => code === "POINT_NOT_FOUND") : undefined;
    if (refused !== undefined) throw new KithError(refused.code as ErrorCode, refused.message);
    token = done.token;
  }
  return { token };
}

type Made = Done & { errors: pb.ItemError[] };

function makeOne(ask: Ask, work: Work): Promise<Made> {
  const scope = { collection: collectionOf(ask), options: optionsOf(ask) };
  const points = pb.PointsService;
  switch (work.$case) {
    case "upsert":
      return tell(ask, points.upsert, { ...work.value, ...scope });
    case "delete":
      return tell(ask, points.delete, { ...work.value, ...scope });
    case "setPayload":
      return tell(ask, points.setPayload, { ...work.value, ...scope });
    case "overwritePayload":
      return tell(ask, points.overwritePayload, { ...work.value, ...scope });
    case "deletePayload":
      return tell(ask, points.deletePayload, { ...work.value, ...scope });
    case "clearPayload":
      return tell(ask, points.clearPayload, { ...work.value, ...scope });
    case "updateVectors":
      return tell(ask, points.updateVectors, { ...work.value, ...scope });
    case "deleteVectors":
      return tell(ask, points.deleteVectors, { ...work.value, ...scope });
    case "setExpiry":
      return tell(ask, points.setExpiry, { ...work.value, ...scope });
  }
}

/** Rates are of calls here, and of points there: a call with more points than a minute lets through is refused by both. */
function checkRate({ strictMode }: pb.Collection, steps: readonly Step[]): void {
  const most = 60 * (strictMode?.maxWritesPerSecond ?? 0);
  if (most === 0) return;
  const points = steps.reduce((sum, { work }) => sum + (work.$case === "upsert" ? work.value.points.length : 0), 0);
  if (points <= most) return;
  throw new KithError(
    "RESOURCE_EXHAUSTED",
    `Write rate limit exceeded: ${points} points in one request, and ${most} a minute are allowed; send fewer at a time`,
    { details: { limit: "write_rate_limit", value: points, max: most } },
  );
}

const write =
  (translate: Translate): Operation =>
  async (ask) => {
    const collection = await describe(ask);
    const steps = translate(ask.body, "", shardKeysIn(collection));
    checkRate(collection, steps);
    return updated(ask, (await make(ask, steps)).token);
  };

export const upsert = write(upsertWork);
export const deletePoints = write(deleteWork);
export const setPayload = write(setPayloadWork);
export const overwritePayload = write(overwritePayloadWork);
export const deletePayload = write(deletePayloadWork);
export const clearPayload = write(clearPayloadWork);
export const updateVectors = write(updateVectorsWork);
export const deleteVectors = write(deleteVectorsWork);

const translations: Readonly<Record<string, Translate>> = {
  upsert: upsertWork,
  delete: deleteWork,
  set_payload: setPayloadWork,
  overwrite_payload: overwritePayloadWork,
  delete_payload: deletePayloadWork,
  clear_payload: clearPayloadWork,
  update_vectors: updateVectorsWork,
  delete_vectors: deleteVectorsWork,
};

/** Writes of several kinds, in order: what is wrong with one is told before the first is made. */
export const updateBatch: Operation = async (ask) => {
  const keys = shardKeysIn(await describe(ask));
  const works = eachOf(required(ask.body, "operations", "", listOf), "operations", (value, at) => {
    const operation = objectOf(value, at);
    const name = Object.keys(translations).find((key) => member(operation, key) !== undefined);
    if (name === undefined) throw wrong(at, `expected one of ${Object.keys(translations).join(", ")}`);
    return (translations[name] as Translate)(required(operation, name, at, objectOf), below(at, name), keys);
  });
  const results: Reply[] = [];
  for (const some of works) results.push(updated(ask, (await make(ask, some)).token));
  return results;
};
