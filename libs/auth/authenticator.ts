import { type Clock, KithError } from "../base/index.js";
import type { CallAccess } from "../call/index.js";
import type { Catalog } from "../catalog/index.js";
import { hashOfKey, idOfKey, isSameHash, type KeyRecord } from "./key.js";
import type { KeyStore } from "./key-store.js";
import { everyCollection } from "./pattern.js";
import { Principal } from "./principal.js";
import { builtInRoles } from "./role.js";
import { lowest, Usages } from "./usage.js";
import { rpcRules } from "./verbs.js";

/** What a caller shows, however it came. */
export interface Credentials {
  /** The header `authorization`: "Bearer" and a key or token. */
  readonly authorization?: string | undefined;
  /** The header `api-key`: a key. */
  readonly apiKey?: string | undefined;
  /** Of a client certificate that TLS has verified. */
  readonly peerCertificate?: PeerCertificate | undefined;
}

export interface PeerCertificate {
  readonly commonName: string;
}

/** Checks tokens that others have signed. UNAUTHENTICATED where one is not good. */
export interface TokenVerifier {
  /** At once for one that was checked before. */
  verify(token: string): Principal | Promise<Principal>;
}

export interface AuthenticatorOptions extends AuthenticatorSources {
  store: KeyStore;
  catalog: Pick<Catalog, "available" | "onAvailability">;
  clock: Clock;
}

/** What settings say of who may call. */
export interface AuthenticatorSources {
  /** Whether everybody has to say who it is. What is shown is checked in any case. */
  isRequired: boolean;
  /** The key of the first administrator, which is in no catalog. */
  bootstrapKey?: string | undefined;
  /** Names of roles by the common name of client certificates. */
  certificateRoles?: ReadonlyMap<string, readonly string[]> | undefined;
  tokens?: TokenVerifier | undefined;
  /** How long keys are taken from what is known while the catalog is away, in milliseconds. */
  keysStaleMs: number;
}

/** Longest key or token that is looked at, in characters. */
const credentialLength = 8_192;

/** A key as it was last seen, and whom it stands for. */
interface KnownKey {
  record: KeyRecord;
  secrets: readonly { hash: Buffer; untilMs: number | undefined }[];
  principal: Principal;
}

/** Tells who calls, and what each call may do. A known key costs about 3 µs. */
export class Authenticator {
  #options: AuthenticatorOptions;
  #bootstrapHash: Buffer | undefined;
  /** By id; emptied by every change of keys and roles. */
  readonly #known = new Map<string, KnownKey>();
  readonly #certificates = new Map<string, Principal>();
  readonly #usages: Usages;
  readonly #anybody = adminOf("anybody");
  readonly #bootstrap = adminOf("bootstrap");
  readonly #stopListening: () => void;
  /** Monotonic; undefined while the catalog answers. */
  #awaySinceMs: number | undefined;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
    this.#usages = new Usages(options.clock);
    const { store, catalog, clock, bootstrapKey } = options;
    this.#bootstrapHash = bootstrapKey === undefined ? undefined : hashOfKey(bootstrapKey);
    store.onChange(() => {
      this.#known.clear();
      this.#certificates.clear();
    });
    const note = (isAvailable: boolean): void => {
      this.#awaySinceMs = isAvailable ? undefined : (this.#awaySinceMs ?? clock.monotonicMs());
    };
    note(catalog.available);
    this.#stopListening = catalog.onAvailability(note);
  }

  /** Who may call by other settings, from the next call on. */
  reconfigure(sources: AuthenticatorSources): void {
    this.#options = { ...this.#options, ...sources };
    const { bootstrapKey } = sources;
    this.#bootstrapHash = bootstrapKey === undefined ? undefined : hashOfKey(bootstrapKey);
    this.#certificates.clear();
  }

  get isRequired(): boolean {
    return this.#options.isRequired;
  }

  /**
   * Who shows these credentials. UNAUTHENTICATED where they are missing or not good, without a word of what is wrong with them;
   * CATALOG_UNAVAILABLE where too long nothing was heard of keys that may have been revoked since.
   */
  authenticate(credentials: Credentials): Principal | Promise<Principal> {
    const shown = shownBy(credentials);
    if (shown !== undefined) return this.#recognize(shown);
    const { certificateRoles, isRequired } = this.#options;
    if (certificateRoles !== undefined && certificateRoles.size > 0) {
      const { peerCertificate } = credentials;
      const known = peerCertificate && this.#certificate(peerCertificate, certificateRoles);
      if (known !== undefined) return known;
    }
    if (!isRequired) return this.#anybody;
    throw unauthenticated(
      "the call does not say who makes it: send an API key in the header api-key, or a key or token as authorization: Bearer",
    );
  }

  /**
   * What the principal may do in a call of this path ("/kith.v1.Points/Query"), to be given to the handler as its call's `access`: what it may do
   * with a collection is asked there, where the request's name is resolved. PERMISSION_DENIED for calls about the cluster.
   */
  authorize(principal: Principal, path: string): CallAccess {
    const rule = rpcRules[path];
    if (rule === undefined) throw new KithError("PERMISSION_DENIED", "nobody may make this call");
    if (rule.on === "cluster" && !principal.mayEverywhere(rule.verb)) {
      throw new KithError("PERMISSION_DENIED", `the call needs the verb "${rule.verb}" on all collections`, {
        details: { verb: rule.verb },
      });
    }
    return principal.accessFor(path, rule);
  }

  close(): void {
    this.#stopListening();
  }

  #recognize(shown: string): Principal | Promise<Principal> {
    if (shown.length > credentialLength) throw notGood();
    const { tokens } = this.#options;
    // No key of ours has a dot, and every token has two.
    if (tokens !== undefined && shown.includes(".") && shown.split(".", 4).length === 3) return tokens.verify(shown);
    const hash = hashOfKey(shown);
    if (this.#bootstrapHash !== undefined && isSameHash(hash, this.#bootstrapHash)) return this.#bootstrap;
    const id = idOfKey(shown);
    const known = id === undefined ? undefined : this.#keyOf(id);
    if (known === undefined) throw notGood();
    const { clock, keysStaleMs } = this.#options;
    const nowMs = clock.nowMs();
    const isSecret = known.secrets.some(
      ({ hash: own, untilMs = Infinity }) => isSameHash(hash, own) && nowMs < untilMs,
    );
    if (!isSecret || nowMs >= (known.record.expiresAtMs ?? Infinity)) throw notGood();
    const awayMs = this.#awaySinceMs === undefined ? 0 : clock.monotonicMs() - this.#awaySinceMs;
    if (awayMs <= keysStaleMs) return known.principal;
    throw new KithError(
      "CATALOG_UNAVAILABLE",
      "the catalog, which has the keys, cannot be reached for too long, and the key may have been revoked since; try again later",
      { retryAfterMs: 1_000 },
    );
  }

  #keyOf(id: string): KnownKey | undefined {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    const { store } = this.#options;
    const record = store.key(id);
    if (record === undefined) return undefined;
    const { name, role, collections } = record;
    const roles = [store.role(role)].filter((each) => each !== undefined);
    const fresh: KnownKey = {
      record,
      secrets: record.secrets.map(({ hash, untilMs }) => ({ hash: Buffer.from(hash, "hex"), untilMs })),
      principal: new Principal({
        ...{ kind: "key", id, name, roles, collections },
        usage: this.#usages.of(`key ${id}`, lowest([record.limits, ...roles.map(({ limits }) => limits)])),
      }),
    };
    this.#known.set(id, fresh);
    return fresh;
  }

  #certificate(
    { commonName }: PeerCertificate,
    certificateRoles: ReadonlyMap<string, readonly string[]>,
  ): Principal | undefined {
    const names = certificateRoles.get(commonName);
    if (names === undefined) return undefined;
    let principal = this.#certificates.get(commonName);
    if (principal === undefined) {
      const roles = names.map((name) => this.#options.store.role(name)).filter((each) => each !== undefined);
      const collections = [everyCollection];
      const usage = this.#usages.of(`certificate ${commonName}`, lowest(roles.map(({ limits }) => limits)));
      principal = new Principal({ kind: "certificate", id: commonName, name: "", roles, collections, usage });
      this.#certificates.set(commonName, principal);
    }
    return principal;
  }
}

function adminOf(kind: "anybody" | "bootstrap"): Principal {
  const roles = builtInRoles.filter((role) => role.name === "admin");
  return new Principal({ kind, id: "", name: "", roles, collections: [everyCollection] });
}

/** The one key or token that is shown. */
function shownBy({ authorization, apiKey }: Credentials): string | undefined {
  if (authorization !== undefined && apiKey !== undefined) {
    throw unauthenticated("the call has both the header authorization and the header api-key; send one of them");
  }
  if (apiKey !== undefined) return apiKey;
  if (authorization === undefined) return undefined;
  const token = /^Bearer +([^ ]+)$/i.exec(authorization)?.[1];
  if (token !== undefined) return token;
  throw unauthenticated('the header authorization is not "Bearer", a space, and a key or token');
}

/** The same for keys and tokens that never were, have expired, or were revoked. */
export function notGood(): KithError {
  return unauthenticated("the key or token of the call is not good: it is unknown, has expired, or was revoked");
}

function unauthenticated(message: string): KithError {
  return new KithError("UNAUTHENTICATED", message);
}
