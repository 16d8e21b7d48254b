import { crc32c, type KithError, toKithError } from "../base/index.js";
import { isSealed, type KeyRing, openSealed } from "../encryption/index.js";
import type { ShardId } from "../model/index.js";
import { logKey } from "./limits.js";
import type {
  Append,
  AppendOptions,
  Continuation,
  CreateOptions,
  Log,
  LogEntry,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "./port.js";

/** What somebody who runs the cluster should know of a log. */
export interface EncryptedLogOptions {
  /** Undefined: what comes encrypted is refused, and nothing is encrypted. */
  keys: KeyRing | undefined;
  /** A record has come that is not encrypted, and was written while this process ran: somebody writes without a key. */
  onPlain?: (name: ShardId, sequence: number) => void;
}

/**
 * A log whose records are encrypted where there are master keys: by whoever appends, so that the server that keeps the log has none of it. Records from
 * before are read as they are. Checksums are those of what is stored, as in the log itself. A record opens in the log of its shard alone.
 */
export class EncryptedLog implements Log {
  readonly #log: Log;
  readonly #keys: KeyRing | undefined;
  readonly #onPlain: EncryptedLogOptions["onPlain"];
  /** Where each log ended when it was first followed here: what was written before may be from before the key. */
  readonly #ends = new Map<string, Promise<number>>();

  constructor(log: Log, { keys, onPlain }: EncryptedLogOptions) {
    this.#log = log;
    this.#keys = keys;
    this.#onPlain = onPlain;
  }

  create(name: ShardId, options?: CreateOptions): Promise<LogState> {
    return this.#log.create(name, options);
  }

  remove(name: ShardId): Promise<void> {
    this.#ends.delete(logKey(name));
    return this.#log.remove(name);
  }

  state(name: ShardId): Promise<LogState> {
    return this.#log.state(name);
  }

  append(name: ShardId, data: Uint8Array, options: AppendOptions): Promise<Append> {
    return this.#log.append(name, this.#sealed(name, data), options);
  }

  seal(name: ShardId, data: Uint8Array, options?: Pick<AppendOptions, "expectedSequence">): Promise<number> {
    return this.#log.seal(name, this.#sealed(name, data), options);
  }

  sealedAt(name: ShardId): Promise<number | undefined> {
    return this.#log.sealedAt(name);
  }

  checksum(name: ShardId, sequence: number): Promise<number | undefined> {
    return this.#log.checksum(name, sequence);
  }

  async read(name: ShardId, sequence: number): Promise<Uint8Array | undefined> {
    const data = await this.#log.read(name, sequence);
    return data && openSealed(this.#keys, recordContext(name), data);
  }

  subscribe(name: ShardId, options: SubscribeOptions): LogSubscription {
    if (this.#keys !== undefined) void this.#endOf(name);
    return this.#log.subscribe(name, {
      ...options,
      onEntries: async (entries) => {
        const opened: LogEntry[] = [];
        let failure: KithError | undefined;
        for (const entry of entries) {
          try {
            opened.push(this.#opened(name, entry));
          } catch (error) {
            failure = toKithError(error);
            break;
          }
        }
        // What comes before a record that cannot be opened is as good as ever.
        if (opened.length > 0) await options.onEntries(opened);
        if (failure !== undefined) throw failure;
        const plain = this.#keys && entries.find(({ data }) => !isSealed(data));
        if (plain !== undefined && plain.sequence > (await this.#endOf(name))) this.#onPlain?.(name, plain.sequence);
      },
    });
  }

  trim(name: ShardId, throughSequence: number): Promise<void> {
    return this.#log.trim(name, throughSequence);
  }

  mend(name: ShardId, continuation: Continuation): Promise<LogState> {
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

  #sealed(name: ShardId, data: Uint8Array): Uint8Array {
    return this.#keys === undefined ? data : this.#keys.seal(recordContext(name), data);
  }

  #opened(name: ShardId, entry: LogEntry): LogEntry {
    if (!isSealed(entry.data)) return entry;
    const data = openSealed(this.#keys, recordContext(name), entry.data);
    return { ...entry, data, checksum: crc32c(entry.data) };
  }

  #endOf(name: ShardId): Promise<number> {
    const key = logKey(name);
    let end = this.#ends.get(key);
    if (end === undefined) {
      end = this.#log.state(name).then(
        ({ lastSequence }) => lastSequence,
        () => {
          // It cannot be told now: nothing is said, and the next one asks again.
          this.#ends.delete(key);
          return Infinity;
        },
      );
      this.#ends.set(key, end);
    }
    return end;
  }
}

function recordContext(name: ShardId): string {
  return `a record of log ${logKey(name)}`;
}
