import { type Clock, KithError, limits, type Random, toKithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import { CatalogView } from "../cluster/index.js";
import { checkKeyId, hashOfKey, type KeyRecord, type KeySecret, newKey, newKeyId, noKey } from "./key.js";
import { type AccessLimits, checkLimits } from "./usage.js";
import { builtInRoles, checkPatterns, checkRole, checkRoleName, parseRole, type Role, roleToJson } from "./role.js";

/** What a new key is to be. */
export interface NewKey {
  name: string;
  role: string;
  collections: readonly string[];
  expiresAtMs?: number;
  limits?: AccessLimits;
}

/** A key that was just made: its text is shown now and never again. */
export interface MadeKey {
  record: KeyRecord;
  key: string;
}

/** How long the old secret of a key that is rotated may stay good. */
const overlapMsMax = 30 * 24 * 3_600_000;
/** Secrets of one key that may be good at once. */
const secretsMax = 4;

/** The keys and roles of the cluster, in its catalog: every router hears of a change from the catalog's watch. */
export class KeyStore {
  readonly #keys: CatalogView<KeyRecord>;
  readonly #roles: CatalogView<Role>;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #listeners = new Set<() => void>();

  constructor(catalog: Catalog, clock: Clock, random: Random) {
    this.#keys = new CatalogView(catalog, "keys", (json) => JSON.parse(json) as KeyRecord);
    this.#roles = new CatalogView(catalog, "roles", parseRole, roleToJson);
    this.#clock = clock;
    this.#random = random;
    const changed = (): void => this.#listeners.forEach((listener) => listener());
    this.#keys.onChange(changed);
    this.#roles.onChange(changed);
  }

  async start(signal?: AbortSignal): Promise<void> {
    await Promise.all([this.#keys.start(signal), this.#roles.start(signal)]);
  }

  /** Called after each change of keys and roles. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** As this process knows it now. */
  key(id: string): KeyRecord | undefined {
    return this.#keys.get(id)?.value;
  }

  /** Newest first. */
  keys(): KeyRecord[] {
    return this.#keys.values().sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? -1 : 1));
  }

  role(name: string): Role | undefined {
    return builtInRoles.find((each) => each.name === name) ?? this.#roles.get(name)?.value;
  }

  /** The built-in ones first, then by name. */
  roles(): Role[] {
    return [...builtInRoles, ...this.#roles.values()];
  }

  /** NOT_FOUND where there is no such role. */
  async createKey({ name, role, collections, expiresAtMs, limits: own }: NewKey): Promise<MadeKey> {
    checkName(name);
    checkPatterns(collections, "collections");
    this.#checkRoleExists(role);
    if (own !== undefined) checkLimits(own, "limits");
    const nowMs = this.#clock.nowMs();
    if (expiresAtMs !== undefined && expiresAtMs <= nowMs) {
      throw new KithError("INVALID_ARGUMENT", "the key would have expired already; give a later time");
    }
    if (this.#keys.size >= limits.keysMax) {
      throw new KithError("RESOURCE_EXHAUSTED", `there are ${limits.keysMax} keys already; revoke some first`, {
        details: { limit: limits.keysMax },
      });
    }
    const id = newKeyId(this.#random);
    const key = newKey(id, this.#random);
    const record: KeyRecord = {
      ...{ id, name, role, collections, createdAtMs: nowMs },
      ...(expiresAtMs !== undefined && { expiresAtMs }),
      ...(own && { limits: own }),
      secrets: [secretOf(key, nowMs)],
    };
    await this.#keys.create(id, record);
    return { record, key };
  }

  /** Gives the key a new secret; the one of before stays good for `overlapMs`. NOT_FOUND. */
  async rotateKey(id: string, overlapMs: number): Promise<MadeKey> {
    checkKeyId(id);
    if (!(overlapMs >= 0 && overlapMs <= overlapMsMax)) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `the old secret is to stay good for ${overlapMs} ms; that must be in 0..${overlapMsMax}`,
        { details: { value: overlapMs, max: overlapMsMax } },
      );
    }
    const key = newKey(id, this.#random);
    const record = await this.#keys
      .modify(id, (before) => {
        const nowMs = this.#clock.nowMs();
        const endMs = nowMs + overlapMs;
        const still = before.secrets
          .map((secret): KeySecret => ({ ...secret, untilMs: Math.min(secret.untilMs ?? endMs, endMs) }))
          .filter(({ untilMs = 0 }) => untilMs > nowMs);
        if (still.length >= secretsMax) {
          throw new KithError(
            "FAILED_PRECONDITION",
            `the key ${id} has ${still.length} secrets that are good still; wait until one of them is not, or rotate without an overlap`,
          );
        }
        return { ...before, secrets: [...still, secretOf(key, nowMs)] };
      })
      .catch((error: unknown) => {
        throw toKithError(error).code === "NOT_FOUND" ? noKey(id) : error;
      });
    return { record, key };
  }

  /** From now on nobody is let in by the key. NOT_FOUND. */
  async revokeKey(id: string): Promise<void> {
    checkKeyId(id);
    if ((await this.#keys.read(id)) === undefined) throw noKey(id);
    await this.#keys.delete(id);
  }

  /** Makes the role, or puts it in the place of the one of this name: keys that have it are bound by it at once. */
  async putRole(role: Role): Promise<void> {
    checkRole(role);
    if (this.#roles.get(role.name) === undefined && this.#roles.size >= limits.rolesMax) {
      throw new KithError("RESOURCE_EXHAUSTED", `there are ${limits.rolesMax} roles already; delete one first`, {
        details: { limit: limits.rolesMax },
      });
    }
    try {
      await this.#roles.create(role.name, role);
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      await this.#roles.modify(role.name, () => role);
    }
  }

  /** NOT_FOUND; FAILED_PRECONDITION while keys have the role. */
  async deleteRole(name: string): Promise<void> {
    checkRoleName(name, "name");
    const holders = this.keys().filter(({ role }) => role === name);
    if (holders.length > 0) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `${holders.length} keys have the role "${name}", ${holders[0]?.id} among them; revoke them first`,
        { details: { role: name, keys: holders.length } },
      );
    }
    if (builtInRoles.some((each) => each.name === name)) {
      throw new KithError("INVALID_ARGUMENT", `the role "${name}" is built in, and stays`, { details: { role: name } });
    }
    if ((await this.#roles.read(name)) === undefined) throw noRole(name);
    await this.#roles.delete(name);
  }

  async close(): Promise<void> {
    await this.#keys.close();
    await this.#roles.close();
  }

  #checkRoleExists(name: string): void {
    checkRoleName(name, "role");
    if (this.role(name) === undefined) throw noRole(name);
  }
}

function secretOf(key: string, sinceMs: number): KeySecret {
  return { hash: hashOfKey(key).toString("hex"), sinceMs };
}

function noRole(name: string): KithError {
  return new KithError("NOT_FOUND", `there is no role "${name}"`, { details: { role: name } });
}

function checkName(name: string): void {
  // Names are shown in logs and tables: nothing that ends a line or turns the direction of text.
  if (name.length > 0 && name.length <= limits.nameLength && /^[\p{L}\p{N} ._@:/+-]+$/u.test(name)) return;
  throw new KithError(
    "INVALID_NAME",
    `the name of the key must be 1..${limits.nameLength} letters, digits, spaces and . _ @ : / + -`,
  );
}
