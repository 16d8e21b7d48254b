import { KithError } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, parseJson, printJson } from "../../../libs/model/index.js";
import type { RefusedPoint } from "./points.js";
import { listIn, objectIn, textIn } from "./server.js";
import { readStateFile, writeStateFile } from "../import/state-file.js";

/** How far a collection has come. */
export interface CollectionState {
  /** Points before this id are written; null: none is. */
  offset: JsonValue;
  /** Place of the shard key among those of the collection. */
  keyIndex: number;
  points: number;
  /** Points that the other side did not take. */
  refused: RefusedPoint[];
  isDone: boolean;
}

/** How far a migration has come, so that it can go on after an interruption. */
export interface MigrationState {
  from: string;
  to: string;
  collections: Map<string, CollectionState>;
}

const version = 1;

export function newCollectionState(): CollectionState {
  return { offset: null, keyIndex: 0, points: 0, refused: [], isDone: false };
}

/** Undefined where there is none. INVALID_ARGUMENT for a file that is none. */
export async function loadMigration(path: string): Promise<MigrationState | undefined> {
  const text = await readStateFile(path);
  if (text === undefined) return undefined;
  const value = parseJson(text);
  const collections = isJsonObject(value) ? value["collections"] : undefined;
  if (!isJsonObject(value) || value["version"] !== version || !isJsonObject(collections)) {
    throw new KithError("INVALID_ARGUMENT", `${path} is not the state of a migration; remove it to start again`);
  }
  return {
    from: textIn(value["from"]),
    to: textIn(value["to"]),
    collections: new Map(Object.entries(collections).map(([name, each]) => [name, collectionState(each)])),
  };
}

function collectionState(value: JsonValue): CollectionState {
  const { offset, keyIndex, points, refused, isDone } = isJsonObject(value) ? value : ({} as JsonObject);
  return {
    offset: offset ?? null,
    keyIndex: Number(keyIndex ?? 0),
    points: Number(points ?? 0),
    refused: listIn(refused)
      .map(objectIn)
      .map(({ id, why }) => ({ id: id ?? null, why: textIn(why) })),
    isDone: isDone === true,
  };
}

/** Ids keep all their digits. */
export async function saveMigration(path: string, { from, to, collections }: MigrationState): Promise<void> {
  const states = Object.fromEntries(
    [...collections].map(([name, state]) => [name, { ...state, refused: state.refused.map((each) => ({ ...each })) }]),
  );
  await writeStateFile(path, printJson({ version, from, to, collections: states }));
}
