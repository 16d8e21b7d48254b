import { KithError } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, parseJson, printJson } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, tell } from "./api.js";
import { filterOf } from "./filter.js";
import { pageOf } from "./reads.js";
import { keyOf, shardKeyField, shardKeysIn } from "./shard-keys.js";
import { below, member, type Reply, required } from "./values.js";

/** Points that are read and written at once. */
const pagePoints = 256;
const utf8 = new TextDecoder();

/** Writes the points of one shard key, or those of them that pass a filter, under another one too. The answer is that all are there. */
export async function replicatePoints(ask: Ask, body: JsonObject, at: string): Promise<Reply> {
  const collection = await describe(ask);
  const keys = shardKeysIn(collection);
  const known = (name: string): string | number => {
    const key = required(body, name, at, keyOf);
    const found = keys.isHidden ? keys.known.get(String(key)) : undefined;
    if (found !== undefined) return found;
    throw new KithError("NOT_FOUND", `${below(at, name)}: Shard key ${JSON.stringify(key)} not found`);
  };
  const [from, to] = [known("from_shard_key"), known("to_shard_key")];
  const filter = filterOf(member(body, "filter"), below(at, "filter"));
  const select = pb.Select.create({ payload: true, allVectors: true });
  const page = { select, filter, partition: String(from), atOnce: collection.strictMode?.maxLimit || pagePoints };
  let next: pb.PointId | undefined;
  do {
    const found = await pageOf(ask, { ...page, orderBy: undefined, from: next, limit: pagePoints });
    next = found.next;
    const points = found.points.map(
      (point): pb.Point => ({ ...point, payload: underKey(point.payload, to), version: 0 }),
    );
    if (points.length === 0) break;
    await tell(ask, pb.PointsService.upsert, {
      ...pb.UpsertRequest.create({ payloadOnly: true }),
      ...{ collection: collectionOf(ask), points, options: { ack: pb.Ack.ALL, idempotencyKey: "" } },
    });
  } while (next !== undefined);
  return true;
}

function underKey(payload: Uint8Array, key: string | number): Buffer {
  const content = parseJson(utf8.decode(payload));
  return Buffer.from(printJson({ ...(isJsonObject(content) ? content : {}), [shardKeyField]: key }));
}
