import { KithError, systemRuntime } from "../../base/index.js";
import type { ShardId } from "../../model/index.js";
import { EmbeddedLog } from "../embedded/log.js";
import type { OpenDatabase } from "../embedded/database.js";
import type {
  Append,
  AppendOptions,
  Continuation,
  CreateOptions,
  Log,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "../port.js";
import { memoryDatabase } from "./memory-database.js";

/** The embedded log in memory, whose server can be away, and may not know the last records that it has acknowledged. */
export class FakeLog implements Log {
  /** So many of the last records `state` does not know of, as where a new leader answers too early: see Log.state. */
  unknownRecords = 0;
  readonly #storage: Log;
  readonly #listeners = new Set<(available: boolean) => void>();
  #isReachable = true;

  /** @param storage where the records are; closed with this */
  constructor(storage: Log) {
    this.#storage = storage;
  }

  static async open(open: OpenDatabase = memoryDatabase()): Promise<FakeLog> {
    return new FakeLog(await EmbeddedLog.open({ directory: "memory", ...systemRuntime }, open));
  }

  get available(): boolean {
    return this.#isReachable && this.#storage.available;
  }

  /** While it is not: LOG_UNAVAILABLE to all calls. */
  set available(isReachable: boolean) {
    if (this.#isReachable === isReachable) return;
    this.#isReachable = isReachable;
    for (const listener of this.#listeners) listener(isReachable);
  }

  async create(name: ShardId, options?: CreateOptions): Promise<LogState> {
    return this.#reached().create(name, options);
  }

  async seal(name: ShardId, data: Uint8Array, options?: Pick<AppendOptions, "expectedSequence">): Promise<number> {
    return this.#reached().seal(name, data, options);
  }

  async sealedAt(name: ShardId): Promise<number | undefined> {
    return this.#reached().sealedAt(name);
  }

  async remove(name: ShardId): Promise<void> {
    return this.#reached().remove(name);
  }

  async state(name: ShardId): Promise<LogState> {
    const state = await this.#reached().state(name);
    const lastSequence = Math.max(state.firstSequence - 1, state.lastSequence - this.unknownRecords);
    return { ...state, lastSequence };
  }

  async append(name: ShardId, data: Uint8Array, options: AppendOptions): Promise<Append> {
    return this.#reached().append(name, data, options);
  }

  async checksum(name: ShardId, sequence: number): Promise<number | undefined> {
    return this.#reached().checksum(name, sequence);
  }

  async read(name: ShardId, sequence: number): Promise<Uint8Array | undefined> {
    return this.#reached().read(name, sequence);
  }

  subscribe(name: ShardId, options: SubscribeOptions): LogSubscription {
    return this.#storage.subscribe(name, options);
  }

  async trim(name: ShardId, throughSequence: number): Promise<void> {
    return this.#reached().trim(name, throughSequence);
  }

  async mend(name: ShardId, continuation: Continuation): Promise<LogState> {
    return this.#reached().mend(name, continuation);
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): Promise<void> {
    return this.#storage.close();
  }

  /** As if others had appended so many records. */
  async fill(name: ShardId, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.#storage.append(name, new Uint8Array(0), { messageId: systemRuntime.random.uuid() });
    }
  }

  #reached(): Log {
    if (this.#isReachable) return this.#storage;
    throw new KithError("LOG_UNAVAILABLE", "the log cannot be reached");
  }
}
