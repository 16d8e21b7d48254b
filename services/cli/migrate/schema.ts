import { KithError, toKithError } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, printJson } from "../../../libs/model/index.js";
import { listIn, objectIn, pathOf, type QdrantServer, textIn } from "./server.js";

/** A collection as its server describes it: GET /collections/{name}. */
export interface Described {
  readonly config: JsonObject;
  readonly indexes: JsonObject;
  readonly shardKeys: readonly JsonValue[];
}

export async function describe(server: QdrantServer, name: string): Promise<Described> {
  const info = objectIn(await server.call("GET", pathOf("collections", name)));
  const config = objectIn(info["config"]);
  const isKeyed = objectIn(config["params"])["sharding_method"] === "custom";
  const keys = isKeyed ? await server.call("GET", pathOf("collections", name, "shards")) : null;
  return {
    config,
    indexes: objectIn(info["payload_schema"]),
    shardKeys: listIn(objectIn(keys)["shard_keys"]).map((each) => (isJsonObject(each) ? (each["key"] ?? null) : each)),
  };
}

/** The names of collections, without those that only their numbers name. */
export async function collectionsOf(server: QdrantServer): Promise<string[]> {
  const all = objectIn(await server.call("GET", "/collections"));
  return listIn(all["collections"])
    .map((each) => textIn(objectIn(each)["name"]))
    .sort();
}

const settings = ["hnsw_config", "wal_config", "quantization_config", "strict_mode_config", "metadata"];

/** Settings of the cluster where the collection was; the new one has its own. */
const ofServer = ["replication_factor", "write_consistency_factor", "read_fan_out_factor", "read_fan_out_delay_ms"];

/** The request that makes such a collection. */
function creationOf({ config }: Described): JsonObject {
  const params = objectIn(config["params"]);
  const request: JsonObject = { ...params };
  for (const name of ofServer) delete request[name];
  for (const name of settings) request[name] = config[name] ?? null;
  request["optimizers_config"] = config["optimizer_config"] ?? null;
  return withoutNulls(request);
}

function withoutNulls(object: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null));
}

/** What vectors must have in common for points of one collection to go into the other. */
function vectorsOf({ config }: Described): string {
  const params = objectIn(config["params"]);
  const given = objectIn(params["vectors"]);
  const dense: JsonObject = Object.hasOwn(given, "size") ? { "": given } : given;
  const fields = Object.entries(dense).map(([name, field]) => {
    const { size, distance, multivector_config: several } = objectIn(field);
    return printJson([name, size ?? null, distance ?? null, several ?? null]);
  });
  return [...fields, ...Object.keys(objectIn(params["sparse_vectors"]))].sort().join(", ");
}

/** Makes the collection where it is not, with its shard keys; gives whether it was made. FAILED_PRECONDITION where there is one with other vectors. */
export async function ensureCollection(to: QdrantServer, name: string, wanted: Described): Promise<boolean> {
  const path = pathOf("collections", name);
  const there = await to.call("GET", path).catch((error: unknown) => {
    const { code } = toKithError(error);
    if (code === "COLLECTION_NOT_FOUND" || code === "NOT_FOUND") return undefined;
    throw error;
  });
  if (there === undefined) {
    await to.call("PUT", path, creationOf(wanted));
    for (const key of wanted.shardKeys) await to.call("PUT", `${path}/shards`, { shard_key: key });
    return true;
  }
  const found = vectorsOf({ config: objectIn(objectIn(there)["config"]), indexes: {}, shardKeys: [] });
  if (found === vectorsOf(wanted)) return false;
  throw new KithError(
    "FAILED_PRECONDITION",
    `${to.url} has a collection "${name}" with other vectors: ${found} there, ${vectorsOf(wanted)} here; rename or delete one of them`,
  );
}

/** Makes the indexes that are not there; those that are stay. */
export async function ensureIndexes(to: QdrantServer, name: string, { indexes }: Described): Promise<number> {
  const there = (await describe(to, name)).indexes;
  let made = 0;
  for (const [field, given] of Object.entries(indexes)) {
    if (Object.hasOwn(there, field)) continue;
    const { params, data_type: type } = objectIn(given);
    const schema = isJsonObject(params) ? params : (type ?? null);
    await to.call("PUT", `${pathOf("collections", name, "index")}?wait=true`, {
      field_name: field,
      field_schema: schema,
    });
    made++;
  }
  return made;
}

/** Aliases of these collections get their places there, in one step. */
export async function moveAliases(
  from: QdrantServer,
  to: QdrantServer,
  names: ReadonlySet<string>,
): Promise<JsonValue[]> {
  const all = listIn(objectIn(await from.call("GET", "/aliases"))["aliases"]);
  const own = all.filter((each) => names.has(textIn(objectIn(each)["collection_name"])));
  if (own.length > 0) {
    await to.call("POST", "/collections/aliases", { actions: own.map((each) => ({ create_alias: each })) });
  }
  return own;
}
