import { filterToJson } from "../filter/index.js";
import { printJson } from "../model/index.js";
import type { UnaryDefinition } from "../rpc/common/index.js";
import { filterFromWire, pb } from "../wire/index.js";
import { filterOf } from "./filter.js";
import { accessLimitKeys, callKeys, createKeyKeys, roleKeys, roleRuleKeys, rotateKeyKeys } from "./option-keys.js";
import { onlyKeys } from "./only-keys.js";
import type { Transport } from "./transport.js";
import type { CallOptions } from "./types/calls.js";
import type { FilterInput, JsonObject } from "./types/values.js";

/** What one caller may have from each router; what is missing is not limited. RESOURCE_EXHAUSTED with a time to wait beyond it. */
export interface AccessLimits {
  /** Calls, and queries and writes of batches and streams. */
  requestsPerSecond?: number;
  /** Points that are written, or come back. */
  pointsPerSecond?: number;
  /** Of points that are written, or come back. */
  bytesPerSecond?: number;
  concurrentQueries?: number;
  /** Points of a collection to which the caller may add: once it has so many, the caller adds none. */
  storedPoints?: number;
  /** Bytes on disks of such a collection, of one replica of each shard. */
  storedBytes?: number;
}

/** An API key, without its secret. */
export interface KeyInfo {
  /** Part of the key, and of what is logged; no secret. */
  id: string;
  name: string;
  role: string;
  /** Names of collections, or beginnings of names with "*" behind: what the role allows holds on these alone. */
  collections: string[];
  createdAt: Date | undefined;
  /** Undefined: it does not expire. */
  expiresAt: Date | undefined;
  /** Secrets that are good, oldest first: several while a key is rotated. */
  secrets: { createdAt: Date | undefined; expiresAt: Date | undefined }[];
  limits: AccessLimits;
}

/** A key that was just made; the secret is what calls send, and nobody can tell it again. */
export interface MadeKey {
  key: KeyInfo;
  secret: string;
}

export interface CreateKeyOptions extends CallOptions {
  /** "admin", "operator", "writer", "reader", or a role of the cluster's own. */
  role: string;
  /** Default: all. */
  collections?: readonly string[];
  /** Default: it does not expire. */
  expiresAt?: Date;
  /** Default: those of the role. Of both, the lower ones hold. */
  limits?: AccessLimits;
}

export interface RotateKeyOptions extends CallOptions {
  /** How long the secret of before stays good, in milliseconds. Default: a day. */
  overlapMs?: number;
}

export type RoleVerb =
  | "describe"
  | "read"
  | "write"
  | "create"
  | "alter"
  | "drop"
  | "backup"
  | "monitor"
  | "operate"
  | "keys";

export interface RoleRuleInput {
  verbs: readonly RoleVerb[];
  /** Names of collections, or beginnings of names with "*" behind. */
  collections: readonly string[];
  /** Only points that pass are there: all others are as if they did not exist. For describe, read and write alone. */
  filter?: FilterInput;
}

export interface RoleInfo {
  name: string;
  /** Each allows by itself. */
  rules: { verbs: string[]; collections: string[]; filter: JsonObject | undefined }[];
  isBuiltIn: boolean;
  /** Of each caller that has the role. */
  limits: AccessLimits;
}

const dayMs = 24 * 3_600_000;

/** API keys: how callers say who they are. */
export class Keys {
  readonly #transport: Transport;

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** NOT_FOUND where there is no such role. */
  async create(name: string, options: CreateKeyOptions): Promise<MadeKey> {
    onlyKeys(options, createKeyKeys, "options");
    const { role, collections = [], expiresAt, limits } = options;
    const request = { name, role, collections: [...collections], expiresAt, limits: limitsTo(limits) };
    return madeFrom(await once(this.#transport, "keys.create", pb.KeysService.create, request, options));
  }

  /** Newest first. */
  async list(options: CallOptions = {}): Promise<KeyInfo[]> {
    onlyKeys(options, callKeys, "options");
    const { keys } = await read(this.#transport, "keys.list", pb.KeysService.list, {}, options);
    return keys.map(keyFrom);
  }

  /** Gives the key another secret. NOT_FOUND. */
  async rotate(id: string, options: RotateKeyOptions = {}): Promise<MadeKey> {
    onlyKeys(options, rotateKeyKeys, "options");
    const request = { id, overlapMs: options.overlapMs ?? dayMs };
    return madeFrom(await once(this.#transport, "keys.rotate", pb.KeysService.rotate, request, options));
  }

  /** From now on nobody is let in by the key: on every router within two seconds. NOT_FOUND. */
  async revoke(id: string, options: CallOptions = {}): Promise<void> {
    onlyKeys(options, callKeys, "options");
    await once(this.#transport, "keys.revoke", pb.KeysService.revoke, { id }, options);
  }
}

/** Roles: what keys allow. */
export class Roles {
  readonly #transport: Transport;

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Makes the role, or changes it: keys that have it are bound by it at once. */
  async put(
    role: { name: string; rules: readonly RoleRuleInput[]; limits?: AccessLimits },
    options: CallOptions = {},
  ): Promise<RoleInfo> {
    onlyKeys(role, roleKeys, "role");
    onlyKeys(options, callKeys, "options");
    const rules = role.rules.map((rule, i) => {
      onlyKeys(rule, roleRuleKeys, `role.rules[${i}]`);
      return { verbs: [...rule.verbs], collections: [...rule.collections], filter: filterOf(rule.filter) };
    });
    const request = { role: { name: role.name, rules, isBuiltIn: false, limits: limitsTo(role.limits) } };
    return roleFrom((await read(this.#transport, "roles.put", pb.RolesService.put, request, options)).role);
  }

  /** The built-in ones first. */
  async list(options: CallOptions = {}): Promise<RoleInfo[]> {
    onlyKeys(options, callKeys, "options");
    const { roles } = await read(this.#transport, "roles.list", pb.RolesService.list, {}, options);
    return roles.map(roleFrom);
  }

  /** NOT_FOUND; FAILED_PRECONDITION while keys have the role. */
  async delete(name: string, options: CallOptions = {}): Promise<void> {
    onlyKeys(options, callKeys, "options");
    await once(this.#transport, "roles.delete", pb.RolesService.delete, { name }, options);
  }
}

/** What may be repeated. */
function read<Req, Res>(
  transport: Transport,
  name: string,
  method: UnaryDefinition<Req, Res>,
  request: Req,
  options: CallOptions,
): Promise<Res> {
  return transport.call(`kith.client.${name}`, options, (call) => transport.retried(method, request, call));
}

/** What a second time would do again, or refuse. */
function once<Req, Res>(
  transport: Transport,
  name: string,
  method: UnaryDefinition<Req, Res>,
  request: Req,
  options: CallOptions,
): Promise<Res> {
  return transport.call(`kith.client.${name}`, options, (call) => transport.unary(method, request, call));
}

function madeFrom({ key, secret }: pb.CreateKeyResponse | pb.RotateKeyResponse): MadeKey {
  return { key: keyFrom(key), secret };
}

function keyFrom(key: pb.Key | undefined): KeyInfo {
  const { id = "", name = "", role = "", collections = [], createdAt, expiresAt, secrets = [], limits } = key ?? {};
  return { id, name, role, collections, createdAt, expiresAt, secrets, limits: limitsFrom(limits) };
}

function roleFrom(role: pb.Role | undefined): RoleInfo {
  const { name = "", rules = [], isBuiltIn = false, limits } = role ?? {};
  return {
    name,
    rules: rules.map(({ verbs, collections, filter }) => ({
      ...{ verbs, collections },
      filter: filter && (JSON.parse(printJson(filterToJson(filterFromWire(filter)))) as JsonObject),
    })),
    isBuiltIn,
    limits: limitsFrom(limits),
  };
}

function limitsTo(limits: AccessLimits | undefined): pb.AccessLimits | undefined {
  if (limits === undefined) return undefined;
  onlyKeys(limits, accessLimitKeys, "limits");
  return pb.AccessLimits.fromPartial(limits);
}

function limitsFrom(limits: pb.AccessLimits | undefined): AccessLimits {
  return Object.fromEntries(Object.entries(limits ?? {}).filter(([, value]) => value !== 0));
}
