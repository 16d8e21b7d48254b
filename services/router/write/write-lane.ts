import {
  abortReason,
  assert,
  deferred,
  type Deferred,
  KithError,
  limits,
  reasonOf,
  type Runtime,
  toKithError,
  withTimeout,
} from "../../../libs/base/index.js";
import type { Log } from "../../../libs/log/index.js";
import { idMapKey, type OperationEffect, type OperationOutcome, type ShardId } from "../../../libs/model/index.js";
import type { ShardApi } from "../../../libs/shard-api/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import {
  histogramOf,
  registerGauge,
  startSpan,
  type TraceContext,
  traceparentOf,
} from "../../../libs/telemetry/index.js";
import { encodeRecord, type ipb } from "../../../libs/wire/index.js";
import { askActive } from "../routing/active.js";
import type { RoutedShard } from "../routing/routed-shard.js";

export type Ack = "log" | "applied" | "all";

export interface WriteResult {
  sequence: number;
  /** Undefined with ack "log". */
  outcome: OperationEffect | undefined;
}

interface Pending {
  operation: ipb.Operation;
  sizeBytes: number;
  ack: Ack;
  isAlone: boolean;
  call: CallContext;
  done: Deferred<WriteResult>;
}

/** What is left of a write whose record is in the log. */
interface Waiting {
  operationId: Uint8Array;
  done: Deferred<WriteResult>;
}

export interface WriteLaneOptions extends Runtime {
  log: Log;
  id: ShardId;
  /** Name of the collection at first, for measurements; see `route`. */
  collection: string;
}

const appendDuration = histogramOf("kith.log.append.duration");

/** How long one append may take before its writers are told that the outcome is unknown. */
const appendTimeoutMs = 15_000;
/** How long the router itself waits for a record to be applied; a writer's own deadline is usually shorter. */
const applyTimeoutMs = 60_000;

/**
 * The way of all writes to one shard. While an append is in flight, further operations queue and go out together in
 * the next record (group commit): one fsync serves many clients.
 */
export class WriteLane {
  readonly #options: WriteLaneOptions;
  #queue: Pending[] = [];
  #queuedBytes = 0;
  /** Records in the log whose writers wait for a replica. */
  #unconfirmed = 0;
  #appending = false;
  #closed: KithError | undefined;
  #shard: RoutedShard | undefined;
  #epoch = 0;
  #collection: string;
  #lastSequence = 0;
  readonly #unregister: () => void;

  constructor(options: WriteLaneOptions) {
    this.#options = options;
    this.#collection = options.collection;
    const { shard } = options.id;
    this.#unregister = registerGauge("kith.write.pending", (report) =>
      report(this.#queuedBytes, { "kith.collection": this.#collection, "kith.shard": shard }),
    );
  }

  /** Id of its shard. */
  get shard(): number {
    return this.#options.id.shard;
  }

  /** Of the last record that this lane has appended, 0 before the first: not the highest one, for the log may have been replaced. */
  get lastSequence(): number {
    return this.#lastSequence;
  }

  /** Tells the lane where its shard's replicas are now, and the present name of its collection. */
  route(shard: RoutedShard, epoch: number, collection = this.#collection): void {
    this.#collection = collection;
    this.#shard = shard;
    this.#epoch = epoch;
  }

  /**
   * Appends the operation with its neighbours in time, or in a record of its own. Rejects with the caller's deadline even while the
   * append goes on. Operations of one turn of the event loop come into the log in the order of the calls.
   */
  write(
    operation: ipb.Operation,
    sizeBytes: number,
    ack: Ack,
    call: CallContext,
    isAlone = false,
  ): Promise<WriteResult> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (call.signal?.aborted) return Promise.reject(abortReason(call.signal));
    if (this.#queuedBytes + sizeBytes > limits.pendingWriteBytes && this.#queue.length > 0) {
      return Promise.reject(
        new KithError(
          "RESOURCE_EXHAUSTED",
          `${this.#queuedBytes} bytes of writes wait for shard ${this.#options.id.shard}; slow down and try again`,
          { details: { queuedBytes: this.#queuedBytes, limitBytes: limits.pendingWriteBytes }, retryAfterMs: 100 },
        ),
      );
    }
    if (ack !== "log" && this.#unconfirmed >= limits.unconfirmedRecords) {
      return Promise.reject(
        new KithError(
          "RESOURCE_EXHAUSTED",
          `${this.#unconfirmed} records of shard ${this.#options.id.shard} wait to be applied by a replica; slow down, or write with the acknowledgement LOG`,
          {
            details: { unconfirmedRecords: this.#unconfirmed, limitRecords: limits.unconfirmedRecords },
            retryAfterMs: 100,
          },
        ),
      );
    }
    const pending: Pending = { operation, sizeBytes, ack, isAlone, call, done: deferred() };
    this.#queue.push(pending);
    this.#queuedBytes += sizeBytes;
    // Operations of the same turn of the event loop share the first record too.
    if (!this.#appending) {
      this.#appending = true;
      this.#options.clock.soon(() => void this.#drain());
    }
    return withCallSignal(pending);
  }

  /** Refuses what waits and what comes. Appends in flight end by themselves. */
  close(reason: KithError): void {
    this.#closed = reason;
    this.#unregister();
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const pending of queue) pending.done.reject(reason);
  }

  async #drain(): Promise<void> {
    try {
      while (this.#queue.length > 0) await this.#appendNext(this.#take());
    } finally {
      this.#appending = false;
    }
  }

  /**
   * The next record's operations: in order of arrival, up to the record size, without those whose caller has gone; or one that goes
   * alone. No id stands twice in it: what became of an operation is asked by record and id.
   */
  #take(): Pending[] {
    const taken: Pending[] = [];
    const ids = new Set<string>();
    let bytes = 0;
    let count = 0;
    for (const pending of this.#queue) {
      const id = idMapKey(pending.operation.operationId);
      const isFull = bytes + pending.sizeBytes > limits.recordBytes;
      if (taken.length > 0 && (isFull || ids.has(id) || pending.isAlone || taken[0]?.isAlone === true)) break;
      count++;
      this.#queuedBytes -= pending.sizeBytes;
      if (pending.call.signal?.aborted) {
        pending.done.reject(abortReason(pending.call.signal));
        continue;
      }
      bytes += pending.sizeBytes;
      ids.add(id);
      taken.push(pending);
    }
    this.#queue.splice(0, count);
    return taken;
  }

  async #appendNext(group: Pending[]): Promise<void> {
    if (group.length === 0) return;
    const { log, clock, random, id } = this.#options;
    const span = startSpan((group[0] as Pending).call.trace, "log.append", {
      role: "producer",
      attributes: { "kith.shard": id.shard, "kith.operations": group.length },
      links: group.map((pending) => pending.operation.traceparent).filter((text) => text !== ""),
    });
    try {
      const record = encodeRecord({
        epoch: this.#epoch,
        appendedAtMs: clock.nowMs(),
        operations: group.map((pending) => pending.operation),
      });
      span.set("kith.record.bytes", record.length);
      const startMs = clock.monotonicMs();
      const messageId = random.uuid();
      const traceparent = traceparentOf(span.trace) || undefined;
      const applied = this.#appliedSequence();
      const { sequence } = await withTimeout(clock, appendTimeoutMs, (signal) =>
        // Who waits for no replica must know from the log that the record counts.
        log.append(id, record, { messageId, traceparent, signal, fenced: group.some(({ ack }) => ack === "log") }),
      );
      if (sequence <= applied) throw putBack(id.shard, sequence, applied);
      this.#lastSequence = sequence;
      appendDuration.record((clock.monotonicMs() - startMs) / 1000);
      span.set("kith.sequence", sequence);
      span.end();
      this.#settle(group, sequence);
    } catch (error) {
      span.end(error);
      const failure = this.#closed ?? this.#explain(toKithError(error));
      for (const pending of group) pending.done.reject(failure);
    }
  }

  /** What replicas that can be asked said last that they have applied. */
  #appliedSequence(): number {
    const replicas = this.#shard?.replicas.filter(({ node }) => node.usable) ?? [];
    return replicas.reduce((most, { status }) => Math.max(most, status?.appliedSequence ?? 0), 0);
  }

  #explain(error: KithError): KithError {
    if (error.code === "NOT_FOUND") {
      return new KithError("SHARD_UNAVAILABLE", `shard ${this.#options.id.shard} has no log: ${error.message}`, {
        cause: error,
      });
    }
    if (error.code === "DEADLINE_EXCEEDED" || error.code === "CANCELLED") {
      return new KithError(
        "DEADLINE_EXCEEDED",
        `the log did not confirm the write within ${appendTimeoutMs} ms: its outcome is unknown; repeat it with the same idempotency key`,
        { cause: error },
      );
    }
    return error;
  }

  #settle(group: Pending[], sequence: number): void {
    for (const pending of group) if (pending.ack === "log") pending.done.resolve({ sequence, outcome: undefined });
    for (const ack of ["applied", "all"] as const) {
      const waiting = group.filter((pending) => pending.ack === ack);
      const [first] = waiting;
      if (first === undefined) continue;
      // Without the operations, so that replicas that lag do not keep what was written in memory.
      const left = waiting.map(({ operation, done }): Waiting => ({ operationId: operation.operationId, done }));
      void this.#whenApplied(left, sequence, ack === "all", first.call.trace);
    }
  }

  /** Answers the writers of a record; ends when all of them have gone. */
  async #whenApplied(
    group: readonly Waiting[],
    sequence: number,
    everywhere: boolean,
    trace: TraceContext,
  ): Promise<void> {
    const shard = this.#shard;
    assert(shard !== undefined, "a write lane appended before it was routed");
    const answered = new AbortController();
    void Promise.allSettled(group.map(({ done }) => done.promise)).then(() => answered.abort());
    const deadlineMs = this.#options.clock.monotonicMs() + applyTimeoutMs;
    const call: CallContext = { signal: answered.signal, deadlineMs, trace };
    const ids = group.map(({ operationId }) => operationId);
    const wait = (api: ShardApi, context: CallContext): Promise<OperationOutcome[]> =>
      api.wait(shard.id, sequence, ids, context);
    this.#unconfirmed++;
    let outcomes: readonly OperationOutcome[] | KithError;
    try {
      outcomes = everywhere
        ? (await askActive(shard, sequence, call, wait, { joining: true }))[0]
        : await shard.ask(call, wait);
    } catch (error) {
      const failure = toKithError(error);
      // Behind the seal of the log it has had no effect, and never will.
      outcomes = failure.code === "STALE_EPOCH" ? failure : unconfirmed(shard, sequence, failure);
    }
    this.#unconfirmed--;
    group.forEach(({ done }, i) => {
      const outcome = outcomes instanceof KithError ? outcomes : outcomes[i];
      // An operation that was refused fails its own writer, not those who share its record.
      if (outcome instanceof KithError) done.reject(outcome);
      else done.resolve({ sequence, outcome });
    });
  }
}

/** A record cannot come in behind which replicas are already: their log is another one, and what they tell of its sequences is of before. */
function putBack(shard: number, sequence: number, applied: number): KithError {
  return new KithError(
    "LOG_UNAVAILABLE",
    `the log of shard ${shard} was put back to an earlier state: it gave the write the sequence ${sequence}, and replicas have applied ${applied}; ` +
      "the outcome is unknown until the log is mended: repeat the write with the same idempotency key",
    { details: { shard, sequence, applied }, retryAfterMs: 2_000 },
  );
}

function unconfirmed(shard: RoutedShard, sequence: number, cause: KithError): KithError {
  return new KithError(
    "SHARD_UNAVAILABLE",
    `the write is durable at sequence ${sequence} of shard ${shard.id.shard}, but no replica has confirmed it: ${reasonOf(cause)}; repeating it with the same idempotency key is safe`,
    { details: { shard: shard.id.shard, sequence }, cause, retryAfterMs: 200 },
  );
}

/** The pending write's result, or the caller's abort, whichever is first. */
function withCallSignal({ call, done }: Pending): Promise<WriteResult> {
  const { signal } = call;
  if (signal === undefined) return done.promise;
  const onAbort = (): void => {
    const reason = abortReason(signal);
    done.reject(
      reason.code === "DEADLINE_EXCEEDED"
        ? new KithError(
            "DEADLINE_EXCEEDED",
            "the deadline passed before the write was confirmed: its outcome is unknown; repeat it with the same idempotency key",
            { cause: reason },
          )
        : reason,
    );
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return done.promise.finally(() => signal.removeEventListener("abort", onAbort));
}
