/** Where a process is ended with SIGKILL, and in which role it comes there. */
export const crashPoints = [
  /** The log has acknowledged a record, and nobody knows yet. */
  { point: "log-acknowledged", role: "router" },
  /** What a batch of records changes is about to be written to LevelDB. */
  { point: "before-batch", role: "shard" },
  /** It is written, and is not in memory yet. */
  { point: "after-batch", role: "shard" },
  /** The files of an index are written, and are not the index yet. */
  { point: "before-rename", role: "shard" },
  { point: "after-rename", role: "shard" },
  /** The coordinator is about to have a log trimmed. */
  { point: "before-trim", role: "router" },
] as const;

export type CrashPoint = (typeof crashPoints)[number]["point"];

export interface CrashOrder {
  point: CrashPoint;
  /** The process ends when it comes there for this time, from 1. */
  after: number;
}
