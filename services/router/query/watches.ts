import { backoffMs, type Clock, KithError, limits, type Random, sleep, toKithError } from "../../../libs/base/index.js";
import type { CallAccess, CallContext, RowRule } from "../../../libs/call/index.js";
import { type Collection, checkQueryVector, fieldOf, type Filter } from "../../../libs/model/index.js";
import type { ServerStream } from "../../../libs/rpc/server/index.js";
import type {
  ChangeKind,
  ChangeNear,
  ChangePlace,
  ShardChange,
  ShardChangesOf,
} from "../../../libs/shard-api/index.js";
import { filterFromWire, pb } from "../../../libs/wire/index.js";
import { accessOf, narrowed, ruleOf, seeing } from "../access.js";
import type { Gate } from "../door.js";
import { idOf } from "../ids.js";
import { scoped } from "../partitions.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { pointToWire } from "./points.js";
import { type Selection, selectionOf, tokenSequences } from "./read-options.js";
import { VisibleChanges } from "./visible-changes.js";

export interface WatchesOptions {
  routingTable: RoutingTable;
  clock: Clock;
  random: Random;
}

type WatchStream = ServerStream<pb.WatchRequest, pb.WatchResponse>;

/** Streams of one router; each asks every shard of its collection for changes all the time. */
const watchesMax = 1_024;
const batchDefault = 256;
/** A shard is asked for so long before it answers that nothing has changed. */
const waitMs = 5_000;
/** A shard that cannot be asked is tried again for so long. */
const outageMs = 15_000;
const retryPause = { initialMs: 50, maxMs: 1_000 };
/** How often is looked for shards that have come. */
const shardsEveryMs = 1_000;

const kindNumber: Record<ChangeKind, pb.ChangeKind> = {
  insert: pb.ChangeKind.INSERT,
  update: pb.ChangeKind.UPDATE,
  delete: pb.ChangeKind.DELETE,
  truncate: pb.ChangeKind.TRUNCATE,
};

/** Serves Changes.Watch: asks a replica of each shard for what has changed, from wherever the last one has answered. */
export class Watches {
  readonly #options: WatchesOptions;
  #count = 0;

  constructor(options: WatchesOptions) {
    this.#options = options;
  }

  async serve(stream: WatchStream, gate: Gate): Promise<void> {
    const request = await new Promise<pb.WatchRequest>((resolve, reject) => {
      stream.onMessage(resolve);
      void stream.ended.then(() => reject(new KithError("INVALID_ARGUMENT", "the stream ended before its request")));
    });
    if (this.#count >= watchesMax) {
      throw new KithError("RESOURCE_EXHAUSTED", `this router serves ${watchesMax} watches already`, {
        details: { limit: watchesMax },
        retryAfterMs: 5_000,
      });
    }
    this.#count++;
    try {
      stream.open();
      const { epochs } = this.#options.routingTable;
      await gate.run(request.collection, stream.call, async () => {
        const begin = async (): Promise<Watch> =>
          Promise.resolve(new Watch(this.#options, stream, request, gate, accessOf(stream.call)));
        await (await epochs.retrying(request.collection, stream.call, begin)).run();
      });
    } finally {
      this.#count--;
    }
  }
}

/** One client that watches. */
class Watch {
  readonly #options: WatchesOptions;
  readonly #stream: WatchStream;
  readonly #collectionId: string;
  readonly #name: string;
  readonly #asked: Pick<ShardChangesOf, "limit" | "filter" | "near" | "before">;
  readonly #selection: Selection;
  readonly #from: ((shard: number) => number) | undefined;
  readonly #token: pb.Token | undefined;
  /** What has been told of each shard. */
  readonly #places = new Map<number, ChangePlace>();
  readonly #ended = new AbortController();
  readonly #gate: Gate;
  /** Asked for anew as long as the watch goes on. */
  #access: CallAccess;

  /** Throws what is wrong with the request. */
  constructor(options: WatchesOptions, stream: WatchStream, request: pb.WatchRequest, gate: Gate, access: CallAccess) {
    this.#options = options;
    this.#stream = stream;
    this.#gate = gate;
    this.#access = access;
    const collection = options.routingTable.resolve(request.collection, this.#call);
    const { record } = collection;
    this.#collectionId = record.id;
    this.#name = request.collection;
    const { batch, from, before } = request;
    if (batch > limits.scrollLimit) {
      throw new KithError("LIMIT_OUT_OF_RANGE", `batch is ${batch}; it must be in 1..${limits.scrollLimit}`, {
        details: { field: "batch", value: batch, min: 1, max: limits.scrollLimit },
      });
    }
    const filter: Filter | undefined = request.filter && filterFromWire(request.filter);
    this.#asked = { limit: batch === 0 ? batchDefault : batch, filter, near: nearOf(record, request.near), before };
    const all = { payload: true, vectors: [], allVectors: false, include: [], exclude: [] };
    this.#selection = selectionOf(record, request.select ?? all);
    this.#token = from;
    this.#from =
      from === undefined || from.shards.length === 0 ? undefined : tokenSequences(collection, from, this.#name);
  }

  async run(): Promise<void> {
    const { call } = this.#stream;
    const onAbort = (): void => this.#ended.abort(call.signal.reason);
    call.signal.addEventListener("abort", onAbort, { once: true });
    // A server that drains sends its clients to another one, which goes on from their tokens.
    void this.#stream.ended.then(() => {
      const why = new KithError("SHUTTING_DOWN", "the router is shutting down; go on at another", {
        retryAfterMs: 100,
      });
      this.#ended.abort(why);
    });
    const running = new Map<number, Promise<void>>();
    try {
      await this.#begin();
      await this.#send([]);
      this.#follow(running);
      while (!this.#signal.aborted) {
        await sleep(this.#options.clock, shardsEveryMs, this.#signal).catch(() => undefined);
        if (this.#signal.aborted) break;
        await this.#readmit();
        this.#follow(running);
      }
    } finally {
      call.signal.removeEventListener("abort", onAbort);
      if (!this.#signal.aborted) this.#ended.abort();
      await Promise.all(running.values());
    }
    const { reason } = this.#signal as { reason: unknown };
    if (reason instanceof KithError && !call.signal.aborted) throw reason;
  }

  get #call(): CallContext {
    return { signal: this.#signal, trace: this.#stream.call.trace, access: this.#access };
  }

  /** Ends the watch of somebody whose key is not good any more; what it may do now, #shards() finds out. */
  async #readmit(): Promise<void> {
    this.#access = await this.#gate.admit();
  }

  /** What of the collection is there for the caller. */
  #rule(): RowRule | undefined {
    const collection = this.#options.routingTable.resolve(this.#name, this.#call);
    return ruleOf(this.#call, collection.record);
  }

  get #signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** Where the client begins at each shard. */
  async #begin(): Promise<void> {
    await Promise.all(
      this.#shards().map(async (shard) => {
        const sequence = this.#from?.(shard.id.shard);
        if (sequence !== undefined && this.#beginsBefore(shard, sequence)) return;
        const place = sequence === undefined ? (await this.#ask(shard, undefined))?.place : { sequence, offset: 0 };
        if (place !== undefined) this.#places.set(shard.id.shard, place);
      }),
    );
  }

  /**
   * A token of before a merge tells where the shards were left that were merged: these are followed to their ends first. TOKEN_EXPIRED where they are
   * gone. False for a token of the shard itself, and of one that was not merged.
   */
  #beginsBefore({ placement }: RoutedShard, sequence: number): boolean {
    const { ends } = placement.origin?.merge ?? {};
    if (ends === undefined || sequence >= ends.adopted) return false;
    const told = this.#token?.shards ?? [];
    const merged = new Set(ends.parents.map(({ shard }) => shard));
    // What was seen of shards from which these had come.
    const older = told.filter(({ shard }) => !merged.has(shard) && placement.origin?.ancestors.includes(shard));
    for (const { shard, sequence: end } of ends.parents) {
      const own = [...older, ...told.filter((each) => each.shard === shard)].map((each) => each.sequence);
      const place = { sequence: Math.max(0, ...own), offset: 0 };
      if (place.sequence < end && this.#collection().find(shard) === undefined) throw expired(shard);
      this.#places.set(shard, place);
    }
    return true;
  }

  #collection(): RoutedCollection {
    const collection = this.#options.routingTable.resolve(this.#name, this.#call);
    if (collection.record.id !== this.#collectionId) {
      throw new KithError(
        "COLLECTION_NOT_FOUND",
        `the collection "${this.#name}" was deleted and made anew meanwhile`,
        {
          details: { collection: this.#name },
        },
      );
    }
    return collection;
  }

  #shards(): readonly RoutedShard[] {
    return this.#collection().shards;
  }

  /**
   * The shard, while it is to be asked: it has slots, or it was merged into another one and its last changes were not told. Undefined where those that have
   * its slots by now go on from where it was left. TOKEN_EXPIRED where they cannot.
   */
  #find(number: number): RoutedShard | undefined {
    const collection = this.#collection();
    const own = collection.shards.find(({ id }) => id.shard === number);
    const ends = collection.shards.flatMap(({ placement }) => placement.origin?.merge?.ends?.parents ?? []);
    const end = ends.find(({ shard }) => shard === number);
    if (own !== undefined || end === undefined) return own;
    if ((this.#places.get(number)?.sequence ?? 0) >= end.sequence) return undefined;
    const sealed = collection.find(number);
    if (sealed === undefined) throw expired(number);
    return sealed;
  }

  /** Follows each shard; one that has come since is followed from its beginning. */
  #follow(running: Map<number, Promise<void>>): void {
    try {
      const shards = this.#shards();
      const isLeft = (shard: number): boolean => !running.has(shard) && this.#find(shard) !== undefined;
      // Those that were merged, and are told to their ends.
      const merged = shards.flatMap(({ placement }) => placement.origin?.merge?.ends?.parents ?? []);
      const left = merged.filter(({ shard }) => this.#places.has(shard) && isLeft(shard));
      const leftShards = left.flatMap(({ shard }) => this.#find(shard) ?? []);
      for (const { id, placement } of [...leftShards, ...shards]) {
        const { shard } = id;
        if (running.has(shard)) continue;
        const { ancestors = [], merge } = placement.origin ?? {};
        // What its slots have been told of so far has not come to its end.
        if (ancestors.some((each) => running.has(each))) continue;
        const adopted = merge?.ends?.adopted;
        const begin = adopted === undefined ? this.#placeBehind(ancestors) : { sequence: adopted, offset: 0 };
        if (!this.#places.has(shard)) this.#places.set(shard, begin);
        const ended = this.#shard(shard).then(
          () => {
            running.delete(shard);
            if (!this.#signal.aborted) this.#follow(running);
          },
          (error: unknown) => {
            if (!this.#signal.aborted) this.#ended.abort(toKithError(error));
          },
        );
        running.set(shard, ended);
      }
      // Where one of several shards was left that were merged is to be known until all of them are told.
      const waiting = shards.filter(({ id }) => !running.has(id.shard));
      const isAwaited = (shard: number): boolean =>
        waiting.some(({ placement }) => placement.origin?.ancestors.includes(shard) === true);
      for (const shard of this.#places.keys()) {
        if (!running.has(shard) && !isAwaited(shard)) this.#places.delete(shard);
      }
    } catch (error) {
      this.#ended.abort(toKithError(error));
    }
  }

  /** Where the last of the shards was left that have had a shard's slots before; the first record where none has. */
  #placeBehind(ancestors: readonly number[]): ChangePlace {
    const sequences = ancestors.map((each) => this.#places.get(each)?.sequence ?? 0);
    return { sequence: Math.max(0, ...sequences), offset: 0 };
  }

  /** Until the watch ends, or the shard has no slots any more: those that have them then go on from where it was left. */
  async #shard(number: number): Promise<void> {
    while (!this.#signal.aborted) {
      const shard = this.#find(number);
      if (shard === undefined) return;
      const place = this.#places.get(number);
      const answer = await this.#ask(shard, place);
      if (this.#signal.aborted || answer === undefined) return;
      const { changes, place: next } = answer;
      // Changes may have waited long: nobody gets them who could not ask for them now.
      await this.#readmit();
      const visible = new VisibleChanges(this.#rule(), this.#asked.before, this.#selection.select).of(changes);
      this.#places.set(number, next);
      const isFurther = next.sequence !== place?.sequence;
      if (visible.length > 0 || isFurther) {
        await this.#send(visible.map((change) => this.#changeTo(number, change)));
      }
    }
  }

  /** One that cannot be asked now may be in a moment. Undefined where it has no slots any more. */
  async #ask(
    shard: RoutedShard,
    after: ChangePlace | undefined,
  ): Promise<{ changes: ShardChange[]; place: ChangePlace } | undefined> {
    const { clock, random } = this.#options;
    const untilMs = clock.monotonicMs() + outageMs;
    for (let attempt = 0; ; attempt++) {
      const call = this.#call;
      const collection = this.#options.routingTable.resolve(this.#name, call);
      const rule = this.#rule();
      const request: ShardChangesOf = {
        ...this.#asked,
        filter: scoped(collection, narrowed(this.#asked.filter, rule), undefined).filter,
        before: this.#asked.before || rule !== undefined,
        select: seeing(this.#selection.select, rule),
        after,
        waitMs: after === undefined ? 0 : waitMs,
        minSequence: 0,
      };
      try {
        return await shard.ask(call, (api, context) => api.read("changes", shard.id, request, context));
      } catch (error) {
        const { retryable } = toKithError(error);
        if (this.#signal.aborted || !retryable || clock.monotonicMs() >= untilMs) throw error;
        await sleep(clock, backoffMs(attempt, retryPause, random), this.#signal);
        // It may be placed elsewhere by now.
        const now = this.#find(shard.id.shard);
        if (now === undefined) return undefined;
        shard = now;
      }
    }
  }

  /** Waits while the client takes nothing: so nothing is asked for, either. */
  async #send(changes: pb.Change[]): Promise<void> {
    this.#stream.write({ changes, token: this.#placesToken() });
    await this.#stream.drained();
  }

  /** Of a record that was told in part, the one before: it comes again as a whole. */
  #placesToken(): pb.Token {
    const shards = Array.from(this.#places, ([shard, { sequence }]) => ({ shard, sequence }));
    return { collectionId: this.#collectionId, shards };
  }

  #changeTo(shard: number, { kind, id, sequence, before, after, score }: ShardChange): pb.Change {
    const { payload } = this.#selection;
    return {
      ...{ kind: kindNumber[kind], id: kind === "truncate" ? undefined : idOf(id), shard, sequence, score },
      before: before && pointToWire(before, payload),
      after: after && pointToWire(after, payload),
    };
  }
}

function expired(shard: number): KithError {
  return new KithError(
    "TOKEN_EXPIRED",
    `shard ${shard} was merged into another one, and its last changes are not kept any more; read the points anew, and watch from then on`,
    { details: { shard } },
  );
}

function nearOf(collection: Collection, near: pb.WatchRequest_Near | undefined): ChangeNear | undefined {
  if (near === undefined) return undefined;
  const field = fieldOf(collection, near.using);
  const vector = near.vector?.values ?? new Float32Array(0);
  checkQueryVector(field, vector, () => "near.vector", near.vector?.rows);
  const { threshold } = near;
  if (!Number.isFinite(threshold)) {
    throw new KithError("INVALID_ARGUMENT", `near.threshold is ${threshold}; it must be a finite number`, {
      details: { field: "near.threshold", value: String(threshold) },
    });
  }
  return { field: near.using, vector, threshold };
}
