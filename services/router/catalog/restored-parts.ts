import type { BackupRecord } from "../../../libs/backup/index.js";
import { type Collection, type RestoreOrigin, storeFormat } from "../../../libs/model/index.js";
import { hashSlotCount } from "../../../libs/sharding/index.js";

type Part = BackupRecord["parts"][number];

/** A collection whose replicas begin as the files that a backup has of its shards. */
export interface RestoredParts {
  parts: NonNullable<RestoreOrigin["parts"]>;
  /** What the files are of; the shards have the hash slots of the parts, and are placed nowhere yet. */
  collection: Pick<Collection, "fields" | "sparseFields" | "payloadIndexes" | "schemaVersion" | "shards">;
}

/** Undefined where points have to be read out: of other shards, or where the files are not of one state of the schema, or of another release's form. */
export function restoredParts(
  { collection, parts }: Pick<BackupRecord, "collection" | "parts">,
  shardCount: number,
): RestoredParts | undefined {
  const { fields, sparseFields, payloadIndexes, schemaVersion } = collection;
  const ordered = [...parts].sort((a, b) => a.slots.firstSlot - b.slots.firstSlot);
  const isFit = ({ slots, storeFormat: format, schemaVersion: version }: Part, i: number): boolean =>
    slots.firstSlot === (i === 0 ? 0 : (ordered[i - 1] as Part).slots.lastSlot + 1) &&
    format === storeFormat &&
    version === schemaVersion;
  const isWhole = ordered.at(-1)?.slots.lastSlot === hashSlotCount - 1;
  const isBuilding =
    fields.some(({ other }) => other !== undefined) || payloadIndexes.some(({ otherText }) => otherText !== undefined);
  if (ordered.length !== shardCount || !isWhole || isBuilding || !ordered.every(isFit)) return undefined;
  return {
    parts: ordered.map(({ shard, sequence }) => ({ shard, sequence })),
    collection: {
      ...{ fields, payloadIndexes, schemaVersion },
      ...(sparseFields && { sparseFields }),
      shards: ordered.map(({ slots }, shard) => ({ shard, ...slots, epoch: 1, state: "active", replicas: [] })),
    },
  };
}
