import { type Clock, KithError, toKithError } from "../../libs/base/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

/** A part of a node that takes other settings, and other contents of the files that they name, while it runs. */
export interface Reloadable {
  /**
   * Reads all that the settings name. Throws where something is wrong; else gives what takes it over, which cannot fail, and which gives the
   * settings whose files have changed though they are named as before. `isAsked`: somebody has asked for it, so that what costs more than to read a
   * file is done too.
   */
  prepare(config: NodeConfig, isAsked: boolean): Promise<() => readonly string[]>;
}

/** How often the files are looked at. What replaces them, and how, differs too much to be told by the file system. */
const lookEveryMs = 10_000;

/** Settings that are taken while the node runs, with all below them; and those below them that are not. */
const takenAtRunTime = [
  "logLevel",
  "traceSample",
  "slowQueryMs",
  "drainTimeoutMs",
  "tls",
  "auth",
  "encryption",
  "link.secret",
  "link.secretFile",
  "log.credentials",
];
const reasons: readonly (readonly [setting: string, why: string])[] = [
  ["auth.audit.file", "the file is opened at the start"],
  ["auth.audit.maxBytes", "the file is opened at the start"],
  ["auth.audit.files", "the file is opened at the start"],
  ["listen", "ports are opened at the start"],
  ["http", "ports are opened at the start"],
  ["link", "ports are opened at the start"],
  ["health", "ports are opened at the start"],
  ["cluster", "others know this node by it"],
  ["nodeId", "others know this node by it"],
  ["roles", "others know this node by it"],
  ["zone", "others know this node by it"],
  ["log", "the log is opened at the start"],
  ["data", "the data is opened at the start"],
  ["leveldb", "the data is opened at the start"],
  ["standby", "the connection to the primary is opened at the start"],
];

export interface ReloaderOptions {
  /** What the node runs with. */
  config: NodeConfig;
  /** Reads the settings again, all layers; throws where they are not valid. Left out: only the files that they name are looked at. */
  readConfig: (() => NodeConfig) | undefined;
  parts: readonly Reloadable[];
  clock: Clock;
  logger: Logger;
}

/** Takes settings while a node runs: all that have changed, or, where one cannot be taken, none. */
export class Reloader {
  readonly #options: ReloaderOptions;
  #config: NodeConfig;
  #running: Promise<void> = Promise.resolve();
  #told = "";

  constructor(options: ReloaderOptions) {
    this.#options = options;
    this.#config = options.config;
  }

  /** The settings as they are in force. */
  get current(): NodeConfig {
    return this.#config;
  }

  /** Somebody has asked for it: also that nothing has changed is told. Never rejects. */
  reload(): Promise<void> {
    return this.#next(true);
  }

  /** Looks from time to time. Gives what ends it. */
  follow(): () => Promise<void> {
    let isLooking = false;
    const timer = this.#options.clock
      .every(() => {
        if (isLooking) return;
        isLooking = true;
        void this.#next(false).finally(() => {
          isLooking = false;
        });
      }, lookEveryMs)
      .unref();
    return async () => {
      timer.close();
      await this.#running;
    };
  }

  #next(isAsked: boolean): Promise<void> {
    this.#running = this.#running.then(() => this.#take(isAsked));
    return this.#running;
  }

  async #take(isAsked: boolean): Promise<void> {
    const { readConfig, parts, logger } = this.#options;
    try {
      const fresh = readConfig?.() ?? this.#config;
      const changed = changedSettings(this.#config, fresh);
      refuse(changed, this.#config, fresh);
      const takes = await Promise.all(parts.map((part) => part.prepare(fresh, isAsked)));
      this.#config = fresh;
      const files = takes.flatMap((take) => take()).filter((setting) => !changed.includes(setting));
      this.#told = "";
      const all = [...changed, ...files.map((setting) => `${setting} (its file)`)];
      if (all.length > 0) logger.info(`took new settings: ${all.join(", ")}`);
      else if (isAsked) logger.info("took no new settings: none has changed");
    } catch (error) {
      const { message } = toKithError(error);
      // A file may be half written: of what is only looked at it is said once.
      if (isAsked || message !== this.#told)
        logger.warn(`new settings are not taken, and those of before go on: ${message}`);
      this.#told = message;
    }
  }
}

/** INVALID_CONFIG, with each of them and why, where some take a restart. */
function refuse(changed: readonly string[], before: NodeConfig, after: NodeConfig): void {
  const refused = changed.flatMap((setting) => {
    const why = reasonOf(setting);
    return why === undefined ? [] : [`${setting} (${why})`];
  });
  if ((before.tls === undefined) !== (after.tls === undefined)) {
    refused.push("tls (connections with and without it are not told apart)");
  }
  if (hasSecret(before) !== hasSecret(after)) refused.push("link.secretFile (whether nodes prove who they are)");
  if (isEncrypted(before) !== isEncrypted(after)) refused.push("encryption.keyFile (whether data is encrypted)");
  if (refused.length === 0) return;
  throw new KithError("INVALID_CONFIG", `these take a restart: ${refused.join(", ")}`);
}

function hasSecret({ link }: NodeConfig): boolean {
  return link.secret !== undefined || link.secretFile !== undefined;
}

function isEncrypted({ encryption: { key, keyFile, keyCommand } }: NodeConfig): boolean {
  return (key ?? keyFile ?? keyCommand) !== undefined;
}

/** Why a setting cannot be taken while the node runs; undefined where it can. */
function reasonOf(setting: string): string | undefined {
  const isBelow = (name: string): boolean => setting === name || setting.startsWith(`${name}.`);
  const why = reasons.find(([name]) => isBelow(name));
  const isTaken = takenAtRunTime.some(isBelow);
  // The longer name counts: auth.audit.file within auth, link.secretFile within link.
  if (isTaken && !(why !== undefined && why[0].startsWith("auth."))) return undefined;
  return why?.[1] ?? "it is read at the start";
}

function changedSettings(before: NodeConfig, after: NodeConfig): string[] {
  const [one, other] = [leaves(before), leaves(after)];
  const names = [...new Set([...one.keys(), ...other.keys()])];
  return names.filter((name) => one.get(name) !== other.get(name)).sort();
}

/** The values by their names; lists and what has names of its users count as one. */
function leaves(value: object, path = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, each] of Object.entries(value) as [string, unknown][]) {
    const name = path === "" ? key : `${path}.${key}`;
    const isGroup = typeof each === "object" && each !== null && !Array.isArray(each) && name !== "auth.certificates";
    if (isGroup) for (const [below, text] of leaves(each, name)) found.set(below, text);
    else if (each !== undefined) found.set(name, JSON.stringify(each));
  }
  return found;
}
