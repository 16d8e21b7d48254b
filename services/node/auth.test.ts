/** Keys of tokens that are served over HTTP: taken as they change, kept while they cannot be had. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRandom } from "../../libs/base/index.js";
import { ManualClock } from "../../libs/base/testing.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { openAuth, type OpenedAuth } from "./auth.js";

type Pair = Awaited<ReturnType<typeof generateKeyPair>>;

const clock = new ManualClock();
let issuer: Server;
let shown: object[];
let status: number;
let reads: number;
let auth: OpenedAuth;
const said: string[] = [];

beforeEach(async () => {
  [shown, status, reads] = [[], 200, 0];
  issuer = createServer((_request, response) => {
    reads++;
    response.writeHead(status).end(status === 200 ? JSON.stringify({ keys: shown }) : "away");
  });
  issuer.listen(0, "127.0.0.1");
  await once(issuer, "listening");
});
afterEach(async () => {
  await auth.close();
  issuer.close();
});

async function open(): Promise<void> {
  const { port } = issuer.address() as AddressInfo;
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId: "a", roles: ["router"], log: { kind: "jetstream", url: "nats://127.0.0.1:1" } },
      auth: { tokens: { keys: `http://127.0.0.1:${port}/keys`, audience: "kith" } },
    },
  });
  const logger = { ...silentLogger, warn: (message: string) => void said.push(message) };
  auth = await openAuth(config, await FakeCatalog.open(), { clock, random: systemRandom }, logger, undefined);
}

const publicKey = async ({ publicKey: key }: Pair, kid: string): Promise<object> => ({
  ...(await exportJWK(key)),
  ...{ kid, alg: "ES256" },
});

let tokens = 0;

/** Whether a fresh token that is signed so is good. */
async function isGood({ privateKey }: Pair, kid: string): Promise<boolean> {
  const token = await new SignJWT({ roles: ["reader"] })
    .setProtectedHeader({ alg: "ES256", kid })
    .setSubject(`s${tokens++}`)
    .setAudience("kith")
    .setExpirationTime(Math.floor(clock.nowMs() / 1000) + 3_600)
    .sign(privateKey);
  try {
    await auth.authenticator.authenticate({ authorization: `Bearer ${token}` });
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: "UNAUTHENTICATED" });
    return false;
  }
}

test("a key that the issuer adds is taken at once, but looked for every ten seconds at most, and one that it takes back after five minutes", async () => {
  const [old, next] = [await generateKeyPair("ES256"), await generateKeyPair("ES256")];
  shown = [await publicKey(old, "old")];
  await open();
  expect([await isGood(old, "old"), await isGood(next, "next")]).toEqual([true, false]);
  shown.push(await publicKey(next, "next"));
  clock.jump(9_000);
  expect(await isGood(next, "next")).toBe(false);
  const before = reads;
  clock.jump(2_000);
  expect(await isGood(next, "next")).toBe(true);
  // Tokens that name keys which nobody has make nobody read the set again and again.
  for (let i = 0; i < 20; i++) expect(await isGood(next, `made-up-${i}`)).toBe(false);
  expect(reads).toBe(before + 1);
  shown = [await publicKey(next, "next")];
  clock.jump(200_000);
  expect(await isGood(old, "old")).toBe(true);
  clock.jump(101_000);
  expect([await isGood(old, "old"), await isGood(next, "next")]).toEqual([false, true]);
});

test("while the issuer is away, or shows what is no set of public keys, the keys of before stay good", async () => {
  const [pair, other] = [await generateKeyPair("ES256"), await generateKeyPair("ES256")];
  shown = [await publicKey(pair, "one")];
  await open();
  status = 503;
  clock.jump(301_000);
  expect(await isGood(pair, "one")).toBe(true);
  expect(said.join("\n")).toContain("answers with status 503");
  status = 200;
  shown = [{ kty: "oct", k: "c2VjcmV0", kid: "one" }];
  clock.jump(301_000);
  expect(await isGood(pair, "one")).toBe(true);
  expect(said.join("\n")).toContain("no JSON Web Key Set of public keys alone");
  shown = [await publicKey(other, "two")];
  clock.jump(301_000);
  expect([await isGood(other, "two"), await isGood(pair, "one")]).toEqual([true, false]);
});
