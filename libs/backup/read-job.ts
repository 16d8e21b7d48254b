import { KithError } from "../base/index.js";
import type { ShardId, SlotRange } from "../model/index.js";
import type { BackupJob, FedFiles, FeedPartJob, MergePlace, Until } from "./jobs.js";
import { checkBackupId } from "./layout.js";

/**
 * The job that a text of JSON asks for. It comes over the network, and its ids become parts of paths: INVALID_ARGUMENT, with the place, where
 * something is missing or of another type, NOT_FOUND for ids of backups that are none. Where a location leads is checked as it is opened.
 */
export function readBackupJob(text: string): BackupJob {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KithError("INVALID_ARGUMENT", "the job for a backup is no JSON", { cause });
  }
  const job = new Fields(value, "job");
  const kind = job.text("kind");
  switch (kind) {
    case "write": {
      const base = job.has("base") ? backupOf(job, "base") : undefined;
      return {
        ...{ kind, location: job.text("location"), backup: backupOf(job, "backup"), base, shard: shardOf(job) },
        ...{ slots: slotsOf(job.group("slots")), bytesPerSecond: job.whole("bytesPerSecond") },
        ...(job.has("minSequence") && { minSequence: job.whole("minSequence") }),
        ...(job.has("takesFiles") && { takesFiles: job.flag("takesFiles") }),
      };
    }
    case "feed":
      return {
        ...{ kind, operation: job.text("operation"), location: job.text("location"), backup: backupOf(job, "backup") },
        ...{ shard: job.whole("shard"), ...(job.has("until") && { until: untilOf(job.group("until")) }) },
        ...{ target: targetOf(job.group("target")), before: fedOf(job.group("before")) },
      };
    case "digest":
      return { kind, shard: shardOf(job), minSequence: job.whole("minSequence") };
    case "merge":
      return {
        ...{ kind, shard: shardOf(job), slots: slotsOf(job.group("slots")), into: job.whole("into") },
        ...{ shardCount: job.whole("shardCount"), epoch: job.whole("epoch"), term: job.whole("term") },
        ...(job.has("place") && { place: placeOf(job.group("place")) }),
      };
    default:
      throw job.wrong("kind");
  }
}

function placeOf(place: Fields): MergePlace {
  const scanned = place.text("scanned");
  if (!/^([0-9a-f]{2}){0,1024}$/.test(scanned)) throw place.wrong("scanned");
  const sequences = { sequence: place.whole("sequence"), outcomes: place.whole("outcomes") };
  return { ...sequences, scanned, isScanned: place.flag("isScanned") };
}

function backupOf(job: Fields, name: string): string {
  const id = job.text(name);
  checkBackupId(id);
  return id;
}

function shardOf(job: Fields): ShardId {
  const shard = job.group("shard");
  return { collectionId: shard.text("collectionId"), shard: shard.whole("shard") };
}

function slotsOf(slots: Fields): SlotRange {
  return { firstSlot: slots.whole("firstSlot"), lastSlot: slots.whole("lastSlot") };
}

function untilOf(until: Fields): Until {
  if (until.has("sequence")) return { sequence: until.whole("sequence") };
  return { timeMs: until.whole("timeMs"), ...(until.has("end") && { end: until.whole("end") }) };
}

function targetOf(target: Fields): FeedPartJob["target"] {
  const shards = target.list("shards").map((each) => ({ ...slotsOf(each), shard: each.whole("shard") }));
  return { collectionId: target.text("collectionId"), epoch: target.whole("epoch"), shards };
}

function fedOf(fed: Fields): FedFiles {
  const counts = { files: fed.whole("files"), points: fed.whole("points"), expiring: fed.whole("expiring") };
  const content = fed.text("content");
  if (!/^[0-9a-f]{1,64}$/.test(content)) throw fed.wrong("content");
  return { ...counts, content };
}

/** An object of JSON, whose fields are read by their types. */
class Fields {
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(
    value: unknown,
    private readonly place: string,
  ) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw mistaken(place);
    this.#values = new Map(Object.entries(value));
  }

  has(name: string): boolean {
    return this.#values.get(name) !== undefined && this.#values.get(name) !== null;
  }

  text(name: string): string {
    const value = this.#values.get(name);
    if (typeof value === "string") return value;
    throw this.wrong(name);
  }

  whole(name: string): number {
    const value = this.#values.get(name);
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.wrong(name);
  }

  flag(name: string): boolean {
    const value = this.#values.get(name);
    if (typeof value === "boolean") return value;
    throw this.wrong(name);
  }

  group(name: string): Fields {
    return new Fields(this.#values.get(name), `${this.place}.${name}`);
  }

  list(name: string): Fields[] {
    const value = this.#values.get(name);
    if (!Array.isArray(value)) throw this.wrong(name);
    return value.map((each, at) => new Fields(each, `${this.place}.${name}[${at}]`));
  }

  wrong(name: string): KithError {
    return mistaken(`${this.place}.${name}`);
  }
}

function mistaken(place: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${place} of the work for a backup is missing or of another type`, {
    details: { field: place },
  });
}
