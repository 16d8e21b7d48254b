import type { JWTPayload } from "jose";
import { type Clock, KithError } from "../base/index.js";
import { type Filter, filterOf, parsePath, type Path } from "../model/index.js";
import { notGood, type TokenVerifier } from "./authenticator.js";
import type { KeyStore } from "./key-store.js";
import { checkPatterns } from "./role.js";
import { everyCollection } from "./pattern.js";
import { Principal } from "./principal.js";
import { TokenKeys } from "./token-keys.js";
import { lowest, Usages } from "./usage.js";

export interface TokenOptions {
  store: KeyStore;
  clock: Clock;
  /** With which tokens are signed by HS256; 32 bytes or more. */
  secret?: Uint8Array | undefined;
  /** Gives the JSON Web Key Set of who signs tokens. */
  loadKeys?: (() => Promise<unknown>) | undefined;
  /** What tokens must say of who made them and whom they are for; undefined: anything. */
  issuer?: string | undefined;
  audience?: string | undefined;
  rolesClaim: string;
  collectionsClaim: string;
  /** The claim with the tenant, and the field of the payload that must have it: then no token is good without. */
  tenant?: { claim: string; path: string } | undefined;
  /** How far the clocks of who signs and of this process may differ, in milliseconds. */
  clockSkewMs: number;
  /** How long keys stay good that should have been read again, and could not be, in milliseconds. */
  keysStaleMs: number;
  onFailure: (error: KithError) => void;
}

/** Signatures that a public key can check. None is made with a secret, so that no public key can be taken for one. */
const publicAlgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
/** Tokens that are remembered, and for how long at most: a key that its issuer has taken back ends them. */
const rememberedMax = 10_000;
const rememberedMs = 300_000;

interface Remembered {
  principal: Principal;
  /** Wall clock. */
  untilMs: number;
}

/** Checks JSON Web Tokens; one that was checked before costs about as much as a key. */
export async function openTokens(options: TokenOptions): Promise<TokenVerifier> {
  const { secret, loadKeys, clock, store, onFailure } = options;
  if (secret !== undefined && secret.length < 32) {
    throw new KithError(
      "INVALID_CONFIG",
      `the secret of tokens has ${secret.length} bytes; use 32 random ones or more`,
    );
  }
  // Loaded where tokens are taken.
  const { createLocalJWKSet, decodeProtectedHeader, jwtVerify } = await import("jose");
  const keys = loadKeys && new TokenKeys(loadKeys, clock, createLocalJWKSet, options.keysStaleMs, onFailure);
  await keys?.start();
  const tenantPath = options.tenant && parsePath(options.tenant.path);
  const usages = new Usages(clock);
  const remembered = new Map<string, Remembered>();
  store.onChange(() => remembered.clear());

  const claimsOf = async (token: string): Promise<JWTPayload> => {
    try {
      const checks = {
        ...(options.issuer !== undefined && { issuer: options.issuer }),
        ...(options.audience !== undefined && { audience: options.audience }),
        clockTolerance: options.clockSkewMs / 1000,
        currentDate: new Date(clock.nowMs()),
        requiredClaims: ["exp", "sub"],
      };
      // The algorithm that the token names only chooses between two ways, each of which takes its own algorithms and keys alone.
      const isOfSecret = decodeProtectedHeader(token).alg === "HS256";
      if (isOfSecret && secret !== undefined) {
        return (await jwtVerify(token, secret, { ...checks, algorithms: ["HS256"] })).payload;
      }
      if (!isOfSecret && keys !== undefined) {
        return (await jwtVerify(token, keys.find, { ...checks, algorithms: publicAlgorithms })).payload;
      }
    } catch {
      // Why is of use to those alone who try to make one.
      throw notGood();
    }
    throw notGood();
  };

  const verify = async (token: string): Promise<Principal> => {
    const claims = await claimsOf(token);
    const principal = principalOf(claims, options, tenantPath, usages);
    const endMs = (claims.exp ?? 0) * 1000 + options.clockSkewMs;
    remembered.set(token, { principal, untilMs: Math.min(endMs, clock.nowMs() + rememberedMs) });
    for (const oldest of remembered.keys()) {
      if (remembered.size <= rememberedMax) break;
      remembered.delete(oldest);
    }
    return principal;
  };

  return {
    verify(token) {
      const known = remembered.get(token);
      if (known !== undefined && clock.nowMs() < known.untilMs) return known.principal;
      return verify(token);
    },
  };
}

/** Roles that the cluster does not have are passed over: a token without one that it has may do nothing. */
function principalOf(
  claims: JWTPayload,
  options: TokenOptions,
  tenantPath: Path | undefined,
  usages: Usages,
): Principal {
  const { store, rolesClaim, collectionsClaim, tenant } = options;
  const names = textsOf(claims[rolesClaim]);
  const collections = claims[collectionsClaim] === undefined ? [everyCollection] : textsOf(claims[collectionsClaim]);
  try {
    checkPatterns(collections, collectionsClaim);
  } catch {
    throw notGood();
  }
  const filter = tenant && tenantPath && tenantFilter(tenantPath, claims[tenant.claim]);
  const roles = names.map((name) => store.role(name)).filter((role) => role !== undefined);
  const id = String(claims.sub);
  const usage = usages.of(id, lowest(roles.map(({ limits }) => limits)));
  return new Principal({ kind: "token", id, name: "", roles, collections, filter, usage });
}

/** A claim of one text, or of a list of them; what is another thing makes the token no good. */
function textsOf(claim: unknown): string[] {
  if (claim === undefined) return [];
  const list: unknown[] = Array.isArray(claim) ? claim : [claim];
  if (list.every((each): each is string => typeof each === "string")) return list;
  throw notGood();
}

function tenantFilter(path: Path, value: unknown): Filter {
  const isText = typeof value === "string" && value !== "";
  if (!isText && !Number.isSafeInteger(value)) throw notGood();
  return filterOf({ must: [{ kind: "match", path, match: { kind: "value", value: value as string | number } }] });
}
