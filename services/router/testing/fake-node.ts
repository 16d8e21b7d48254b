import { abortReason, KithError, systemClock, withTimeout } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import {
  idFromNum,
  idMapKey,
  type OperationOutcome,
  type ReplicaState,
  type ReplicaStatus,
  type ShardId,
  type ShardQuery,
} from "../../../libs/model/index.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../../../libs/shard-api/index.js";
import type { ShardNode } from "../routing/replica-handle.js";

type Answers = { [K in ReadKind]: (replica: ShardId, request: ReadRequest<K>) => Promise<ReadAnswer<K>> };

/** A node whose replicas all have the same state and the same points; tests replace what they want to see called. */
export class FakeNode implements ShardNode, ShardApi {
  readonly zone = "";
  readonly api = this;
  usable = true;
  /** Whether it applies nothing by itself. Otherwise it has at once whatever it is asked to have, as one that follows its log closely. */
  hangs = false;
  /** How often something was waited for. */
  waits = 0;
  /** What it was told to have applied before it is active. */
  promised = 0;
  /** Points that exist, as idMapKey gives their ids. */
  readonly ids = new Set<string>();
  queries: ShardQuery[] = [];
  #applied = 0;
  readonly #waiting = new Set<() => void>();

  /** `state`: "opening" for replicas that cannot be asked yet. */
  constructor(
    readonly id: string,
    public state: ReplicaState | "opening" = "active",
  ) {}

  /** With the points 1 to `count`. */
  withPoints(count: number): this {
    for (let num = 1; num <= count; num++) this.ids.add(idMapKey(idFromNum(num)));
    return this;
  }

  get applied(): number {
    return this.#applied;
  }

  set applied(sequence: number) {
    this.#applied = sequence;
    for (const look of this.#waiting) look();
  }

  async read<K extends ReadKind>(
    kind: K,
    replica: ShardId,
    request: ReadRequest<K>,
    call: CallContext,
  ): Promise<ReadAnswer<K>> {
    await this.#reach(request.minSequence, call);
    return this.reads[kind](replica, request);
  }

  readonly reads: Answers = {
    query: (_replica, query) => {
      this.queries.push(query);
      return Promise.resolve({ hits: [], plan: "exact", sequence: this.applied });
    },
    get: (_replica, { ids }) => {
      const points = ids
        .filter((id) => this.ids.has(idMapKey(id)))
        .map((id) => ({ id, version: 1, payload: new Uint8Array() }));
      return Promise.resolve({ points, sequence: this.applied });
    },
    scroll: () => Promise.resolve({ points: [], end: true, sequence: this.applied }),
    count: () => Promise.resolve({ count: this.ids.size, sequence: this.applied }),
    terms: () => Promise.resolve({ pointCount: 0, lengths: [], counts: [], expansions: [], sequence: this.applied }),
    text: () => Promise.resolve({ hits: [], sequence: this.applied }),
    indices: () => Promise.resolve({ pointCount: 0, counts: [], sequence: this.applied }),
    sparse: () => Promise.resolve({ hits: [], sequence: this.applied }),
    search: () => Promise.resolve({ hits: [], sequence: this.applied }),
    order: () => Promise.resolve({ hits: [], sequence: this.applied }),
    sample: () => Promise.resolve({ hits: [], sequence: this.applied }),
    facet: () => Promise.resolve({ counts: [], sequence: this.applied }),
    trial: () => Promise.resolve({ rows: 0, trials: [], sequence: this.applied }),
    changes: () =>
      Promise.resolve({ changes: [], place: { sequence: this.applied, offset: 0 }, sequence: this.applied }),
  };

  wait = async (
    _replica: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    call: CallContext,
  ): Promise<OperationOutcome[]> => {
    this.waits++;
    await this.#reach(sequence, call);
    return operationIds.map(() => ({ affected: 1, failures: [] }));
  };

  waitIndexed = async (_replica: ShardId, call: CallContext): Promise<number> => {
    this.waits++;
    await this.#reach(0, call);
    return this.ids.size;
  };

  status = async (_replica: ShardId, minSequence: number, _call: CallContext): Promise<ReplicaStatus> => {
    this.promised = Math.max(this.promised, minSequence);
    const { state } = this;
    if (state === "opening") throw this.#opening();
    return {
      state,
      appliedSequence: this.applied,
      pointCount: this.ids.size,
      indexedVectorCount: this.ids.size,
      unindexedVectorCount: 0,
      memoryBytes: 0,
      diskBytes: 0,
      digest: "",
      digestFormat: 1,
      fault: "",
      schemaVersion: 1,
      payloadIndexes: [],
      unindexedFields: [],
    };
  };

  async #reach(sequence: number, { signal, deadlineMs }: CallContext): Promise<void> {
    if (this.state === "opening") throw this.#opening();
    if (!this.hangs && sequence > this.applied) this.applied = sequence;
    if (sequence <= this.applied) return;
    if (deadlineMs === undefined) return this.#until(sequence, signal);
    const leftMs = Math.max(0, deadlineMs - systemClock.monotonicMs());
    return withTimeout(systemClock, leftMs, (ended) => this.#until(sequence, ended), signal);
  }

  #until(sequence: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (signal?.aborted) reject(abortReason(signal));
        else if (this.applied >= sequence) resolve();
        else return;
        this.#waiting.delete(look);
        signal?.removeEventListener("abort", look);
      };
      this.#waiting.add(look);
      signal?.addEventListener("abort", look);
      look();
    });
  }

  #opening(): KithError {
    return new KithError("SHARD_UNAVAILABLE", `node ${this.id} is still opening the replica`);
  }
}
