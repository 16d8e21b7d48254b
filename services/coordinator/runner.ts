import { backoffMs, type KithError, limits, type Runtime, toKithError } from "../../libs/base/index.js";
import {
  isKnown,
  isLive,
  type NewOperation,
  type Operation,
  type OperationChange,
  type OperationKind,
  type OperationRecord,
  type Operations,
  type Versioned,
} from "../../libs/cluster/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { isWanted, machineOf, makesRoom, type OperationContext, type Outcome } from "./operations/index.js";

export interface RunnerOptions extends Runtime {
  operations: Operations;
  context: OperationContext;
  logger: Logger;
  /** Called when an operation was worked on: it has ended, or waits for its next attempt. */
  onRest: () => void;
}

/** How long an operation waits whose record could not be written. */
const rewriteAfterMs = 2_000;
/** How long what a view of the catalog asks for waits where the catalog itself asks for it no more: the view is late. */
const lateViewMs = 2_000;
/** How long an operation waits after an attempt that failed. */
const retryBackoff = { initialMs: 250, maxMs: 15_000 };

/** An operation whose turn it is. */
interface Due {
  id: string;
  /** Where it is not in the catalog yet, or has ended there though its record says that it is to be done. */
  draft: NewOperation | undefined;
  makesRoom: boolean;
  /** No attempt has failed yet. */
  isFresh: boolean;
}

/** Runs the steps of operations, several operations at once, and writes down how far each is. */
export class OperationRunner {
  readonly #options: RunnerOptions;
  readonly #running = new Map<string, { due: Due; rest: Promise<void> }>();
  /** By id: those whose last attempt failed, with the monotonic milliseconds of the next one. */
  readonly #pausing = new Map<string, number>();
  /** Those that this version does not know, and that have been reported. */
  readonly #unknown = new Set<string>();
  #isClosing = false;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /**
   * Starts what is due: of the operations in the catalog, and of the `drafts`, which are not there yet. What makes room begins first, and
   * what may need the room waits until each of those was tried once.
   */
  start(drafts: Iterable<NewOperation>): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const [id, dueMs] of this.#pausing) if (dueMs <= nowMs) this.#pausing.delete(id);
    if (this.#isClosing || this.#isFull) return;
    const due = [...this.#dueOnes(drafts)];
    for (const each of due) if (each.makesRoom) this.#launch(each);
    const untried = (each: Due): boolean => each.makesRoom && each.isFresh;
    const running = [...this.#running.values()].map((each) => each.due);
    if (due.some(untried) || running.some(untried)) return;
    for (const each of due) this.#launch(each);
  }

  /** Nothing waits any longer for its next attempt: what made attempts fail may be over. */
  hurry(id?: string): void {
    if (id === undefined) this.#pausing.clear();
    else this.#pausing.delete(id);
  }

  /** Monotonic milliseconds of the next attempt of those that wait for one; Infinity for none. */
  get nextAttemptMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...this.#pausing.values());
  }

  /** Resolves when the steps in hand have come to an end. */
  async close(): Promise<void> {
    this.#isClosing = true;
    await Promise.all([...this.#running.values()].map(({ rest }) => rest));
  }

  get #isFull(): boolean {
    return this.#running.size >= limits.operationsInFlight;
  }

  *#dueOnes(drafts: Iterable<NewOperation>): Iterable<Due> {
    const { operations } = this.#options;
    const isDue = (id: string): boolean => !this.#running.has(id) && !this.#pausing.has(id);
    for (const id of operations.live()) {
      const record = operations.get(id)?.value;
      if (record === undefined || !isDue(id)) continue;
      if (!isKnown(record)) this.#reportUnknown(record);
      else yield { id, draft: undefined, makesRoom: makesRoom(record), isFresh: record.attempts === 0 };
    }
    for (const draft of drafts) {
      if (isDue(draft.id)) yield { id: draft.id, draft, makesRoom: makesRoom(draft), isFresh: true };
    }
  }

  #launch(due: Due): void {
    if (this.#isFull || this.#running.has(due.id)) return;
    const rest = this.#run(due).finally(() => {
      this.#running.delete(due.id);
      this.#options.onRest();
    });
    this.#running.set(due.id, { due, rest });
  }

  async #run({ id, draft }: Due): Promise<void> {
    try {
      let current = draft === undefined ? this.#options.operations.get(id) : await this.#open(draft);
      while (current !== undefined && isLive(current.value) && isKnown(current.value) && this.#mayGoOn) {
        current = await this.#advance({ value: current.value, revision: current.revision });
      }
    } catch (error) {
      const { code, message } = toKithError(error);
      this.#pauseFor(id, rewriteAfterMs);
      this.#options.logger.warn(`the operation ${id} cannot be written to the catalog: ${message}`, { code });
    }
  }

  get #mayGoOn(): boolean {
    return !this.#isClosing && this.#options.context.isHolder();
  }

  /** The operation in the catalog. One that has ended there is begun again, if it still is to be done: the catalog was put back. */
  async #open(draft: NewOperation): Promise<Versioned<OperationRecord> | undefined> {
    const { operations, context } = this.#options;
    const known = operations.get(draft.id) ?? (await this.#create(draft));
    if (isLive(known.value)) return known;
    if (!isKnown(known.value) || !(await isWanted(draft, context))) {
      this.#pauseFor(draft.id, lateViewMs);
      return undefined;
    }
    const { step, data } = draft;
    return operations.advance({ value: known.value, revision: known.revision }, {
      state: "running",
      attempts: 0,
      step,
      data,
    } as OperationChange);
  }

  async #create(draft: NewOperation): Promise<Versioned<OperationRecord>> {
    const { operations } = this.#options;
    try {
      return await operations.create(draft);
    } catch (error) {
      const present = toKithError(error).code === "ALREADY_EXISTS" ? await operations.read(draft.id) : undefined;
      if (present === undefined) throw error;
      return present;
    }
  }

  /** Takes a step and writes down what came of it; gives the operation's next record, undefined where it is to rest. */
  async #advance(current: Versioned<Operation>): Promise<Versioned<OperationRecord> | undefined> {
    const { operations, context, logger } = this.#options;
    const { id, subject } = current.value;
    const outcome = await takeStep(current.value, context).catch(toKithError);
    if (!context.isHolder()) return undefined;
    if (!(outcome instanceof Error) && outcome.kind === "wait") {
      this.#pauseFor(id, outcome.ms);
      return this.#unlessChanged(current);
    }
    const isFailed = outcome instanceof Error;
    if (isFailed) this.#pause(current.value, outcome);
    try {
      const next = await operations.advance(current, changeOf(current.value, outcome));
      if (isFailed) return undefined;
      if (!isLive(next.value)) {
        logger.info(`${titleOf(next.value)} is ${next.value.state}`, { collection: subject.collection, operation: id });
        context.placements.settle(subject.collectionId);
        // Others may have waited for the room.
        if (makesRoom(current.value)) this.hurry();
      }
      return next;
    } catch (error) {
      if (toKithError(error).code !== "REVISION_MISMATCH") throw error;
      // It was cancelled meanwhile, or another coordinator has taken over.
      this.#pausing.delete(id);
      const newest = await operations.read(id);
      if (newest === undefined) this.#pauseFor(id, lateViewMs);
      return newest;
    }
  }

  /** Undefined, for it is to rest, unless it was cancelled while its step was looked at. */
  #unlessChanged(current: Versioned<Operation>): Versioned<OperationRecord> | undefined {
    const known = this.#options.operations.get(current.value.id);
    if (known === undefined || known.revision <= current.revision) return undefined;
    this.#pausing.delete(current.value.id);
    return known;
  }

  /** It is said when attempts begin to fail, and when the reason changes. */
  #pause(operation: Operation, { code, message }: KithError): void {
    const { id, subject, attempts, error } = operation;
    this.#pauseFor(id, backoffMs(attempts, retryBackoff, this.#options.random));
    if (error?.message === message) return;
    const fields = { collection: subject.collection, operation: id, code };
    this.#options.logger.warn(`${titleOf(operation)} cannot go on yet: ${message}`, fields);
  }

  #pauseFor(id: string, ms: number): void {
    this.#pausing.set(id, this.#options.clock.monotonicMs() + ms);
  }

  #reportUnknown({ id, kind, version }: OperationRecord): void {
    if (this.#unknown.has(id)) return;
    this.#unknown.add(id);
    this.#options.logger.warn(
      `the operation ${id} (${kind}, version ${version}) is of a newer release than this coordinator: it rests until a newer one takes over`,
      { operation: id },
    );
  }
}

/** A kind that cannot be undone goes on to its end. */
function takeStep<K extends OperationKind>(operation: Operation<K>, context: OperationContext): Promise<Outcome<K>> {
  const machine = machineOf(operation);
  if (operation.state === "cancelling" && machine.undo !== undefined) return machine.undo(operation, context);
  return machine.step(operation, context);
}

function changeOf(
  before: Operation,
  outcome: Exclude<Outcome<OperationKind>, { kind: "wait" }> | KithError,
): OperationChange {
  if (outcome instanceof Error) {
    const { code, message } = outcome;
    return { attempts: before.attempts + 1, error: { code, message } };
  }
  switch (outcome.kind) {
    case "next":
      return { attempts: 0, step: outcome.step, ...(outcome.data && { data: outcome.data }) } as OperationChange;
    case "undo":
      return { attempts: 0, state: "cancelling" };
    case "end":
      if (outcome.state !== "failed") return { attempts: 0, state: outcome.state };
      return { state: "failed", error: { code: outcome.error.code, message: outcome.error.message } };
  }
}

const titles: Record<OperationKind, string> = {
  backup_collection: "backup",
  create_collection: "creation",
  delete_collection: "deletion",
  change_schema: "change of the schema",
  move_replica: "move of a replica",
  promote_generation: "promotion of a generation",
  restore_collection: "restoration",
  split_shard: "split",
  merge_shards: "merge",
};

function titleOf({ kind, subject }: Operation): string {
  const shard = subject.shard === undefined ? "" : `shard ${subject.shard} of `;
  return `the ${titles[kind]} of ${shard}the collection "${subject.collection}"`;
}
