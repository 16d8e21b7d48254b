import {
  type AccessLimits,
  builtInRoles,
  type KeyRecord,
  type KeyStore,
  type Role,
  type Verb,
} from "../../../libs/auth/index.js";
import { type Clock, KithError } from "../../../libs/base/index.js";
import { filterFromWire, filterToWire, pb } from "../../../libs/wire/index.js";

/** The Keys and Roles services. */
export class Keys {
  readonly #store: KeyStore;
  readonly #clock: Clock;

  constructor(store: KeyStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  async create({ name, role, collections, expiresAt, limits }: pb.CreateKeyRequest): Promise<pb.CreateKeyResponse> {
    const { record, key } = await this.#store.createKey({
      ...{ name, role, collections: collections.length === 0 ? ["*"] : collections },
      ...(expiresAt && { expiresAtMs: expiresAt.getTime() }),
      ...(limits && { limits: limitsFrom(limits) }),
    });
    return { key: this.#toWire(record), secret: key };
  }

  list(): pb.ListKeysResponse {
    return { keys: this.#store.keys().map((record) => this.#toWire(record)) };
  }

  async rotate({ id, overlapMs }: pb.RotateKeyRequest): Promise<pb.RotateKeyResponse> {
    const { record, key } = await this.#store.rotateKey(id, overlapMs);
    return { key: this.#toWire(record), secret: key };
  }

  async revoke({ id }: pb.RevokeKeyRequest): Promise<pb.RevokeKeyResponse> {
    await this.#store.revokeKey(id);
    return {};
  }

  async putRole({ role: wire }: pb.PutRoleRequest): Promise<pb.PutRoleResponse> {
    if (wire === undefined) throw new KithError("INVALID_ARGUMENT", "role: the request has none");
    const role: Role = {
      name: wire.name,
      ...(wire.limits && { limits: limitsFrom(wire.limits) }),
      rules: wire.rules.map(({ verbs, collections, filter }, i) => ({
        // The store refuses those that are none.
        verbs: verbs as Verb[],
        collections,
        ...(filter && { filter: filterFromWire(filter, `rules[${i}].filter`) }),
      })),
    };
    await this.#store.putRole(role);
    return { role: roleToWire(role) };
  }

  listRoles(): pb.ListRolesResponse {
    return { roles: this.#store.roles().map(roleToWire) };
  }

  async deleteRole({ name }: pb.DeleteRoleRequest): Promise<pb.DeleteRoleResponse> {
    await this.#store.deleteRole(name);
    return {};
  }

  /** Without the hashes: those of no use to anybody leave. */
  #toWire({ id, name, role, collections, createdAtMs, expiresAtMs, secrets, limits }: KeyRecord): pb.Key {
    const nowMs = this.#clock.nowMs();
    return {
      ...{ id, name, role, collections: [...collections] },
      createdAt: new Date(createdAtMs),
      expiresAt: dateOf(expiresAtMs),
      limits: limits && limitsToWire(limits),
      secrets: secrets
        .filter(({ untilMs = Infinity }) => untilMs > nowMs)
        .map(({ sinceMs, untilMs }) => ({ createdAt: new Date(sinceMs), expiresAt: dateOf(untilMs) })),
    };
  }
}

function dateOf(ms: number | undefined): Date | undefined {
  return ms === undefined ? undefined : new Date(ms);
}

function limitsFrom(limits: pb.AccessLimits): AccessLimits {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== 0));
}

function limitsToWire(limits: AccessLimits): pb.AccessLimits {
  return pb.AccessLimits.fromPartial(limits);
}

function roleToWire({ name, rules, limits }: Role): pb.Role {
  return {
    name,
    rules: rules.map(({ verbs, collections, filter }) => ({
      verbs: [...verbs],
      collections: [...collections],
      filter: filter && filterToWire(filter),
    })),
    limits: limits && limitsToWire(limits),
    isBuiltIn: builtInRoles.some((each) => each.name === name),
  };
}
