import { isJsonObject, JsonFloat, type JsonObject, type JsonValue, printJson } from "../../../libs/model/index.js";
import { KithError } from "../../../libs/base/index.js";
import { listIn, objectIn, pathOf, type QdrantServer } from "./server.js";

interface Page {
  readonly points: JsonObject[];
  /** Where the next page begins; null at the end. */
  readonly next: JsonValue;
}

interface Place {
  readonly offset: JsonValue;
  readonly limit: number;
  readonly shardKey: JsonValue;
}

/** Points in order of id, from `offset` on; of one shard key where there is one. Fewer than `limit` where these are more than one answer holds. */
export async function readPage(from: QdrantServer, name: string, place: Place): Promise<Page> {
  for (let limit = place.limit; ; limit = Math.ceil(limit / 2)) {
    try {
      return await onePage(from, name, { ...place, limit });
    } catch (thrown) {
      if (limit === 1 || !(thrown instanceof KithError) || thrown.code !== "BATCH_TOO_LARGE") throw thrown;
    }
  }
}

async function onePage(from: QdrantServer, name: string, { offset, limit, shardKey }: Place): Promise<Page> {
  const answer = objectIn(
    await from.call("POST", pathOf("collections", name, "points", "scroll"), {
      limit,
      with_payload: true,
      with_vector: true,
      ...(offset !== null && { offset }),
      ...(shardKey !== null && { shard_key: shardKey }),
    }),
  );
  return { points: listIn(answer["points"]).map(objectIn), next: answer["next_page_offset"] ?? null };
}

/** A point that the other side does not take, and what it says of it. */
export interface RefusedPoint {
  readonly id: JsonValue;
  readonly why: string;
}

/** What may be the fault of one of the points, or of how many they are. */
const aboutPoints = new Set([400, 413, 422]);
/** Strict mode has this one for too many points; alone it is about who asks. */
const forbidden = 403;

/** Does a thing with items, and with halves of them where all at once are refused; `alone` has what becomes of an item that is refused by itself. */
async function byHalves<T, R>(
  items: readonly T[],
  work: (some: readonly T[]) => Promise<R[]>,
  alone: (item: T, error: KithError) => R[],
): Promise<R[]> {
  try {
    return await work(items);
  } catch (thrown) {
    const status = thrown instanceof KithError ? Number(thrown.details["status"]) : 0;
    if (items.length > 1 && (status === forbidden || aboutPoints.has(status))) {
      const middle = items.length >> 1;
      const first = await byHalves(items.slice(0, middle), work, alone);
      return [...first, ...(await byHalves(items.slice(middle), work, alone))];
    }
    const [item] = items;
    if (item === undefined || !aboutPoints.has(status)) throw thrown;
    return alone(item, thrown as KithError);
  }
}

/** Writes points, and tells those that are refused. */
export function writePoints(
  to: QdrantServer,
  name: string,
  points: readonly JsonObject[],
  shardKey: JsonValue,
): Promise<RefusedPoint[]> {
  return byHalves<JsonObject, RefusedPoint>(
    points,
    async (some) => {
      await writeAll(to, name, some, shardKey);
      return [];
    },
    ({ id }, { message }) => [{ id: id ?? null, why: message }],
  );
}

async function writeAll(
  to: QdrantServer,
  name: string,
  points: readonly JsonObject[],
  shardKey: JsonValue,
): Promise<void> {
  await to.call("PUT", `${pathOf("collections", name, "points")}?wait=true`, {
    points: points.map(({ id, vector, payload }) => ({
      id: id ?? null,
      vector: vector ?? {},
      payload: payload ?? {},
    })),
    ...(shardKey !== null && { shard_key: shardKey }),
  });
}

export async function countOf(server: QdrantServer, name: string): Promise<number> {
  const answer = objectIn(await server.call("POST", pathOf("collections", name, "points", "count"), { exact: true }));
  return Number(answer["count"]);
}

/** The ids of some points, by chance. */
export async function sampleOf(
  server: QdrantServer,
  name: string,
  limit: number,
  shardKey: JsonValue,
): Promise<JsonValue[]> {
  const answer = await server.call("POST", pathOf("collections", name, "points", "query"), {
    query: { sample: "random" },
    limit,
    with_payload: false,
    ...(shardKey !== null && { shard_key: shardKey }),
  });
  return listIn(objectIn(answer)["points"]).map((each) => objectIn(each)["id"] ?? null);
}

async function pointsOf(server: QdrantServer, name: string, ids: JsonValue[], shardKey: JsonValue) {
  const found = await byHalves<JsonValue, JsonValue>(
    ids,
    async (some) => {
      const answer = await server.call("POST", pathOf("collections", name, "points"), {
        ids: [...some],
        with_payload: true,
        with_vector: true,
        ...(shardKey !== null && { shard_key: shardKey }),
      });
      return listIn(answer);
    },
    (_, error) => {
      throw error;
    },
  );
  return new Map(found.map((each) => [printJson(objectIn(each)["id"] ?? null), objectIn(each)]));
}

/** The ids among these whose points are not the same on both sides, each with the part that differs. */
export async function differing(
  from: QdrantServer,
  to: QdrantServer,
  name: string,
  ids: JsonValue[],
  shardKey: JsonValue,
): Promise<string[]> {
  const [own, theirs] = await Promise.all([pointsOf(from, name, ids, shardKey), pointsOf(to, name, ids, shardKey)]);
  const found: string[] = [];
  for (const [id, point] of own) {
    const other = theirs.get(id);
    if (other === undefined) found.push(`${id} is missing`);
    else if (sorted(point["payload"]) !== sorted(other["payload"])) found.push(`${id} has another payload`);
    else if (!areClose(point["vector"], other["vector"])) found.push(`${id} has another vector`);
  }
  return found;
}

/** The text of a value, with keys in order. Whole numbers that were floats are the same number. */
function sorted(value: JsonValue | undefined): string {
  if (value instanceof JsonFloat) return String(value.value);
  if (Array.isArray(value)) return `[${value.map(sorted).join(",")}]`;
  if (!isJsonObject(value)) return printJson(value ?? {});
  const members = Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}:${sorted(each)}`);
  return `{${members.sort().join(",")}}`;
}

/** Floats of 16 bits have three digits; what one side normalizes differs in the last of the others. */
const toleranceRelative = 2e-3;

function areClose(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  const numbers = [a, b].map((each) => (each instanceof JsonFloat ? each.value : each));
  const [left, right] = numbers;
  if (typeof left === "number" && typeof right === "number") {
    return Math.abs(left - right) <= toleranceRelative * Math.max(1e-3, Math.abs(left), Math.abs(right));
  }
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((each, i) => areClose(each, b[i]));
  if (!isJsonObject(a) || !isJsonObject(b)) return printJson(a ?? {}) === printJson(b ?? {});
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => areClose(a[name], b[name]));
}
