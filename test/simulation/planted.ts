import type { BackupCall, BackupJob, BackupJobKind, BackupJobs, BackupWorker } from "../../libs/backup/index.js";
import { toKithError } from "../../libs/base/index.js";
import type { IndexFactory, ReplicaFiles } from "../../libs/engine/index.js";
import type { VectorIndex } from "../../libs/ann/index.js";
import type { Append, Log, LogState } from "../../libs/log/index.js";
import type { Planted, Role } from "./cluster.js";
import type { Disk, DiskNode } from "./disk.js";
import { withoutEntry } from "./files.js";

export interface PlantedFault {
  readonly name: string;
  readonly area: "engine" | "operations";
  /** What is wrong. */
  readonly text: string;
  /** The first seed, from 1 on, that shows it. */
  readonly foundAt: number;
  /** Made anew for each run. */
  plant(): Planted;
}

/** The port's other calls go to `port` as they are. */
function overriding<T extends object>(port: T, changes: Partial<T>): T {
  return new Proxy(port, {
    get(target, name) {
      const changed: unknown = Reflect.get(changes, name);
      if (changed !== undefined) return changed;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}

/** Slots of an index in which a row is looked for. */
const slotsTried = 64;

/** Family of the keys that tell what operations did: see docs/format.md. */
const outcomeFamily = "\u0004";

/** Of the keys of payloads. */
const payloadFamily = "\u0003";

function forgetOutcomes(node: DiskNode): void {
  if (node.kind === "folder") for (const below of node.entries.values()) forgetOutcomes(below);
  if (node.kind !== "database") return;
  for (const key of [...node.content.keys()]) if (key.startsWith(outcomeFamily)) node.content.set(key, undefined);
}

/** Moves one of the vectors that came from a checkpoint: what it was before the write that the checkpoint says it has. */
async function withOldRow(index: VectorIndex, slotEnd: number): Promise<void> {
  for (let slot = 0; slot < slotEnd; slot++) {
    const vector = index.get(slot);
    if (vector === undefined) continue;
    index.remove(Uint32Array.of(slot));
    return index.add(
      Uint32Array.of(slot),
      vector.map((value) => value + 1),
    );
  }
}

/** The same work, for the state of a second later where it is for that of a time. */
function past<T extends BackupJob>(job: T): T {
  const until = job.kind === "feed" ? job.until : undefined;
  if (until === undefined || !("timeMs" in until)) return job;
  return { ...job, until: { ...until, timeMs: until.timeMs + 1_000 } };
}

/** Between the logs and the processes of one role. */
function inLogsOf(wanted: Role, change: (log: Log) => Partial<Log>): () => Planted {
  return () => ({ log: (log, _process, role) => (role === wanted ? overriding(log, change(log)) : log) });
}

/** Faults that are not in Kith, by which the simulation shows what it finds. */
export const plantedFaults: readonly PlantedFault[] = [
  {
    name: "acknowledged before durable",
    foundAt: 7,
    area: "engine",
    text: "the disk of the logs takes a sync for done: what was acknowledged is lost with the power",
    plant: () => ({
      disk: (disk: Disk, name) => {
        if (name === "nats") disk.ignoresSync = true;
      },
    }),
  },
  {
    name: "operations forgotten after a restart",
    foundAt: 47,
    area: "engine",
    text: "a replica does not read back which operations it has applied: one that is retried across a restart counts twice",
    plant: () => ({ disk: (disk: Disk) => forgetOutcomes(disk.root) }),
  },
  {
    name: "checkpoint ahead of its data",
    foundAt: 6,
    area: "engine",
    text: "the checkpoint of an index is older than it says: after a restart searches take a vector for what it was before",
    plant: () => ({
      indexes: (indexes: IndexFactory): IndexFactory =>
        overriding(indexes, {
          load: async (directory, options) => {
            const loaded = await indexes.load(directory, options);
            if (loaded !== undefined) await withOldRow(loaded.index, slotsTried);
            return loaded;
          },
        }),
    }),
  },
  {
    name: "creation forgets a shard",
    foundAt: 1,
    area: "operations",
    text: "the log of the last of several shards is not made",
    plant: inLogsOf("coordinator", (log) => ({
      create: async (name): Promise<LogState> => {
        if (name.shard === 0) return log.create(name);
        return { firstSequence: 1, lastSequence: 0, incarnation: "none", sizeBytes: 0 };
      },
    })),
  },
  {
    name: "write behind the seal acknowledged",
    foundAt: 28,
    area: "operations",
    text: "what a log refuses because its shard was split or merged is told to have been written",
    plant: inLogsOf("router", (log) => ({
      append: async (name, data, options): Promise<Append> => {
        try {
          return await log.append(name, data, options);
        } catch (error) {
          if (toKithError(error).code !== "STALE_EPOCH") throw error;
          return { sequence: (await log.state(name)).lastSequence + 1, duplicate: false };
        }
      },
    })),
  },
  {
    name: "trim past what replicas have",
    foundAt: 1,
    area: "operations",
    text: "a log is trimmed to its end with each write, whatever its replicas have",
    plant: () => ({
      log: (log) =>
        overriding(log, {
          append: async (name, data, options): Promise<Append> => {
            const done = await log.append(name, data, options);
            await log.trim(name, done.sequence).catch(() => undefined);
            return done;
          },
        }),
    }),
  },
  {
    name: "a file lost on its way",
    foundAt: 18,
    area: "engine",
    text: "the files of a replica that is copied lack a payload: its new replica has all heads, and the right digest",
    plant: () => ({
      disk: (disk: Disk) => {
        disk.copied = (data) => withoutEntry(data, payloadFamily);
      },
    }),
  },
  {
    name: "a standby leaves out a record",
    foundAt: 23,
    area: "operations",
    text: "a standby takes its primary's records without their places, and one in seven for written that is not: those behind it move up",
    plant: inLogsOf("coordinator", (log) => ({
      append: async (name, data, options): Promise<Append> => {
        const { messageId, expectedSequence: place = 0 } = options;
        if (!messageId.startsWith("mirror-")) return log.append(name, data, options);
        return place % 7 === 0 ? { sequence: place, duplicate: false } : log.append(name, data, { messageId });
      },
    })),
  },
  {
    name: "a record comes twice to a standby",
    foundAt: 23,
    area: "operations",
    text: "a standby takes its primary's records without their places, and one in seven again, when its log has forgotten that it came",
    plant: inLogsOf("coordinator", (log) => ({
      append: async (name, data, options): Promise<Append> => {
        const { messageId, expectedSequence: place = 0 } = options;
        if (!messageId.startsWith("mirror-")) return log.append(name, data, options);
        const done = await log.append(name, data, { messageId });
        if (place % 7 === 0) await log.append(name, data, { messageId: `${messageId}-again` });
        return done;
      },
    })),
  },
  {
    name: "a backup behind its time",
    foundAt: 6,
    area: "operations",
    text: "a node gives to backups what its replica had when it was first asked: sound, and without what was acknowledged since",
    plant: () => ({
      backedUp: (replicas) => {
        const given = new Map<string, Promise<ReplicaFiles>>();
        return overriding(replicas, {
          files: async (replica): Promise<ReplicaFiles> => {
            const key = `${replica.collectionId}/${replica.shard}`;
            const first = given.get(key) ?? replicas.files(replica);
            given.set(key, first);
            return { ...(await first), close: () => Promise.resolve() };
          },
        });
      },
    }),
  },
  {
    name: "a backup brought past its time",
    foundAt: 6,
    area: "operations",
    text: "a node brings a backup to a second after the time that was asked for: sound, and with what was written later",
    plant: () => ({
      backups: (worker): BackupWorker => ({
        run: <K extends BackupJobKind>(job: BackupJobs[K]["job"] & { kind: K }, call: BackupCall) =>
          worker.run<K>(past(job), call),
      }),
    }),
  },
];
