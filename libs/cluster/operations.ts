import { type Clock, KithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import {
  type DataOf,
  isCancellable,
  isKnown,
  isLive,
  type Operation,
  type OperationKind,
  type OperationRecord,
  operationVersion,
  parseOperation,
  type StepOf,
} from "./operation.js";
import { CatalogView, type Versioned } from "./view.js";

/** An operation to begin. */
export type NewOperation<K extends OperationKind = OperationKind> = {
  [T in K]: Pick<Operation<T>, "id" | "kind" | "subject"> & { step: StepOf<T>; data: DataOf<T> };
}[K];

/** What changes of an operation from one record to the next; what is not named stays, but for the error. */
export type OperationChange<K extends OperationKind = OperationKind> = {
  [T in K]: Partial<Pick<Operation<T>, "state" | "step" | "data" | "attempts" | "error">>;
}[K];

/**
 * The operations of the cluster: what is to be done in steps, with how far it is. Every change is compare-and-set, so that of two
 * coordinators that hold the same operation to be theirs, the one that is behind finds out.
 */
export class Operations {
  readonly #view: CatalogView<OperationRecord>;
  readonly #clock: Clock;
  readonly #live = new Set<string>();

  constructor(catalog: Catalog, clock: Clock) {
    this.#clock = clock;
    this.#view = new CatalogView(catalog, "operations", parseOperation);
    this.#view.onChange((id, record) => {
      if (record !== undefined && isLive(record)) this.#live.add(id);
      else this.#live.delete(id);
    });
  }

  /** Resolves when the present operations are here. */
  start(signal?: AbortSignal): Promise<void> {
    return this.#view.start(signal);
  }

  get(id: string): Versioned<OperationRecord> | undefined {
    return this.#view.get(id);
  }

  /** As it is in the catalog now, whatever the view has heard. */
  read(id: string): Promise<Versioned<OperationRecord> | undefined> {
    return this.#view.read(id);
  }

  /** Newest first. */
  list(): OperationRecord[] {
    return this.#view.values().sort((a, b) => b.createdAtMs - a.createdAtMs);
  }

  /** Ids of those that have not ended. */
  live(): Iterable<string> {
    return this.#live;
  }

  /** So many have ended. */
  get endedCount(): number {
    return this.#view.size - this.#live.size;
  }

  /** Called after each change, with undefined for one that was forgotten. Returns the unsubscriber. */
  onChange(listener: (id: string, record: OperationRecord | undefined) => void): () => void {
    return this.#view.onChange(listener);
  }

  /** ALREADY_EXISTS where the id is taken. */
  async create<K extends OperationKind>(operation: NewOperation<K>): Promise<Versioned<Operation<K>>> {
    const nowMs = this.#clock.nowMs();
    const record: OperationRecord = {
      version: operationVersion,
      ...operation,
      state: "running",
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      attempts: 0,
    };
    return (await this.#view.create(operation.id, record)) as Versioned<Operation<K>>;
  }

  /**
   * The operation's next record. REVISION_MISMATCH where `current` is not the newest one: somebody else advanced or cancelled the
   * operation, or has forgotten it.
   */
  async advance<K extends OperationKind>(
    current: Versioned<Operation<K>>,
    change: OperationChange<K>,
  ): Promise<Versioned<Operation<K>>> {
    const next = { ...withoutError(current.value), ...change, updatedAtMs: this.#clock.nowMs() } as Operation<K>;
    return (await this.#view.replace(next.id, next, current.revision)) as Versioned<Operation<K>>;
  }

  /**
   * Asks for the operation to be undone; the coordinator does it. No error where that was asked already. NOT_FOUND for an unknown id,
   * FAILED_PRECONDITION where the operation has ended, or is of a kind that is never undone.
   */
  async cancel(id: string): Promise<OperationRecord> {
    return this.#view.modify(id, (record) => {
      if (record.state === "cancelling") return undefined;
      if (!isLive(record)) throw refused(record, `has ended already: it is ${record.state}`);
      if (!isKnown(record)) throw refused(record, "is of a newer version than this node: ask a newer one");
      if (!isCancellable(record)) throw refused(record, `cannot be cancelled: no ${record.kind} can`);
      return { ...withoutError(record), state: "cancelling", attempts: 0, updatedAtMs: this.#clock.nowMs() };
    });
  }

  /** Forgets the oldest of those that have ended, but for `keep`. */
  async prune(keep: number): Promise<void> {
    const ended = this.#view
      .values()
      .filter((record) => !isLive(record))
      .sort((a, b) => b.updatedAtMs - a.updatedAtMs);
    for (const { id } of ended.slice(keep)) await this.#view.delete(id, (record) => !isLive(record));
  }

  close(): Promise<void> {
    return this.#view.close();
  }
}

function withoutError(record: OperationRecord): OperationRecord {
  const copy = { ...record };
  delete copy.error;
  return copy;
}

function refused({ id, kind }: OperationRecord, why: string): KithError {
  return new KithError("FAILED_PRECONDITION", `the operation ${id} ${why}`, { details: { operation: id, kind } });
}
