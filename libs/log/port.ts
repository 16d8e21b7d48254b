import type { ShardId } from "../model/index.js";

export interface LogEntry {
  /** 1, 2, 3 … without gaps. */
  sequence: number;
  /** The record exactly as appended. Not to be modified. */
  data: Uint8Array;
  /** W3C traceparent given at append, if any. */
  traceparent?: string;
  /** CRC-32C of the record as the log keeps it, where that is not `data`: an encrypted one. */
  checksum?: number;
  /** It is the log's seal. */
  isSeal?: true;
}

/** What a log goes on from that was mended: its record `first` follows the state that replicas had after another record. */
export interface Continuation {
  /** Of the log that these replicas had read. */
  incarnation: string;
  /** The last record that they had applied. */
  sequence: number;
  /** CRC-32C of that record; missing where it was not known. */
  checksum?: number;
  /** At least `sequence` + 1; records in between never were, or are lost. */
  first: number;
}

export interface LogState {
  /** First sequence still held (greater than 1 after a trim); lastSequence + 1 where the log holds nothing. */
  firstSequence: number;
  /** 0 for a log that never had a record. */
  lastSequence: number;
  /** Identity of this incarnation of the log: changes when the log was deleted and made anew, or restored. */
  incarnation: string;
  /** Bytes held. */
  sizeBytes: number;
  /** Of a log that was mended. */
  continues?: Continuation;
}

export interface AppendOptions {
  /** Repeating an append with the same id within the duplicate window gives the first one's sequence and no second record. */
  messageId: string;
  traceparent?: string;
  signal?: AbortSignal;
  /**
   * The append must not come in behind the log's seal: looked at where the log itself does not refuse that. Who waits for a replica to apply the
   * record does not need it, as replicas pass over what is behind a seal and tell so.
   */
  fenced?: boolean;
  /**
   * The record must get this sequence: REVISION_MISMATCH, and nothing is written, where the log does not end just before it. An append that is
   * repeated may get that too: what is there is to be looked at.
   */
  expectedSequence?: number;
}

export interface CreateOptions {
  /** The first record gets the sequence behind this one: the log goes on where another one ended. Default 0. */
  afterSequence?: number;
  /** Of the log that this one is to repeat, record by record: replicas of either are then replicas of the other. Default: one of its own. */
  incarnation?: string;
}

export interface Append {
  sequence: number;
  /** True when the log already held a record with this messageId. */
  duplicate: boolean;
}

/** Why a subscription ended by itself. The replica decides what to do; the log never guesses. */
export type LogFault =
  /** The next entry is not last + 1: the log was trimmed past the reader. `expected`/`found` are sequences. */
  | { kind: "gap"; expected: number; found: number }
  /** The log ends before what was already read, holds another record in the place of the last one, or its incarnation changed. */
  | { kind: "rewound"; lastRead: number; lastSequence: number; incarnation: string };

export interface LogSubscription {
  /**
   * Ends the subscription; resolves when no further entry will be delivered and the handler that runs has ended. A
   * handler must therefore not wait for it; it rejects instead.
   */
  close(): Promise<void>;
}

export interface SubscribeOptions {
  /** First sequence wanted. */
  fromSequence: number;
  /** The incarnation that the reader knows, if it has read before; another one is a "rewound" fault. */
  incarnation?: string;
  /**
   * CRC-32C of the record before `fromSequence`, if the reader has read it. Where the log holds another one there, it was put back to a
   * former state and went on: a "rewound" fault, at the start and after every interruption. Incarnations do not tell that.
   */
  lastChecksum?: number | undefined;
  /**
   * Called with consecutive entries, in order, never twice at once; the next batch waits for the promise (back-pressure).
   * At most 1 024 entries and about 8 MiB a batch. A rejection ends the subscription and goes to `onFault`'s sibling `onError`.
   */
  onEntries(entries: readonly LogEntry[]): Promise<void>;
  onFault(fault: LogFault): void;
  /**
   * The subscription has ended: the reader's own handler failed, or the log is not there or no more (NOT_FOUND), or a
   * stored record is damaged (CORRUPT_DATA).
   */
  onError(error: unknown): void;
}

/**
 * The ordered, durable log of every shard. Two adapters: JetStream and embedded (LevelDB), one conformance suite.
 * While the server behind it is away, `append` rejects with LOG_UNAVAILABLE (fast: within a few seconds at most) and
 * subscriptions silently resume when it is back.
 */
export interface Log {
  /** Makes the log if it does not exist; idempotent. */
  create(name: ShardId, options?: CreateOptions): Promise<LogState>;
  /** Deletes the log and all it holds; no error if it is not there. */
  remove(name: ShardId): Promise<void>;
  /**
   * NOT_FOUND where the log does not exist; LOG_UNAVAILABLE while the server is away. Where several servers hold the log, the last
   * acknowledged records may be missing: a new leader answers before it has applied all that is committed, and one that was deposed
   * in a minority partition answers until it knows. So a log that seems to have lost records must be looked at again.
   */
  state(name: ShardId): Promise<LogState>;
  /**
   * Durable (fsynced, quorum) when it resolves. Rejects with LOG_UNAVAILABLE, DEADLINE_EXCEEDED/CANCELLED (outcome unknown),
   * DISK_FULL, or STALE_EPOCH: it was sealed, and the record, be it in the log or not, counts for nothing.
   */
  append(name: ShardId, data: Uint8Array, options: AppendOptions): Promise<Append>;
  /**
   * Appends the log's last record that counts, durably as `append` does, and gives its sequence. A log has one seal at most: repeated, it gives that
   * one's. With `expectedSequence`, REVISION_MISMATCH as in `append`. From then on appends are refused with STALE_EPOCH, or come in behind it and count for nothing: see `AppendOptions.fenced`.
   */
  seal(name: ShardId, data: Uint8Array, options?: Pick<AppendOptions, "expectedSequence">): Promise<number>;
  /** Sequence of the log's seal; undefined where it has none. Rejects as `state` does. */
  sealedAt(name: ShardId): Promise<number | undefined>;
  /** CRC-32C of a record's data; undefined where the log does not hold it, or holds it damaged. Rejects as `state` does. */
  checksum(name: ShardId, sequence: number): Promise<number | undefined>;
  /** One record's data; undefined where the log does not hold it. Rejects as `state` does, with CORRUPT_DATA where the record is damaged. */
  read(name: ShardId, sequence: number): Promise<Uint8Array | undefined>;
  subscribe(name: ShardId, options: SubscribeOptions): LogSubscription;
  /** Drops records up to and including `throughSequence`. */
  trim(name: ShardId, throughSequence: number): Promise<void>;
  /**
   * Makes the log go on with `continuation.first`: made where it is not there, and all before that record dropped, the last one included. Replicas whose
   * state is the one that is named know from the log's state that they can go on with it. `first` must not be below the log's first sequence, nor
   * among the records that it keeps, but the first of them.
   */
  mend(name: ShardId, continuation: Continuation): Promise<LogState>;
  /** Whether appends can be expected to work now. */
  readonly available: boolean;
  /** Called on every change of `available`. Returns the unsubscriber. */
  onAvailability(listener: (available: boolean) => void): () => void;
  close(): Promise<void>;
}
