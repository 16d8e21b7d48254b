/**
 * npm run bench:auth: CPU that it takes to know who makes a call and whether it may, for an API key and for a token that was checked before.
 *
 *   --rounds N   turns of 100,000 calls each; default 10
 */
import { createHmac } from "node:crypto";
import { parseArgs } from "node:util";
import { Authenticator, KeyStore, openTokens } from "../../libs/auth/index.js";
import { systemClock, systemRandom } from "../../libs/base/index.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";

const callsOfRound = 100_000;
/** Keys that the cluster has beside the one that is shown. */
const otherKeys = 1_000;

const { values } = parseArgs({ options: { rounds: { type: "string", default: "10" } } });
const catalog = await FakeCatalog.open();
const store = new KeyStore(catalog, systemClock, systemRandom);
await store.start();
const secret = Buffer.alloc(40, "s");
const tokens = await openTokens({
  ...{
    store,
    clock: systemClock,
    secret,
    rolesClaim: "roles",
    collectionsClaim: "collections",
    clockSkewMs: 1_000,
    keysStaleMs: 0,
  },
  onFailure: (error) => console.error(error.message),
});
const auth = new Authenticator({
  ...{ store, catalog, clock: systemClock, tokens, isRequired: true, bootstrapKey: "b".repeat(40) },
  keysStaleMs: 3_600_000,
});
const granted = { role: "reader", collections: ["docs", "films-*"] };
for (let i = 0; i < otherKeys; i++) await store.createKey({ name: `other-${i}`, ...granted });
const { key } = await store.createKey({ name: "own", ...granted });
const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const expires = Math.floor(systemClock.nowMs() / 1_000) + 3_600;
const claims = { sub: "me", exp: expires, roles: ["reader"], collections: ["docs"], scope: "x".repeat(200) };
const body = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
const token = `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
const shownBy = {
  "API key": { apiKey: key },
  "remembered token": { authorization: `Bearer ${token}` },
};
await auth.authenticate(shownBy["remembered token"]);

const microseconds = new Map<string, number[]>();
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, shown] of Object.entries(shownBy)) {
    const from = process.cpuUsage();
    for (let left = callsOfRound; left > 0; left--) {
      const known = auth.authenticate(shown);
      const principal = known instanceof Promise ? await known : known;
      if (principal?.decide("read", "docs").isAllowed !== true) throw new Error(`${name} may not read`);
    }
    const { user, system } = process.cpuUsage(from);
    microseconds.set(name, [...(microseconds.get(name) ?? []), (user + system) / callsOfRound]);
  }
}
for (const [name, each] of microseconds) {
  const sorted = each.sort((a, b) => a - b);
  const shown = [sorted[sorted.length >> 1], sorted[0], sorted.at(-1)].map((us) => (us ?? Number.NaN).toFixed(2));
  console.log(`${name}: ${shown[0]} µs CPU a call (${shown[1]} to ${shown[2]})`);
}
auth.close();
await store.close();
