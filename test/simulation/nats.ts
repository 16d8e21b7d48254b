import { crc32c, deferred, KithError, sleep, toKithError, withTimeout } from "../../libs/base/index.js";
import {
  type Catalog,
  type CatalogChange,
  type CatalogEntry,
  type CatalogWatch,
  openEmbeddedCatalog,
} from "../../libs/catalog/index.js";
import {
  type Append,
  type AppendOptions,
  type Continuation,
  type CreateOptions,
  type Log,
  type LogEntry,
  type LogState,
  type LogSubscription,
  openEmbeddedLog,
  type SubscribeOptions,
} from "../../libs/log/index.js";
import {
  type Collection,
  parseCollection,
  type RestoreOrigin,
  type ShardId,
  type ShardPlacement,
} from "../../libs/model/index.js";
import type { pb } from "../../libs/wire/index.js";
import { type Disk, Mount } from "./disk.js";
import { mount } from "./files.js";
import type { Broken, Network } from "./network.js";
import { Process, type World } from "./world.js";

/** The node that keeps the logs and the catalog. */
export const natsName = "nats";

/** As the NATS adapter: one attempt of an append, all of them, and how long a server that is away is waited for. */
const attemptMs = 2_500;
const appendMs = 15_000;
const outageMs = 2_500;
const retryMs = 50;
/** A subscription or watch that broke begins again after so long. */
const reconnectMs = 200;
const restartMs = 500;

/** Logs and catalog of the whole cluster in one process, on one disk that syncs: what NATS is to the nodes, with the embedded adapters. */
export class Nats {
  readonly #world: World;
  readonly #network: Network;
  readonly #disk: Disk;
  readonly #ledger: Ledger;
  readonly #duplicateCount: number;
  #process: Process | undefined;
  #log: Log | undefined;
  #catalog: Catalog | undefined;

  constructor(world: World, network: Network, disk: Disk, ledger: Ledger, duplicateCount: number) {
    this.#world = world;
    this.#network = network;
    this.#disk = disk;
    this.#ledger = ledger;
    this.#duplicateCount = duplicateCount;
  }

  get process(): Process | undefined {
    return this.#process;
  }

  get log(): Log {
    if (this.#log === undefined) throw new KithError("LOG_UNAVAILABLE", "NATS is down");
    return this.#log;
  }

  get catalog(): Catalog {
    if (this.#catalog === undefined) throw new KithError("CATALOG_UNAVAILABLE", "NATS is down");
    return this.#catalog;
  }

  /** Tries until the disk lets it start. */
  async start(): Promise<void> {
    for (;;) {
      // Another one each time: what an attempt has opened before it failed goes with its process.
      const process = new Process(this.#world, natsName);
      this.#process = process;
      try {
        return await this.#open(process);
      } catch (error) {
        this.#world.trace(natsName, `could not start: ${toKithError(error).message}`);
        process.kill();
        await this.#world.sleep(restartMs);
        if (this.#process !== process) return;
      }
    }
  }

  async #open(process: Process): Promise<void> {
    const path = mount(new Mount(this.#disk, process));
    const { clock, random, logger } = process;
    const onWarning = (error: KithError): void => logger.warn(error.message);
    const log = await openEmbeddedLog({
      directory: `${path}/log`,
      clock,
      random,
      onWarning,
      duplicateWindow: { count: this.#duplicateCount, timeMs: 120_000 },
    });
    const catalog = await openEmbeddedCatalog({ directory: `${path}/catalog`, clock, random, onWarning });
    await this.#ledger.read(log);
    catalog.watch("collections", {
      onChange: (change) => {
        if (change.kind === "put") this.#ledger.noteCollection(parseCollection(change.entry.value));
      },
    });
    this.#log = log;
    this.#catalog = catalog;
    this.#network.join(natsName, process);
    this.#world.trace(natsName, "up");
  }

  /** The process dies; with the power, if it goes too, what was not synced. */
  kill(losesPower: boolean): void {
    this.#process?.kill();
    this.#process = undefined;
    this.#log = undefined;
    this.#catalog = undefined;
    const lost = losesPower ? this.#disk.losePower() : 0;
    this.#world.trace(natsName, losesPower ? `loses its power and ${lost} changes` : "is killed");
  }

  /** Removes a log, whose records the ledger keeps. */
  async remove(name: ShardId): Promise<void> {
    const { log } = this;
    await this.#ledger.read(log, name);
    await log.remove(name);
  }

  /** Trims a log, whose records the ledger keeps. */
  async trim(name: ShardId, throughSequence: number): Promise<void> {
    const { log } = this;
    await this.#ledger.read(log, name);
    await log.trim(name, throughSequence);
  }

  async create(name: ShardId, options?: CreateOptions): Promise<LogState> {
    const state = await this.log.create(name, options);
    this.#ledger.note(name, state.firstSequence - 1);
    return state;
  }
}

function logName({ collectionId, shard }: ShardId): string {
  return `${collectionId}/${shard}`;
}

/** A log, whose first record has the sequence behind `afterSequence`. */
export interface RecordedLog {
  name: ShardId;
  afterSequence: number;
  records: Uint8Array[];
}

/** All records that were ever in a log, also of logs that are gone: what happened, by which everything is judged. */
export class Ledger {
  readonly logs = new Map<string, RecordedLog>();
  /** What cannot be: records that changed or vanished. */
  readonly violations: string[] = [];
  /** What is read of the logs of one life of NATS: of one that has died nothing comes any more. */
  readonly #reading = new WeakMap<Log, Promise<void>>();
  /** All that ever had a place, by id. */
  readonly collections = new Map<string, Collection>();

  /** Those that were made of backups, by id: of which, and of what of it. */
  readonly restored = new Map<string, RestoreOrigin>();
  /** By id; filled in the end. */
  readonly backups = new Map<string, pb.Backup>();

  /** All shards that a collection ever had, by its id. */
  readonly shards = new Map<string, Map<number, ShardPlacement>>();

  noteCollection(record: Collection): void {
    if (record.restoring !== undefined) this.restored.set(record.id, record.restoring);
    if (record.state !== "ready") return;
    this.collections.set(record.id, record);
    const known = this.shards.get(record.id) ?? new Map<number, ShardPlacement>();
    this.shards.set(record.id, known);
    for (const shard of record.shards) known.set(shard.shard, shard);
  }

  note(name: ShardId, afterSequence: number): void {
    if (!this.logs.has(logName(name))) this.logs.set(logName(name), { name, afterSequence, records: [] });
  }

  /** Reads on in one log, or in all: one reader after the other, for two at once would each add what they find. */
  read(log: Log, only?: ShardId): Promise<void> {
    const before = this.#reading.get(log) ?? Promise.resolve();
    const read = before.then(() => this.#read(log, only));
    this.#reading.set(
      log,
      read.catch(() => undefined),
    );
    return read;
  }

  async #read(log: Log, only: ShardId | undefined): Promise<void> {
    for (const { name } of [...this.logs.values()]) {
      if (only !== undefined && logName(only) !== logName(name)) continue;
      await this.#readOne(log, name);
    }
  }

  async #readOne(log: Log, name: ShardId): Promise<void> {
    const { records, afterSequence } = this.logs.get(logName(name)) as RecordedLog;
    let state: LogState;
    try {
      state = await log.state(name);
    } catch (error) {
      if (toKithError(error).code === "NOT_FOUND") return;
      throw error;
    }
    if (state.lastSequence < afterSequence + records.length) {
      this.violations.push(
        `the log ${logName(name)} has lost records: it ends at ${state.lastSequence}, and had ${afterSequence + records.length}`,
      );
      records.length = state.lastSequence - afterSequence;
    }
    const last = records.at(-1);
    const end = afterSequence + records.length;
    const isHeld = end >= state.firstSequence;
    if (isHeld && last !== undefined && (await log.checksum(name, end)) !== crc32c(last)) {
      this.violations.push(`the log ${logName(name)} holds another record ${end} than before`);
    }
    if (state.lastSequence === afterSequence + records.length) return;
    const done = deferred<void>();
    const subscription = log.subscribe(name, {
      fromSequence: afterSequence + records.length + 1,
      onEntries: async (entries) => {
        for (const { data } of entries) records.push(data);
        if (afterSequence + records.length >= state.lastSequence) done.resolve();
      },
      onFault: ({ kind }) => done.reject(new Error(`the log ${logName(name)} cannot be read: ${kind}`)),
      onError: (error) => done.reject(error),
    });
    await done.promise;
    await subscription.close();
  }
}

/** Of a cluster that follows another one: what it has is compared with that one's records in the end. Its logs begin where those were trimmed. */
export class FollowersLedger extends Ledger {
  override async read(): Promise<void> {
    await Promise.resolve();
  }
}

const logBroken: Broken = (why) =>
  new KithError("LOG_UNAVAILABLE", `the log cannot be reached: ${why}`, { retryAfterMs: 500 });
const catalogBroken: Broken = (why) =>
  new KithError("CATALOG_UNAVAILABLE", `the catalog cannot be reached: ${why}`, { retryAfterMs: 500 });

/** What a node shares with its connection to NATS. */
interface Connection {
  readonly network: Network;
  readonly nats: Nats;
  readonly process: Process;
  readonly name: string;
}

/** The log as one process reaches it, with the ways of the NATS adapter: attempts, time limits, subscriptions that come back. */
export class SimulatedLog implements Log {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  get available(): boolean {
    const { network, name } = this.#connection;
    return network.isConnected(name, natsName);
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    return watchConnection(this.#connection, listener);
  }

  create(name: ShardId, options?: CreateOptions): Promise<LogState> {
    return this.#ask((nats) => nats.create(name, options));
  }

  seal(name: ShardId, data: Uint8Array, options?: Pick<AppendOptions, "expectedSequence">): Promise<number> {
    return this.#ask((nats) => nats.log.seal(name, data, options));
  }

  sealedAt(name: ShardId): Promise<number | undefined> {
    return this.#ask((nats) => nats.log.sealedAt(name));
  }

  remove(name: ShardId): Promise<void> {
    return this.#ask((nats) => nats.remove(name));
  }

  state(name: ShardId): Promise<LogState> {
    return this.#ask((nats) => nats.log.state(name));
  }

  checksum(name: ShardId, sequence: number): Promise<number | undefined> {
    return this.#ask((nats) => nats.log.checksum(name, sequence));
  }

  read(name: ShardId, sequence: number): Promise<Uint8Array | undefined> {
    return this.#ask((nats) => nats.log.read(name, sequence));
  }

  trim(name: ShardId, throughSequence: number): Promise<void> {
    return this.#ask((nats) => nats.trim(name, throughSequence));
  }

  mend(name: ShardId, continuation: Continuation): Promise<LogState> {
    return this.#ask((nats) => nats.log.mend(name, continuation));
  }

  async append(name: ShardId, data: Uint8Array, options: AppendOptions): Promise<Append> {
    const { clock } = this.#connection.process;
    const { signal, messageId, traceparent, expectedSequence } = options;
    if (!this.available) throw logBroken("it is away");
    const endMs = clock.monotonicMs() + appendMs;
    let awaySinceMs: number | undefined;
    for (;;) {
      try {
        const record = {
          messageId,
          ...(traceparent !== undefined && { traceparent }),
          ...(expectedSequence !== undefined && { expectedSequence }),
        };
        return await withTimeout(
          clock,
          attemptMs,
          (ended) => this.#ask((nats) => nats.log.append(name, data, record), ended),
          signal,
        );
      } catch (error) {
        const { code } = toKithError(error);
        if (signal?.aborted === true || (code !== "LOG_UNAVAILABLE" && code !== "DEADLINE_EXCEEDED")) throw error;
        const nowMs = clock.monotonicMs();
        awaySinceMs = code === "DEADLINE_EXCEEDED" ? undefined : (awaySinceMs ?? nowMs);
        if (nowMs > endMs)
          throw new KithError("DEADLINE_EXCEEDED", "the append was not acknowledged; its outcome is unknown");
        if (awaySinceMs !== undefined && nowMs - awaySinceMs > outageMs) throw logBroken("its outcome is unknown");
      }
      await sleep(clock, retryMs, signal);
    }
  }

  subscribe(name: ShardId, options: SubscribeOptions): LogSubscription {
    return new SimulatedSubscription(this.#connection, name, options);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  #ask<T>(ask: (nats: Nats) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const { network, nats, process, name } = this.#connection;
    const context = signal === undefined ? { deadlineMs: process.clock.monotonicMs() + 5_000 } : { signal };
    return network
      .call(process, name, natsName, context, logBroken, async () => ask(nats))
      .catch((error: unknown) => {
        if (signal === undefined && toKithError(error).code === "DEADLINE_EXCEEDED")
          throw logBroken("it did not answer");
        throw error;
      });
  }
}

/** Delivers entries in order to the end, over as many connections as that takes. */
class SimulatedSubscription implements LogSubscription {
  readonly #connection: Connection;
  readonly #name: ShardId;
  readonly #options: SubscribeOptions;
  #cursor: number;
  #lastChecksum: number | undefined;
  #isClosed = false;
  #handling: Promise<void> = Promise.resolve();
  #drop: (() => void) | undefined;

  constructor(connection: Connection, name: ShardId, options: SubscribeOptions) {
    this.#connection = connection;
    this.#name = name;
    this.#options = options;
    this.#cursor = options.fromSequence;
    this.#lastChecksum = options.lastChecksum;
    connection.process.onDeath(() => this.#end());
    this.#connect();
  }

  async close(): Promise<void> {
    this.#end();
    await this.#handling;
  }

  #end(): void {
    this.#isClosed = true;
    this.#drop?.();
    this.#drop = undefined;
  }

  #reconnect(): void {
    this.#drop?.();
    this.#drop = undefined;
    if (this.#isClosed) return;
    this.#connection.process.clock.setTimer(() => this.#connect(), reconnectMs);
  }

  #connect(): void {
    if (this.#isClosed || this.#drop !== undefined) return;
    const { network, nats, process, name } = this.#connection;
    if (!network.isConnected(name, natsName)) return this.#reconnect();
    let isDropped = false;
    let closeServed: (() => void) | undefined;
    const stopWatching = network.onBreak(name, natsName, () => this.#reconnect());
    this.#drop = () => {
      isDropped = true;
      stopWatching();
      closeServed?.();
    };
    /** Back to the node, unless the connection was given up meanwhile. */
    const tell = (server: Process, what: () => void): void =>
      network.send(server, natsName, name, () => {
        if (!isDropped && !this.#isClosed) what();
      });
    network.send(process, name, natsName, (server) => {
      if (isDropped) return;
      try {
        const { incarnation } = this.#options;
        const served = nats.log.subscribe(this.#name, {
          fromSequence: this.#cursor,
          ...(incarnation !== undefined && { incarnation }),
          lastChecksum: this.#lastChecksum,
          onEntries: (entries) => {
            const taken = deferred<void>();
            tell(server, () => {
              void this.#handle(entries).then(() => network.send(process, name, natsName, () => taken.resolve()));
            });
            closeServed = () => {
              taken.resolve();
              void served.close();
            };
            return taken.promise;
          },
          onFault: (fault) =>
            tell(server, () => {
              this.#end();
              this.#options.onFault(fault);
            }),
          onError: (error) =>
            tell(server, () => {
              this.#end();
              this.#options.onError(error);
            }),
        });
        closeServed = () => void served.close();
      } catch (error) {
        process.world.trace(natsName, `a subscription cannot begin: ${toKithError(error).message}`);
      }
    });
  }

  async #handle(entries: readonly LogEntry[]): Promise<void> {
    // What an earlier connection has brought already.
    const fresh = entries.filter(({ sequence }) => sequence >= this.#cursor);
    const last = fresh.at(-1);
    if (last === undefined) return;
    this.#cursor = last.sequence + 1;
    this.#lastChecksum = crc32c(last.data);
    const before = this.#handling;
    this.#handling = (async () => {
      await before;
      if (this.#isClosed) return;
      try {
        await this.#options.onEntries(fresh);
      } catch (error) {
        if (this.#isClosed) return;
        this.#end();
        this.#options.onError(error);
      }
    })();
    await this.#handling;
  }
}

function watchConnection({ network, name }: Connection, listener: (available: boolean) => void): () => void {
  let before = network.isConnected(name, natsName);
  return network.onChange(() => {
    const now = network.isConnected(name, natsName);
    if (now === before) return;
    before = now;
    listener(now);
  });
}

/** The catalog as one process reaches it. */
export class SimulatedCatalog implements Catalog {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  get available(): boolean {
    const { network, name } = this.#connection;
    return network.isConnected(name, natsName);
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    return watchConnection(this.#connection, listener);
  }

  get(key: string): Promise<CatalogEntry | undefined> {
    return this.#ask((catalog) => catalog.get(key));
  }

  list(prefix: string): Promise<CatalogEntry[]> {
    return this.#ask((catalog) => catalog.list(prefix));
  }

  create(key: string, value: string, options?: { ttlMs?: number }): Promise<CatalogEntry> {
    return this.#ask((catalog) => catalog.create(key, value, options));
  }

  update(key: string, value: string, revision: number, options?: { ttlMs?: number }): Promise<CatalogEntry> {
    return this.#ask((catalog) => catalog.update(key, value, revision, options));
  }

  delete(key: string, revision: number): Promise<void> {
    return this.#ask((catalog) => catalog.delete(key, revision));
  }

  watch(prefix: string, handlers: Parameters<Catalog["watch"]>[1]): CatalogWatch {
    return new SimulatedWatch(this.#connection, prefix, handlers);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  #ask<T>(ask: (catalog: Catalog) => Promise<T>): Promise<T> {
    const { network, nats, process, name } = this.#connection;
    const context = { deadlineMs: process.clock.monotonicMs() + 5_000 };
    return network
      .call(process, name, natsName, context, catalogBroken, async () => ask(nats.catalog))
      .catch((error: unknown) => {
        if (toKithError(error).code === "DEADLINE_EXCEEDED") throw catalogBroken("it did not answer");
        throw error;
      });
  }
}

/** Tells of changes over as many connections as that takes; what was missed in between is told as changes. */
class SimulatedWatch implements CatalogWatch {
  readonly #connection: Connection;
  readonly #prefix: string;
  readonly #handlers: Parameters<Catalog["watch"]>[1];
  readonly #known = new Map<string, number>();
  #isReady = false;
  #isClosed = false;
  #drop: (() => void) | undefined;

  constructor(connection: Connection, prefix: string, handlers: Parameters<Catalog["watch"]>[1]) {
    this.#connection = connection;
    this.#prefix = prefix;
    this.#handlers = handlers;
    connection.process.onDeath(() => void this.close());
    this.#connect();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#drop?.();
    await Promise.resolve();
  }

  #reconnect(): void {
    this.#drop?.();
    this.#drop = undefined;
    if (!this.#isClosed) this.#connection.process.clock.setTimer(() => this.#connect(), reconnectMs);
  }

  #connect(): void {
    if (this.#isClosed || this.#drop !== undefined) return;
    const { network, nats, process, name } = this.#connection;
    if (!network.isConnected(name, natsName)) return this.#reconnect();
    let isDropped = false;
    let served: CatalogWatch | undefined;
    const stopWatching = network.onBreak(name, natsName, () => this.#reconnect());
    this.#drop = () => {
      isDropped = true;
      stopWatching();
      void served?.close();
    };
    const seen = new Set<string>();
    let isListed = false;
    network.send(process, name, natsName, (server) => {
      if (isDropped) return;
      const tell = (what: () => void): void =>
        network.send(server, natsName, name, () => {
          if (!isDropped && !this.#isClosed) what();
        });
      try {
        served = nats.catalog.watch(this.#prefix, {
          onChange: (change) =>
            tell(() => {
              if (!isListed && change.kind === "put") seen.add(change.entry.key);
              this.#tell(change);
            }),
          onReady: () =>
            tell(() => {
              isListed = true;
              for (const [key, revision] of [...this.#known])
                if (!seen.has(key)) this.#tell({ kind: "delete", key, revision });
              if (!this.#isReady) this.#handlers.onReady?.();
              this.#isReady = true;
            }),
        });
      } catch (error) {
        process.world.trace(natsName, `a watch cannot begin: ${toKithError(error).message}`);
      }
    });
  }

  #tell(change: CatalogChange): void {
    if (change.kind === "delete") this.#known.delete(change.key);
    else {
      if (this.#known.get(change.entry.key) === change.entry.revision) return;
      this.#known.set(change.entry.key, change.entry.revision);
    }
    this.#handlers.onChange(change);
  }
}
