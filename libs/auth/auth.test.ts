import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRandom } from "../base/index.js";
import { ManualClock } from "../base/testing.js";
import { FakeCatalog } from "../catalog/testing.js";
import { filterFromJson } from "../filter/index.js";
import { idFromNum } from "../model/index.js";
import { Authenticator, type AuthenticatorOptions, KeyStore, Principal, type Role, rpcRules } from "./index.js";

const bootstrapKey = "b".repeat(40);
const hour = 3_600_000;

let catalog: FakeCatalog;
let clock: ManualClock;
let store: KeyStore;
let auth: Authenticator;

beforeEach(async () => {
  catalog = await FakeCatalog.open();
  clock = new ManualClock();
  store = new KeyStore(catalog, clock, systemRandom);
  await store.start();
  auth = authenticator({});
});
afterEach(async () => {
  auth.close();
  await store.close();
});

function authenticator(options: Partial<AuthenticatorOptions>): Authenticator {
  return new Authenticator({ store, catalog, clock, isRequired: true, bootstrapKey, keysStaleMs: hour, ...options });
}

const codeOf = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
};
const shown = (apiKey: string): Principal => auth.authenticate({ apiKey }) as Principal;

test("a key lets in until it is revoked, and the catalog does not have it", async () => {
  const { record, key } = await store.createKey({ name: "n", role: "reader", collections: ["docs", "films-*"] });
  expect(key).toMatch(new RegExp(`^kith_${record.id}_[A-Za-z0-9_-]{43}$`));
  const stored = JSON.stringify(await catalog.list(""));
  expect(stored).toContain(record.id);
  expect(stored).not.toContain(key.slice(-43));
  expect(shown(key).title).toBe(`key ${record.id} ("n")`);
  expect((auth.authenticate({ authorization: `Bearer ${key}` }) as Principal).id).toBe(record.id);
  const decided = ["docs", "docs2", "films-1", "Docs", "film"].map((name) => shown(key).decide("read", name).isAllowed);
  expect(decided).toEqual([true, false, true, false, false]);
  expect(shown(key).decide("write", "docs")).toMatchObject({ isAllowed: false, isVisible: true });
  await store.revokeKey(record.id);
  expect(codeOf(() => shown(key))).toBe("UNAUTHENTICATED");
  await expect(store.revokeKey(record.id)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("what is no good key gets one and the same answer", async () => {
  const { record, key } = await store.createKey({ name: "n", role: "reader", collections: ["*"] });
  const flipped = key.slice(0, -1) + (key.endsWith("A") ? "B" : "A");
  const messages = new Set<string>();
  for (const each of [flipped, `kith_${"0".repeat(16)}_${key.slice(-43)}`, "x", `${bootstrapKey}b`, record.id, ""]) {
    try {
      shown(each);
      messages.add(`let in: ${each}`);
    } catch (error) {
      messages.add((error as Error).message);
    }
  }
  expect(messages.size).toBe(1);
  expect([...messages][0]).toMatch(/not good/);
  for (const authorization of ["Basic abc", "Bearer", `Bearer ${key} x`, key]) {
    expect(codeOf(() => auth.authenticate({ authorization }))).toBe("UNAUTHENTICATED");
  }
  expect(codeOf(() => auth.authenticate({ authorization: `Bearer ${key}`, apiKey: key }))).toBe("UNAUTHENTICATED");
  expect(codeOf(() => auth.authenticate({}))).toBe("UNAUTHENTICATED");
});

test("keys expire, and a rotated one keeps its old secret for a while", async () => {
  const expiresAtMs = clock.nowMs() + 3 * hour;
  const { record, key } = await store.createKey({ name: "n", role: "reader", collections: ["*"], expiresAtMs });
  const second = await store.rotateKey(record.id, hour);
  expect(second.record.secrets).toHaveLength(2);
  expect([shown(key).id, shown(second.key).id]).toEqual([record.id, record.id]);
  await clock.advance(hour);
  expect(codeOf(() => shown(key))).toBe("UNAUTHENTICATED");
  expect(shown(second.key).id).toBe(record.id);
  const third = await store.rotateKey(record.id, 0);
  expect(codeOf(() => shown(second.key))).toBe("UNAUTHENTICATED");
  await clock.advance(2 * hour);
  expect(codeOf(() => shown(third.key))).toBe("UNAUTHENTICATED");
});

test("keys that are known are good for a bounded time while the catalog is away", async () => {
  const { key } = await store.createKey({ name: "n", role: "reader", collections: ["*"] });
  catalog.available = false;
  await clock.advance(hour);
  expect(shown(key).kind).toBe("key");
  await clock.advance(1);
  expect(codeOf(() => shown(key))).toBe("CATALOG_UNAVAILABLE");
  expect(shown(bootstrapKey).kind).toBe("bootstrap");
  catalog.available = true;
  expect(shown(key).kind).toBe("key");
});

test("a role binds its keys as it is now, and is kept while they have it", async () => {
  const role = (verbs: Role["rules"][number]["verbs"]): Role => ({
    name: "mine",
    rules: [{ verbs, collections: ["d*"] }],
  });
  await store.putRole(role(["read"]));
  const { record, key } = await store.createKey({ name: "n", role: "mine", collections: ["*"] });
  expect(shown(key).decide("write", "docs").isAllowed).toBe(false);
  await store.putRole(role(["write"]));
  expect(shown(key).decide("write", "docs").isAllowed).toBe(true);
  expect(shown(key).decide("read", "docs").isAllowed).toBe(false);
  await expect(store.deleteRole("mine")).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  await store.revokeKey(record.id);
  await store.deleteRole("mine");
  await expect(store.createKey({ name: "n", role: "mine", collections: ["*"] })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
});

test("roles that make no sense are refused", async () => {
  const filter = filterFromJson({ must: [{ key: "t", match: { value: "a" } }] });
  const words = filterFromJson({ must: [{ key: "t", match: { text: "a" } }] });
  const vectors = filterFromJson({ must_not: [{ has_vector: "" }] });
  const bad: [Role, string][] = [
    [{ name: "admin", rules: [{ verbs: ["read"], collections: ["*"] }] }, "INVALID_ARGUMENT"],
    [{ name: "a.b", rules: [{ verbs: ["read"], collections: ["*"] }] }, "INVALID_NAME"],
    [{ name: "r", rules: [] }, "INVALID_ARGUMENT"],
    [{ name: "r", rules: [{ verbs: ["fly" as "read"], collections: ["*"] }] }, "INVALID_ARGUMENT"],
    [{ name: "r", rules: [{ verbs: ["read"], collections: ["a*b"] }] }, "INVALID_ARGUMENT"],
    [{ name: "r", rules: [{ verbs: ["read"], collections: ["ä"] }] }, "INVALID_ARGUMENT"],
    [{ name: "r", rules: [{ verbs: ["drop"], collections: ["*"], filter }] }, "INVALID_ARGUMENT"],
    [{ name: "r", rules: [{ verbs: ["read"], collections: ["*"], filter: filterFromJson({}) }] }, "INVALID_FILTER"],
    [{ name: "r", rules: [{ verbs: ["read"], collections: ["*"], filter: words }] }, "INVALID_FILTER"],
    [{ name: "r", rules: [{ verbs: ["read"], collections: ["*"], filter: vectors }] }, "INVALID_FILTER"],
  ];
  for (const [role, code] of bad) await expect(store.putRole(role)).rejects.toMatchObject({ code });
});

test("rules of a role add up, what confines the caller does not, and a filter takes all other verbs", async () => {
  const of = (tenant: string) => filterFromJson({ must: [{ key: "t", match: { value: tenant } }] });
  const two: Role = {
    name: "two",
    rules: [
      { verbs: ["read"], collections: ["d"], filter: of("a") },
      { verbs: ["read"], collections: ["d"], filter: of("b") },
      { verbs: ["write"], collections: ["d"] },
    ],
  };
  const principal = (filter?: Role["rules"][number]["filter"], roles = [two]): Principal =>
    new Principal({ kind: "token", id: "x", name: "", roles, collections: ["*"], filter });
  const passes = (who: Principal): boolean[] =>
    ["a", "b", "c"].map(
      (t) => who.decide("read", "d").rule?.passes(idFromNum(1), Buffer.from(JSON.stringify({ t }))) === true,
    );
  expect(passes(principal())).toEqual([true, true, false]);
  expect(passes(principal(of("b")))).toEqual([false, true, false]);
  expect(principal().decide("write", "d").rule).toBeUndefined();
  const admin = store.role("admin") as Role;
  const confined = principal(of("a"), [admin]);
  expect(confined.decide("drop", "d").isAllowed).toBe(false);
  expect(confined.decide("write", "d")).toMatchObject({ isAllowed: true, rule: {} });
  expect(confined.mayEverywhere("keys")).toBe(false);
});

test("calls about the cluster need a rule for all collections", async () => {
  const { key } = await store.createKey({ name: "n", role: "admin", collections: ["docs"] });
  expect(codeOf(() => auth.authorize(shown(key), "/kith.v1.Keys/Create"))).toBe("PERMISSION_DENIED");
  expect(codeOf(() => auth.authorize(shown(key), "/kith.v1.Nothing/There"))).toBe("PERMISSION_DENIED");
  expect(auth.authorize(shown(bootstrapKey), "/kith.v1.Keys/Create").verb).toBe("keys");
  expect(rpcRules["/kith.v1.Keys/Create"]).toMatchObject({ on: "cluster" });
});

test("certificates stand for roles, where nothing else is shown", async () => {
  auth.close();
  auth = authenticator({ certificateRoles: new Map([["ingest", ["writer"]]]) });
  const known = auth.authenticate({ peerCertificate: { commonName: "ingest" } }) as Principal;
  expect([known.kind, known.decide("write", "any").isAllowed]).toEqual(["certificate", true]);
  expect(codeOf(() => auth.authenticate({ peerCertificate: { commonName: "Ingest" } }))).toBe("UNAUTHENTICATED");
  expect(codeOf(() => auth.authenticate({ apiKey: "x", peerCertificate: { commonName: "ingest" } }))).toBe(
    "UNAUTHENTICATED",
  );
});

test("where nobody has to say who it is, what is shown is checked all the same", async () => {
  auth.close();
  auth = authenticator({ isRequired: false });
  expect((auth.authenticate({}) as Principal).mayEverywhere("keys")).toBe(true);
  expect(codeOf(() => shown("x"))).toBe("UNAUTHENTICATED");
});

test("names of callers cannot forge lines of logs", async () => {
  for (const name of ["a\nb", "a\u2028b", "a\u202eb", "", "x".repeat(200)]) {
    await expect(store.createKey({ name, role: "reader", collections: ["*"] })).rejects.toMatchObject({
      code: "INVALID_NAME",
    });
  }
  const roles: Role[] = [];
  expect(new Principal({ kind: "token", id: 'a"\n', name: "", roles, collections: [] }).title).toBe('token "a\\"\\n"');
});
