import type { KithError } from "../base/index.js";
import type { ShardId } from "../model/index.js";
import type {
  Append,
  AppendOptions,
  Continuation,
  CreateOptions,
  Log,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "./port.js";

/** A log that takes no records while there is a reason against it: whoever would append, seal or mend it is given that reason. */
export class ReadOnlyLog implements Log {
  readonly #log: Log;
  readonly #refusal: () => KithError | undefined;

  constructor(log: Log, refusal: () => KithError | undefined) {
    this.#log = log;
    this.#refusal = refusal;
  }

  create(name: ShardId, options?: CreateOptions): Promise<LogState> {
    return this.#log.create(name, options);
  }

  remove(name: ShardId): Promise<void> {
    return this.#log.remove(name);
  }

  state(name: ShardId): Promise<LogState> {
    return this.#log.state(name);
  }

  async append(name: ShardId, data: Uint8Array, options: AppendOptions): Promise<Append> {
    this.#check();
    return this.#log.append(name, data, options);
  }

  async seal(name: ShardId, data: Uint8Array, options?: Pick<AppendOptions, "expectedSequence">): Promise<number> {
    this.#check();
    return this.#log.seal(name, data, options);
  }

  sealedAt(name: ShardId): Promise<number | undefined> {
    return this.#log.sealedAt(name);
  }

  checksum(name: ShardId, sequence: number): Promise<number | undefined> {
    return this.#log.checksum(name, sequence);
  }

  read(name: ShardId, sequence: number): Promise<Uint8Array | undefined> {
    return this.#log.read(name, sequence);
  }

  subscribe(name: ShardId, options: SubscribeOptions): LogSubscription {
    return this.#log.subscribe(name, options);
  }

  trim(name: ShardId, throughSequence: number): Promise<void> {
    return this.#log.trim(name, throughSequence);
  }

  async mend(name: ShardId, continuation: Continuation): Promise<LogState> {
    this.#check();
    return this.#log.mend(name, continuation);
  }

  get available(): boolean {
    return this.#log.available;
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    return this.#log.onAvailability(listener);
  }

  close(): Promise<void> {
    return this.#log.close();
  }

  #check(): void {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
  }
}
