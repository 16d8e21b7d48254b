import { createHmac } from "node:crypto";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { beforeAll, beforeEach, expect, test } from "vitest";
import { systemRandom } from "../base/index.js";
import { ManualClock } from "../base/testing.js";
import { FakeCatalog } from "../catalog/testing.js";
import { idFromNum } from "../model/index.js";
import { KeyStore, openTokens, type TokenOptions, type TokenVerifier } from "./index.js";

const secret = Buffer.from("s".repeat(32));
const claims: JWTPayload = { sub: "ann", roles: ["reader"], tenant: "a" };

type Pair = Awaited<ReturnType<typeof generateKeyPair>>;
let pairs: Pair[];
let clock: ManualClock;
let store: KeyStore;
/** Public keys that the issuer shows. */
let shown: object[];
let reads: number;
const failures: string[] = [];

beforeAll(async () => {
  pairs = [await generateKeyPair("ES256"), await generateKeyPair("ES256")];
});
beforeEach(async () => {
  clock = new ManualClock();
  store = new KeyStore(await FakeCatalog.open(), clock, systemRandom);
  await store.start();
  shown = [await publicKey(0)];
  reads = 0;
});

async function publicKey(at: number): Promise<object> {
  return { ...(await exportJWK((pairs[at] as Pair).publicKey)), kid: `k${at}`, alg: "ES256", use: "sig" };
}

function verifier(options: Partial<TokenOptions> = {}): Promise<TokenVerifier> {
  return openTokens({
    ...{
      store,
      clock,
      rolesClaim: "roles",
      collectionsClaim: "collections",
      clockSkewMs: 30_000,
      keysStaleMs: 900_000,
    },
    loadKeys: () => {
      reads++;
      return Promise.resolve({ keys: shown });
    },
    onFailure: ({ message }) => failures.push(message),
    ...options,
  });
}

const seconds = (offset: number): number => Math.floor(clock.nowMs() / 1000) + offset;

function signed(at: number, payload: JWTPayload = claims, exp = seconds(3_600)): Promise<string> {
  return new SignJWT({ exp, ...payload })
    .setProtectedHeader({ alg: "ES256", kid: `k${at}` })
    .sign((pairs[at] as Pair).privateKey);
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");

function hmac(header: object, key: string | Uint8Array, payload: object = { ...claims, exp: seconds(3_600) }): string {
  const body = `${encode(header)}.${encode(payload)}`;
  return `${body}.${createHmac("sha256", key).update(body).digest("base64url")}`;
}

async function outcomeOf(tokens: TokenVerifier, token: string): Promise<string> {
  try {
    return (await tokens.verify(token)).id;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

test("a token of the issuer's key lets in with its roles, collections and tenant", async () => {
  const tokens = await verifier({ tenant: { claim: "tenant", path: "tenant" } });
  const principal = await tokens.verify(await signed(0, { ...claims, collections: ["docs", "films-*"] }));
  expect(principal.title).toBe('token "ann"');
  expect(principal.decide("write", "docs").isAllowed).toBe(false);
  expect(principal.decide("read", "other").isVisible).toBe(false);
  const { rule } = principal.decide("read", "films-1");
  expect(["a", "b"].map((tenant) => rule?.passes(idFromNum(1), Buffer.from(JSON.stringify({ tenant }))))).toEqual([
    true,
    false,
  ]);
  for (const tenant of [undefined, "", null, ["a"], { a: 1 }, true]) {
    expect(await outcomeOf(tokens, await signed(0, { ...claims, tenant }))).toBe("UNAUTHENTICATED");
  }
  for (const wrong of [{ collections: "a b" }, { collections: [] }, { collections: [1] }, { roles: { a: 1 } }]) {
    expect(await outcomeOf(tokens, await signed(0, { ...claims, ...wrong }))).toBe("UNAUTHENTICATED");
  }
  const nobody = await tokens.verify(await signed(0, { ...claims, roles: ["nobody"] }));
  expect(nobody.decide("describe", "docs").isVisible).toBe(false);
});

test("tokens without a signature, and with one of another kind of key, are none", async () => {
  const tokens = await verifier({ secret });
  const jwk = JSON.stringify(shown[0]);
  const good = await signed(0);
  const [header, payload, signature] = good.split(".") as [string, string, string];
  const bad = {
    none: `${encode({ alg: "none" })}.${payload}.`,
    noneInCapitals: `${encode({ alg: "NONE" })}.${payload}.${signature}`,
    publicKeyAsSecret: hmac({ alg: "HS256", kid: "k0" }, jwk),
    spkiAsSecret: hmac({ alg: "HS256", kid: "k0" }, Buffer.from((shown[0] as { x: string }).x, "base64url")),
    otherHash: hmac({ alg: "HS512" }, secret),
    secretAsKey: hmac({ alg: "ES256", kid: "k0" }, secret),
    ownKey: await new SignJWT({ ...claims, exp: seconds(60) })
      .setProtectedHeader({ alg: "ES256", jwk: await exportJWK((pairs[1] as Pair).publicKey) })
      .sign((pairs[1] as Pair).privateKey),
    otherKey: await signed(1),
    critical: await new SignJWT({ ...claims, exp: seconds(60) })
      .setProtectedHeader({ alg: "ES256", kid: "k0", crit: ["x"], x: 1 })
      .sign((pairs[0] as Pair).privateKey, { crit: { x: true } }),
    changed: `${header}.${encode({ ...claims, sub: "eve", exp: seconds(60) })}.${signature}`,
    empty: "..",
    garbage: "a.b.c",
  };
  for (const [what, token] of Object.entries(bad))
    expect([what, await outcomeOf(tokens, token)]).toEqual([what, "UNAUTHENTICATED"]);
  expect(await outcomeOf(tokens, hmac({ alg: "HS256" }, secret))).toBe("ann");
  expect(await outcomeOf(await verifier(), hmac({ alg: "HS256" }, secret))).toBe("UNAUTHENTICATED");
  expect(await outcomeOf(await verifier({ secret, loadKeys: undefined }), good)).toBe("UNAUTHENTICATED");
  await expect(verifier({ secret: Buffer.from("short") })).rejects.toMatchObject({ code: "INVALID_CONFIG" });
});

test("times, issuer and audience are kept to, with a bounded difference of clocks", async () => {
  const tokens = await verifier({ issuer: "https://id", audience: "kith" });
  const own = { ...claims, iss: "https://id", aud: ["kith", "other"] };
  expect(await outcomeOf(tokens, await signed(0, own))).toBe("ann");
  expect(await outcomeOf(tokens, await signed(0, own, seconds(-29)))).toBe("ann");
  expect(await outcomeOf(tokens, await signed(0, { ...own, nbf: seconds(29) }))).toBe("ann");
  const bad: [JWTPayload, number?][] = [
    [own, seconds(-31)],
    [{ ...own, nbf: seconds(31) }],
    [{ ...own, exp: undefined }],
    [{ ...own, sub: undefined }],
    [{ ...own, iss: "https://other" }],
    [{ ...own, aud: "other" }],
    [claims],
  ];
  for (const [payload, exp] of bad)
    expect(await outcomeOf(tokens, await signed(0, payload, exp))).toBe("UNAUTHENTICATED");
});

test("one that was checked before is known at once, until it ends or roles change", async () => {
  const tokens = await verifier();
  const token = await signed(0, claims, seconds(60));
  const first = await tokens.verify(token);
  expect(tokens.verify(token)).toBe(first);
  await store.putRole({ name: "new", rules: [{ verbs: ["read"], collections: ["*"] }] });
  expect(tokens.verify(token)).toBeInstanceOf(Promise);
  expect((await tokens.verify(token)).id).toBe("ann");
  await clock.advance(91_000);
  expect(await outcomeOf(tokens, token)).toBe("UNAUTHENTICATED");
});

test("a new key of the issuer is found, and one that was taken back ends", async () => {
  const tokens = await verifier();
  const old = await signed(0);
  expect([await outcomeOf(tokens, old), reads]).toEqual(["ann", 1]);
  shown = [await publicKey(1)];
  const fresh = await signed(1);
  // Not for each token with a key that is unknown.
  expect([await outcomeOf(tokens, fresh), reads]).toEqual(["UNAUTHENTICATED", 1]);
  await clock.advance(10_000);
  expect([await outcomeOf(tokens, fresh), reads]).toEqual(["ann", 2]);
  await clock.advance(290_001);
  expect(await outcomeOf(tokens, old)).toBe("UNAUTHENTICATED");
  shown = [];
  await clock.advance(300_001);
  expect(await outcomeOf(tokens, await signed(1))).toBe("ann");
  expect(failures.at(-1)).toMatch(/no JSON Web Key Set/);
  shown = [{ kty: "oct", k: "AAAA" }];
  await expect(verifier()).rejects.toMatchObject({ code: "INVALID_CONFIG" });
});
