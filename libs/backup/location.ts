import { join } from "node:path";
import { KithError, limits, type Random } from "../base/index.js";
import type { KeyRing } from "../encryption/index.js";
import { FolderStore } from "./store/folder.js";
import type { FileStore } from "./store/port.js";
import { type S3Settings, S3Store } from "./store/s3.js";
import { SealedStore } from "./store/sealed.js";

/** Where backups may be, as the servers are configured. */
export interface BackupSettings {
  /** A folder that every node sees under this path. */
  folder?: string | undefined;
  s3?: S3Settings | undefined;
}

/** A step of a location: no step leads out of what is configured. */
const stepPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;
const schemes = ["file", "s3"] as const;

/** Opens the stores of backups, each once. */
export class BackupLocations {
  readonly #settings: BackupSettings;
  readonly #random: Random;
  readonly #keys: KeyRing | undefined;
  readonly #open = new Map<string, Promise<FileStore>>();

  /** @param keys encrypts what is written */
  constructor(settings: BackupSettings, random: Random, keys?: KeyRing) {
    this.#settings = settings;
    this.#random = random;
    this.#keys = keys;
  }

  /**
   * The store of a location: "file:folder", "s3:folder", or "" for what is configured. INVALID_ARGUMENT for one that is none or leads
   * elsewhere; FAILED_PRECONDITION where nothing of the kind is configured.
   */
  open(location: string): Promise<FileStore> {
    const { scheme, path } = this.#parse(location);
    const key = `${scheme}:${path}`;
    const known = this.#open.get(key);
    if (known !== undefined) return known;
    const store = this.#make(scheme, path).then((files) => new SealedStore(files, this.#keys));
    this.#open.set(key, store);
    store.catch(() => this.#open.delete(key));
    return store;
  }

  /** Whether what is written is encrypted. */
  get isEncrypted(): boolean {
    return this.#keys !== undefined;
  }

  /** The location in full, as it is kept. Rejects as `open` does. */
  normal(location: string): string {
    const { scheme, path } = this.#parse(location);
    return `${scheme}:${path}`;
  }

  #parse(location: string): { scheme: (typeof schemes)[number]; path: string } {
    const wrong = (why: string): KithError =>
      new KithError(
        "INVALID_ARGUMENT",
        `the location ${JSON.stringify(location.slice(0, 200))} ${why}: give "file:folder" or "s3:folder" with steps of letters, digits, "_", "-" and "."`,
        { details: { location: location.slice(0, 200) } },
      );
    if (location.length > limits.backupLocationLength)
      throw wrong(`has more than ${limits.backupLocationLength} characters`);
    const scheme = location === "" ? this.#first() : schemes.find((each) => location.startsWith(`${each}:`));
    if (scheme === undefined) throw wrong("has no known scheme");
    const path = location.slice(location === "" ? 0 : scheme.length + 1);
    const steps = path === "" ? [] : path.split("/");
    if (!steps.every((step) => stepPattern.test(step))) throw wrong("has a step that is none");
    if ((scheme === "file" ? this.#settings.folder : this.#settings.s3) === undefined) throw missing(scheme);
    return { scheme, path: steps.join("/") };
  }

  #first(): (typeof schemes)[number] {
    if (this.#settings.folder !== undefined) return "file";
    if (this.#settings.s3 !== undefined) return "s3";
    throw missing(undefined);
  }

  async #make(scheme: (typeof schemes)[number], path: string): Promise<FileStore> {
    const { folder, s3 } = this.#settings;
    if (scheme === "file" && folder !== undefined) return new FolderStore(join(folder, path), this.#random);
    if (scheme === "s3" && s3 !== undefined) {
      const prefix = [s3.prefix, path].filter((each) => each !== "").join("/");
      return S3Store.open({ ...s3, prefix: prefix === "" ? "" : `${prefix}/` });
    }
    throw missing(scheme);
  }
}

function missing(scheme: string | undefined): KithError {
  const what =
    scheme === undefined
      ? "nowhere to put backups is"
      : scheme === "file"
        ? "no folder for backups is"
        : "no object store for backups is";
  return new KithError(
    "FAILED_PRECONDITION",
    `${what} configured: set backup.folder (KITH_BACKUP_FOLDER) or backup.s3 (KITH_BACKUP_S3_BUCKET) on every node`,
  );
}
