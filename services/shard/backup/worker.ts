import { setMaxListeners } from "node:events";
import { join } from "node:path";
import {
  type BackupCall,
  type BackupJobs,
  type BackupJobKind,
  type BackupLocations,
  type BackupPart,
  BackupRepository,
  type BackupResult,
  type BackupWorker,
  ContentDigest,
  type DigestJob,
  findJson,
  type FedPart,
  type FeedPartJob,
  forEachPoint,
  type MergeJob,
  type MergePlace,
  partKey,
  type ShardContentDigest,
  type WritePartJob,
} from "../../../libs/backup/index.js";
import type { KeyRing } from "../../../libs/encryption/index.js";
import {
  abortReason,
  type Deferred,
  deferred,
  KithError,
  type Runtime,
  toKithError,
} from "../../../libs/base/index.js";
import type { Handover, HandoverPart, HeadRange, ReplicaContent, ReplicaFiles } from "../../../libs/engine/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ShardId } from "../../../libs/model/index.js";
import { untraced } from "../../../libs/telemetry/index.js";
import { feedMerge } from "./feed-merge.js";
import type { FedField } from "./fed-records.js";
import { feedPart, filesOf, type PointSource } from "./feed-part.js";
import { filesOfPart } from "./part-files.js";
import { writeFiles } from "./write-files.js";
import { laterPart } from "./later-part.js";
import { writePart } from "./write-part.js";

export interface ShardBackupsOptions extends Runtime {
  /** For replicas that are made to bring a backup to a later state. */
  folder: string;
  /** Encrypts what these keep. */
  keys?: KeyRing | undefined;
  locations: BackupLocations;
  log: Log;
  replicas: {
    /** All that an active replica of this node holds now. */
    content(replica: ShardId): Promise<ReplicaContent>;
    /** The files that it has. FAILED_PRECONDITION where it is encrypted. */
    files(replica: ShardId): Promise<ReplicaFiles>;
    /** The next part of what it holds, for another shard; undefined where nothing has come for a moment. */
    handover(replica: ShardId, reader: Handover, signal: AbortSignal): Promise<HandoverPart | undefined>;
    wait(
      replica: ShardId,
      sequence: number,
      operations: [],
      call: { trace: typeof untraced; signal: AbortSignal; deadlineMs?: number },
    ): Promise<unknown>;
  };
}

/** Bytes of points that are digested at once. */
const digestBytes = 4 * 1024 * 1024;
/** Jobs of a node at once: each reads whole shards, and searches need the disk and the processor too. */
const jobsMax = 4;
/** A replica that is behind its log is waited for so long before another one is asked. */
const appliedMs = 10_000;

/** What this node does for backups. */
export class ShardBackups implements BackupWorker {
  readonly #options: ShardBackupsOptions;
  #running = 0;
  readonly #merges = new Map<string, { stop: AbortController; ended: Deferred<void> }>();

  constructor(options: ShardBackupsOptions) {
    this.#options = options;
  }

  async run<K extends BackupJobKind>(
    job: BackupJobs[K]["job"] & { kind: K },
    call: BackupCall,
  ): Promise<BackupResult<K>> {
    if (job.kind === "merge") await this.#supersede(job as MergeJob);
    if (this.#running >= jobsMax) {
      throw new KithError("RESOURCE_EXHAUSTED", `the node works for ${jobsMax} backups already; try again later`, {
        details: { limit: jobsMax },
        retryAfterMs: 2_000,
      });
    }
    this.#running++;
    // Every append in flight listens.
    setMaxListeners(0, call.signal);
    const kinds: { [T in BackupJobKind]: (job: BackupJobs[T]["job"], call: BackupCall) => Promise<BackupResult<T>> } = {
      write: (each, its) => this.#write(each, its),
      feed: (each, its) => this.#feed(each, its),
      digest: (each, its) => this.#digest(each, its),
      merge: (each, its) => this.#merge(each, its),
    };
    try {
      return await kinds[job.kind](job, call);
    } finally {
      this.#running--;
    }
  }

  /**
   * Ends what an earlier coordinator has begun of this: one that died without a word, or is cut off, would keep its work going for as long as its connection
   * seems to be there, and the node with it from work of the same kind.
   */
  async #supersede(job: MergeJob): Promise<void> {
    const before = this.#merges.get(mergeKey(job));
    before?.stop.abort(new KithError("CANCELLED", "a later attempt has taken the place of this one"));
    await before?.ended.promise;
  }

  async #merge(job: MergeJob, call: BackupCall): Promise<{ place: MergePlace }> {
    const merge = { stop: new AbortController(), ended: deferred<void>() };
    const key = mergeKey(job);
    this.#merges.set(key, merge);
    const signal = AbortSignal.any([call.signal, merge.stop.signal]);
    setMaxListeners(0, signal);
    try {
      return await feedMerge(job, this.#options, { ...call, signal });
    } finally {
      if (this.#merges.get(key) === merge) this.#merges.delete(key);
      merge.ended.resolve();
    }
  }

  async #write(job: WritePartJob, call: BackupCall): Promise<{ sequence: number }> {
    const { locations, replicas, clock } = this.#options;
    const store = await locations.open(job.location);
    const whole = await findJson<BackupPart>(store, partKey(job.backup, job.shard.shard));
    if (whole !== undefined) return { sequence: whole.sequence };
    await this.#applied(job, call);
    const files = job.takesFiles === true ? await this.#filesOf(job.shard) : undefined;
    if (files !== undefined) {
      try {
        return await writeFiles(files, store, job, call, clock);
      } finally {
        await files.close();
      }
    }
    const content = await replicas.content(job.shard);
    try {
      return await writePart(content, store, job, call, clock);
    } finally {
      await content.close();
    }
  }

  /** SHARD_UNAVAILABLE where the replica does not get as far as is asked for. */
  async #applied({ shard, minSequence }: WritePartJob, { signal }: BackupCall): Promise<void> {
    const { replicas, clock } = this.#options;
    if (minSequence === undefined) return;
    try {
      const deadlineMs = clock.monotonicMs() + appliedMs;
      await replicas.wait(shard, minSequence, [], { trace: untraced, signal, deadlineMs });
    } catch (error) {
      if (toKithError(error).code !== "DEADLINE_EXCEEDED") throw error;
      const message = `the replica of shard ${shard.shard} is behind record ${minSequence} of its log, and has not come there within ${appliedMs / 1_000} s`;
      throw new KithError("SHARD_UNAVAILABLE", message, { retryAfterMs: 1_000, cause: error });
    }
  }

  /** Undefined where they cannot be had: the replica is encrypted, or its disk knows no second names. */
  async #filesOf(shard: ShardId): Promise<ReplicaFiles | undefined> {
    try {
      return await this.#options.replicas.files(shard);
    } catch (error) {
      const { code, retryable } = toKithError(error);
      if (retryable || code === "CORRUPT_DATA") throw error;
      return undefined;
    }
  }

  async #feed(job: FeedPartJob, call: BackupCall): Promise<FedPart> {
    const { locations } = this.#options;
    const repository = new BackupRepository(await locations.open(job.location));
    const backup = await repository.get(job.backup);
    const part = await repository.part(backup, job.shard);
    if (job.until !== undefined || part.replica !== undefined) {
      return this.#feedReplica(job, repository, backup, part, call);
    }
    const { fields } = JSON.parse(part.schema) as { fields: (FedField & { number: number })[] };
    const byNumber = new Map(fields.map((field) => [field.number, field]));
    const fed = await feedPart(filesOf(repository.store, part, job.before.files), byNumber, job, this.#options, call);
    return { ...fed, sequence: part.sequence };
  }

  /** What a replica that is made of the part holds, some time after the backup where that is asked for. */
  async #feedReplica(
    job: FeedPartJob,
    repository: BackupRepository,
    { id, collection }: Awaited<ReturnType<BackupRepository["get"]>>,
    part: BackupPart,
    call: BackupCall,
  ): Promise<FedPart> {
    const { folder } = this.#options;
    const { store } = repository;
    const later = await laterPart({
      ...this.#options,
      ...{ collection, part, until: job.until, signal: call.signal },
      folder: join(folder, `${job.target.collectionId}-${job.shard}`),
      // Indexes are of no use to who reads all points.
      content:
        part.replica === undefined
          ? { outcomes: await repository.outcomes(part), points: filesOf(store, part, 0) }
          : filesOfPart(store, part, id, part.incarnation, (name) => name.startsWith("db/")),
    });
    try {
      const { content, sequence } = later;
      // All of it once more, as the same records: another attempt may have been about another state.
      const anew = { ...job, before: { files: 0, points: 0, expiring: 0, content: new ContentDigest().text } };
      const fed = await feedPart(pointsOf(content), content.fields, anew, this.#options, call);
      return { ...fed, sequence };
    } finally {
      await later.close();
    }
  }

  async #digest(job: DigestJob, call: BackupCall): Promise<ShardContentDigest> {
    const { replicas } = this.#options;
    await replicas.wait(job.shard, job.minSequence, [], { trace: untraced, signal: call.signal });
    const content = await replicas.content(job.shard);
    const digest = new ContentDigest();
    try {
      for await (const range of ranges(content)) {
        if (call.signal.aborted) throw abortReason(call.signal);
        const points = await content.points(range);
        await forEachPoint(points, (row, parts) => {
          digest.add(points.ids[row] as Uint8Array, points.expiresAtMs[row] ?? 0, parts);
        });
        call.onProgress({ points: digest.points, bytes: 0 });
      }
    } finally {
      await content.close();
    }
    return { content: digest.text, points: digest.points, expiring: digest.expiring };
  }
}

/** One node does this once at a time. */
function mergeKey({ shard, into }: MergeJob): string {
  return `${shard.collectionId}/${shard.shard}/${into}`;
}

async function* pointsOf(content: ReplicaContent): PointSource {
  let number = 0;
  for await (const range of ranges(content)) yield { number: number++, points: await content.points(range) };
}

/** All points, some megabytes at a time. */
async function* ranges(content: ReplicaContent): AsyncGenerator<HeadRange> {
  for await (const { ids, heads } of content.heads()) {
    let from = 0;
    let bytes = 0;
    for (let i = 0; i < ids.length; i++) {
      bytes += content.pointBytes(heads[i] as HeadRange["heads"][number]);
      if (bytes < digestBytes && i < ids.length - 1) continue;
      yield { ids: ids.slice(from, i + 1), heads: heads.slice(from, i + 1) };
      from = i + 1;
      bytes = 0;
    }
  }
}
