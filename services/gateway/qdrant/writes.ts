import { type ErrorCode, KithError, limits } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, printJson } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, type Operation, optionsOf, tell, updated } from "./api.js";
import { filterOf } from "./filter.js";
import { idOf, idsOf } from "./ids.js";
import { refuseShardKey } from "./query.js";
import { targetOf } from "./reads.js";
import {
  below,
  eachOf,
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
import { isInference, storedVectorOf, type VectorMap, vectorsOf } from "./vectors.js";

type Work = NonNullable<pb.WriteOperation["operation"]>;

/** What one operation becomes: writes that are made in order. */
type Translate = (object: JsonObject, at: string) => Work[];

function payloadOf(value: JsonValue | undefined, at: string): Buffer {
  const object = value === undefined ? {} : objectOf(value, at);
  return Object.keys(object).length === 0 ? Buffer.alloc(0) : Buffer.from(printJson(object));
}

function pointOf(value: JsonValue | undefined, at: string): pb.Point {
  const object = objectOf(value, at);
  return {
    id: required(object, "id", at, idOf),
    vectors: vectorsOf(member(object, "vector") ?? member(object, "vectors"), below(at, "vector")),
    payload: payloadOf(member(object, "payload"), below(at, "payload")),
    version: 0,
    expiresAtMs: 0,
  };
}

/** Points in columns: ids, vectors and payloads at the same places. */
function columnsOf(value: JsonValue | undefined, at: string): pb.Point[] {
  const object = objectOf(value, at);
  const ids = required(object, "ids", at, idsOf);
  const payloads = optional(object, "payloads", at, listOf);
  const vectors = columnVectors(member(object, "vectors"), below(at, "vectors"), ids.length);
  if (payloads !== undefined && payloads.length !== ids.length) {
    throw wrong(below(at, "payloads"), `there are ${payloads.length} payloads for ${ids.length} ids`);
  }
  return ids.map((id, i) => ({
    id,
    vectors: vectors[i] as VectorMap,
    payload: payloadOf(payloads?.[i] ?? undefined, `${at}.payloads[${i}]`),
    version: 0,
    expiresAtMs: 0,
  }));
}

function columnVectors(value: JsonValue | undefined, at: string, count: number): VectorMap[] {
  const points = Array.from({ length: count }, () => Object.create(null) as VectorMap);
  const fill = (name: string, column: JsonValue, where: string): void => {
    const list = listOf(column, where);
    if (list.length !== count) throw wrong(where, `there are ${list.length} vectors for ${count} ids`);
    list.forEach((vector, i) => {
      const stored = vector === null ? undefined : storedVectorOf(vector, `${where}[${i}]`);
      if (stored !== undefined) (points[i] as VectorMap)[name] = stored;
    });
  };
  if (value === undefined) return points;
  if (isJsonObject(value) && !isInference(value)) {
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

const upsertWork: Translate = (object, at) => {
  refuseShardKey(object, at);
  const batch = member(object, "batch");
  const points =
    batch === undefined
      ? eachOf(required(object, "points", at, listOf), below(at, "points"), pointOf)
      : columnsOf(batch, below(at, "batch"));
  const mode = modes[optional(object, "update_mode", at, wordOf(["upsert", "insert_only", "update_only"])) ?? "upsert"];
  const onlyIf = filterOf(member(object, "update_filter"), below(at, "update_filter"));
  return parts(points).flatMap((some) => {
    const request = (upsertMode: pb.UpsertMode, condition: pb.Filter | undefined): Work => ({
      $case: "upsert",
      value: { ...pb.UpsertRequest.create({ mode: upsertMode }), points: some, onlyIf: condition },
    });
    if (onlyIf === undefined || mode === pb.UpsertMode.INSERT_ONLY) return [request(mode, undefined)];
    const update = request(pb.UpsertMode.UPDATE_ONLY, onlyIf);
    // The filter is about points that exist; new ones are written whatever it says.
    return mode === pb.UpsertMode.UPDATE_ONLY ? [update] : [update, request(pb.UpsertMode.INSERT_ONLY, undefined)];
  });
};

/** The targets of a write: of ids, as many as one write takes. */
function targetsOf(object: JsonObject, at: string): pb.WriteTarget[] {
  const target = targetOf(object, at);
  if (target.points?.$case !== "ids") return [target];
  return parts(target.points.value.ids).map((ids) => ({ ...target, points: { $case: "ids", value: { ids } } }));
}

const deleteWork: Translate = (object, at) =>
  targetsOf(object, at).map(({ points }) => ({
    $case: "delete",
    value: {
      ...pb.DeletePointsRequest.create({}),
      ids: points?.$case === "ids" ? points.value.ids : [],
      filter: points?.$case === "filter" ? points.value : undefined,
    },
  }));

const setPayloadWork: Translate = (object, at) => {
  const payload = payloadOf(required(object, "payload", at, objectOf), below(at, "payload"));
  const path = optional(object, "key", at, textOf);
  if (path === "") throw wrong(below(at, "key"), "the path is empty; leave it out for the whole payload");
  return targetsOf(object, at).map((target) => ({
    $case: "setPayload",
    value: {
      ...pb.SetPayloadRequest.create({ path: path ?? "" }),
      target,
      payload: payload.length > 0 ? payload : emptyObject,
    },
  }));
};

const emptyObject = Buffer.from("{}");

const overwritePayloadWork: Translate = (object, at) => {
  const payload = payloadOf(required(object, "payload", at, objectOf), below(at, "payload"));
  if (optional(object, "key", at, textOf) !== undefined) return setPayloadWork(object, at);
  return targetsOf(object, at).map((target) => ({
    $case: "overwritePayload",
    value: { ...pb.OverwritePayloadRequest.create({}), target, payload: payload.length > 0 ? payload : emptyObject },
  }));
};

const deletePayloadWork: Translate = (object, at) => {
  const paths = eachOf(required(object, "keys", at, listOf), below(at, "keys"), textOf);
  return targetsOf(object, at).map((target) => ({
    $case: "deletePayload",
    value: { ...pb.DeletePayloadRequest.create({ paths }), target },
  }));
};

const clearPayloadWork: Translate = (object, at) =>
  targetsOf(object, at).map((target) => ({
    $case: "clearPayload",
    value: { ...pb.ClearPayloadRequest.create({}), target },
  }));

const updateVectorsWork: Translate = (object, at) => {
  refuseShardKey(object, at);
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
  return parts(points).map((some) => ({
    $case: "updateVectors",
    value: { ...pb.UpdateVectorsRequest.create({}), points: some, onlyIf },
  }));
};

const deleteVectorsWork: Translate = (object, at) => {
  const vectors = eachOf(required(object, "vector", at, listOf), below(at, "vector"), textOf);
  return targetsOf(object, at).map((target) => ({
    $case: "deleteVectors",
    value: { ...pb.DeleteVectorsRequest.create({ vectors }), target },
  }));
};

/** Points that are named by id must exist for these. */
const strict: ReadonlySet<Work["$case"]> = new Set([
  "setPayload",
  "overwritePayload",
  "deletePayload",
  "updateVectors",
]);

interface Done {
  token: pb.Token | undefined;
}

/** Makes the writes of one operation, one after the other. */
async function make(ask: Ask, works: readonly Work[]): Promise<Done> {
  // Whether there is such a collection is told all the same.
  if (works.length === 0) await describe(ask);
  let token: pb.Token | undefined;
  for (const work of works) {
    const done = await makeOne(ask, work);
    const refused = strict.has(work.$case) ? done.errors.find(({ code }) => code === "POINT_NOT_FOUND") : undefined;
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

const write =
  (translate: Translate): Operation =>
  async (ask) =>
    updated(ask, (await make(ask, translate(ask.body, ""))).token);

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
  const works = eachOf(required(ask.body, "operations", "", listOf), "operations", (value, at) => {
    const operation = objectOf(value, at);
    const name = Object.keys(translations).find((key) => member(operation, key) !== undefined);
    if (name === undefined) throw wrong(at, `expected one of ${Object.keys(translations).join(", ")}`);
    return (translations[name] as Translate)(required(operation, name, at, objectOf), below(at, name));
  });
  const results: Reply[] = [];
  for (const some of works) results.push(updated(ask, (await make(ask, some)).token));
  return results;
};
