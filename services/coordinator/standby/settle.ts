import { KithError, toKithError } from "../../../libs/base/index.js";
import type { NewOperation } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { Collection, ShardId, ShardPlacement } from "../../../libs/model/index.js";
import { encodeRecord } from "../../../libs/wire/index.js";
import { followedIn } from "./mirrored.js";

/** A record that somebody else has written just before is counted with so often. */
const fenceAttempts = 16;
/** Of a merge that is gone on with here: above the terms of those who read the old shards in the primary. */
const termHere = 1_000_000;

/**
 * Appends a record without operations, which takes the place of the next one of the primary: whoever still repeats that cluster's log can write no more.
 * Nothing where the log has its end.
 */
export async function fence(name: ShardId, epoch: number, log: Log, nowMs: number): Promise<void> {
  await log.create(name);
  for (let attempt = 0; attempt < fenceAttempts; attempt++) {
    if ((await log.sealedAt(name)) !== undefined) return;
    const next = (await log.state(name)).lastSequence + 1;
    const data = encodeRecord({ epoch, appendedAtMs: nowMs, operations: [] });
    try {
      await log.append(name, data, { messageId: `promoted-${next}`, expectedSequence: next });
      return;
    } catch (error) {
      if (toKithError(error).code !== "REVISION_MISMATCH") throw error;
    }
  }
  throw new KithError(
    "REVISION_MISMATCH",
    `the log of shard ${name.shard} kept growing while its cluster was being promoted`,
  );
}

/** What is to become of a collection that was followed. */
export interface Settled {
  record: Collection;
  /** Splits and merges that go on here, because writes of the old shards have come to their end. */
  operations: NewOperation<"split_shard" | "merge_shards">[];
  /** Shards that are taken out: what they were made of, or what was made of them, goes on. */
  dropped: number[];
}

/**
 * A collection as it goes on when its cluster is promoted. Splits and merges that the primary was at are gone on with where the old logs have their ends
 * here, and undone where not.
 */
export async function settled(
  ours: Collection,
  sealedAt: (shard: number) => Promise<number | undefined>,
): Promise<Settled> {
  const operations: Settled["operations"] = [];
  const ofOperation = new Map<number, string>();
  // Those whose slots others have already were to go in a moment.
  const dropped = ours.shards.filter(({ state }) => state === "sealed").map(({ shard }) => shard);
  const preparing = ours.shards.filter(({ state }) => state === "preparing");
  const subjectOf = (shard: number): NewOperation["subject"] => ({
    collectionId: ours.id,
    collection: ours.name,
    shard,
  });
  const begin = (operation: Settled["operations"][number], shards: readonly number[]): void => {
    operations.push(operation);
    for (const shard of shards) ofOperation.set(shard, operation.id);
  };
  const seen = new Set<number>();
  for (const child of preparing) {
    if (seen.has(child.shard)) continue;
    const parent = followedIn(child, ours.shards);
    if (parent !== undefined) {
      const children = preparing.filter((each) => followedIn(each, ours.shards) === parent);
      for (const { shard } of children) seen.add(shard);
      const end = await sealedAt(parent.shard);
      if (end === undefined || !isWhole(parent, children)) dropped.push(...children.map(({ shard }) => shard));
      else
        begin(splitOf(subjectOf(parent.shard), parent, children, end), [
          parent.shard,
          ...children.map(({ shard }) => shard),
        ]);
      continue;
    }
    seen.add(child.shard);
    const parents = child.origin?.parents ?? [];
    const ends = await Promise.all(parents.map(sealedAt));
    if (child.origin?.merge === undefined || ends.every((end) => end === undefined)) dropped.push(child.shard);
    else begin(mergeOf(subjectOf(parents[0] ?? 0), parents, child.shard), [...parents, child.shard]);
  }
  const shards = ours.shards
    .filter(({ shard }) => !dropped.includes(shard))
    .map(({ sources: _, ...shard }): ShardPlacement => {
      const operation = ofOperation.get(shard.shard);
      return operation === undefined ? shard : withOperation(shard, operation);
    });
  return { record: { ...ours, shards }, operations, dropped };
}

function withOperation(shard: ShardPlacement, operation: string): ShardPlacement {
  if (shard.state !== "preparing") return { ...shard, operation };
  return { ...shard, operation, replicas: shard.replicas.map((each) => ({ ...each, operation })) };
}

/** Whether the children have all slots of their parent. */
function isWhole({ firstSlot, lastSlot }: ShardPlacement, children: readonly ShardPlacement[]): boolean {
  let next = firstSlot;
  for (const child of [...children].sort((a, b) => a.firstSlot - b.firstSlot)) {
    if (child.firstSlot !== next) return false;
    next = child.lastSlot + 1;
  }
  return next === lastSlot + 1;
}

function splitOf(
  subject: NewOperation["subject"],
  parent: ShardPlacement,
  children: readonly ShardPlacement[],
  sealedAt: number,
): NewOperation<"split_shard"> {
  const sorted = [...children].sort((a, b) => a.firstSlot - b.firstSlot);
  return {
    id: `split-${subject.collectionId}-${parent.shard}-promoted`,
    kind: "split_shard",
    subject,
    step: "switch",
    data: {
      reason: "requested",
      ranges: sorted.map(({ firstSlot, lastSlot }) => ({ firstSlot, lastSlot })),
      children: sorted.map(({ shard }) => shard),
      sealedAt,
    },
  };
}

function mergeOf(
  subject: NewOperation["subject"],
  parents: readonly number[],
  child: number,
): NewOperation<"merge_shards"> {
  return {
    id: `merge-${subject.collectionId}-${parents.join("-")}-promoted`,
    kind: "merge_shards",
    subject,
    step: "seal",
    data: { reason: "requested", parents: [...parents], child, term: termHere, reader: "", places: {} },
  };
}
