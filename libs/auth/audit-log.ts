import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { type Clock, KithError, type Random, toKithError } from "../base/index.js";
import type { Logger } from "../telemetry/index.js";
import { rpcRules, type Verb } from "./verbs.js";

/** One call, as it is kept. Nothing of it is what the call carried: no payloads, vectors, ids, filters or secrets. */
export interface AuditEntry {
  /** `key 0a1b2c3d4e5f6071 ("ingest")`; "unknown" where that could not be found out. */
  readonly caller: string;
  /** As in gRPC: "/kith.v1.Points/Upsert". */
  readonly path: string;
  /** The name in the request; "" for none. */
  readonly asked: string;
  /** The collection's own name; "" where there is none that the caller may know of. */
  readonly collection: string;
  /** "OK" or the code of the error. */
  readonly outcome: string;
  /** "" where the call is not traced. */
  readonly traceId: string;
  /** "ip:port" of the client. */
  readonly source: string;
}

export interface AuditLogOptions {
  file: string;
  /** The part of reads that succeed which is kept, 0 to 1; all else is kept. */
  readSample: () => number;
  /** Of one file; when it is full it is renamed to `<file>.1`, that one to `<file>.2`, and so on. */
  maxBytes: number;
  /** Files that are kept, with the one that is written. */
  files: number;
  clock: Clock;
  random: Random;
  logger: Logger;
}

const readVerbs: readonly Verb[] = ["describe", "read", "monitor"];
/** Lines that wait for the disk, in bytes; more are lost, and counted. */
const waitingBytesMax = 8 * 1024 * 1024;

/** Who did what: JSON lines in a file of their own. */
export class AuditLog {
  readonly #options: AuditLogOptions;
  #handle: FileHandle;
  #inode: number;
  #sizeBytes: number;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #lost = 0;
  #writing: Promise<void> | undefined;

  private constructor(options: AuditLogOptions, { handle, inode, sizeBytes }: OpenedFile) {
    this.#options = options;
    this.#handle = handle;
    this.#inode = inode;
    this.#sizeBytes = sizeBytes;
  }

  /** INVALID_CONFIG where the file cannot be written. */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const { file } = options;
    try {
      return new AuditLog(options, await openFile(file));
    } catch (cause) {
      const message = `auth.audit.file ${file} cannot be written: ${(cause as Error).message}`;
      throw new KithError("INVALID_CONFIG", message, { cause });
    }
  }

  note(entry: AuditEntry): void {
    const { clock, random } = this.#options;
    const readSample = this.#options.readSample();
    const { caller, path, asked, collection, outcome, traceId, source } = entry;
    const verb = rpcRules[path]?.verb ?? "none";
    const isRead = outcome === "OK" && (readVerbs as readonly string[]).includes(verb);
    if (isRead && random.float() >= readSample) return;
    // Text of callers comes in JSON strings: nothing in it ends a line.
    const line = JSON.stringify({
      ...{ time: new Date(clock.nowMs()).toISOString(), caller, verb, call: path.slice(1) },
      ...(collection !== "" && { collection }),
      ...(asked !== "" && asked !== collection && { asked: asked.slice(0, 128) }),
      ...{ outcome, ...(traceId !== "" && { trace: traceId }), source },
      ...(isRead && readSample < 1 && { sample: readSample }),
    });
    if (this.#waitingBytes + line.length > waitingBytesMax) {
      this.#lost++;
      return;
    }
    this.#waiting.push(escaped(line));
    this.#waitingBytes += line.length;
    this.#writing ??= this.#write();
  }

  /** Writes what waits, and ends. */
  async close(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    await this.#handle.close();
  }

  async #write(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const lines = this.#waiting;
        this.#waiting = [];
        this.#waitingBytes = 0;
        const lost = this.#lost;
        this.#lost = 0;
        if (lost > 0)
          this.#options.logger.error(`${lost} lines of the audit log were lost, because the disk was too slow`);
        if (await this.#isMoved()) await this.#reopen();
        const text = `${lines.join("\n")}\n`;
        if (this.#sizeBytes > 0 && this.#sizeBytes + text.length > this.#options.maxBytes) await this.#rotate();
        await this.#handle.appendFile(text);
        this.#sizeBytes += Buffer.byteLength(text);
      }
    } catch (error) {
      this.#options.logger.error(`the audit log cannot be written, and lines are lost: ${toKithError(error).message}`);
    } finally {
      this.#writing = undefined;
    }
  }

  async #rotate(): Promise<void> {
    const { file, files } = this.#options;
    await rm(`${file}.${files - 1}`, { force: true });
    for (let number = files - 2; number >= 1; number--) {
      await rename(`${file}.${number}`, `${file}.${number + 1}`).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "ENOENT") throw error;
      });
    }
    if (files > 1) await rename(file, `${file}.1`);
    else await rm(file, { force: true });
    await this.#reopen();
  }

  /** Whether something else has renamed or deleted the file, as programs do that rotate logs. */
  async #isMoved(): Promise<boolean> {
    try {
      return (await stat(this.#options.file)).ino !== this.#inode;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return true;
      throw error;
    }
  }

  async #reopen(): Promise<void> {
    const { handle, inode, sizeBytes } = await openFile(this.#options.file);
    const before = this.#handle;
    this.#handle = handle;
    this.#inode = inode;
    this.#sizeBytes = sizeBytes;
    await before.close();
  }
}

interface OpenedFile {
  handle: FileHandle;
  inode: number;
  sizeBytes: number;
}

/** For its owner alone: it says who does what. */
async function openFile(file: string): Promise<OpenedFile> {
  const handle = await open(file, "a", 0o600);
  const { ino: inode, size: sizeBytes } = await handle.stat();
  return { handle, inode, sizeBytes };
}

/** Line ends of Unicode, which JSON does not escape and some readers take for such. */
function escaped(line: string): string {
  return line.replaceAll(/[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (each) => {
    return `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}
