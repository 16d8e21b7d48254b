/** Keys of tokens that are served over HTTP: taken as they change, kept while they cannot be had. */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRandom } from "../../libs/base/index.js";
import { eventually, ManualClock } from "../../libs/base/testing.js";
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
/** Instead of the keys. */
let answer: ((response: ServerResponse) => void) | undefined;
let auth: OpenedAuth;
const said: string[] = [];

beforeEach(async () => {
  [shown, status, reads, answer] = [[], 200, 0, undefined];
  said.length = 0;
  issuer = createServer((_request, response) => {
    reads++;
    if (answer !== undefined) return answer(response);
    response.writeHead(status).end(status === 200 ? JSON.stringify({ keys: shown }) : "away");
  });
  issuer.listen(0, "127.0.0.1");
  await once(issuer, "listening");
});
afterEach(async () => {
  await auth.close();
  issuer.close();
  issuer.closeAllConnections();
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

test("keys that cannot be read again stay good for auth.keysStaleMs beyond their five minutes, and are asked for every ten seconds afterwards", async () => {
  const pair = await generateKeyPair("ES256");
  shown = [await publicKey(pair, "one")];
  await open();
  status = 503;
  for (let ms = 0; ms < 1_200_000; ms += 100_000) {
    expect(await isGood(pair, "one"), `after ${ms} ms`).toBe(true);
    clock.jump(100_000);
  }
  clock.jump(1);
  expect(await isGood(pair, "one")).toBe(false);
  status = 200;
  expect(await isGood(pair, "one")).toBe(false);
  clock.jump(10_001);
  expect(await isGood(pair, "one")).toBe(true);
});

test("keys of kinds that nobody knows are passed over", async () => {
  const pair = await generateKeyPair("ES256");
  const odd = [
    { kty: "AKP", alg: "ML-DSA-44", kid: "one", pub: "AAAA" },
    { kty: "__proto__", kid: "one" },
    { kty: "EC", crv: "P-999", kid: "one", x: "AA", y: "AA" },
    { kty: "OKP", crv: "X25519", kid: "two", x: "AA" },
  ];
  shown = [...odd, await publicKey(pair, "one")];
  await open();
  expect([await isGood(pair, "one"), await isGood(pair, "two"), await isGood(pair, "three")]).toEqual([
    true,
    false,
    false,
  ]);
});

test("an answer without an end, one that unpacks to more than it says, one that never comes and one from elsewhere leave the keys as they were", async () => {
  const pair = await generateKeyPair("ES256");
  shown = [await publicKey(pair, "one")];
  await open();
  let elsewhere = 0;
  let sentBytes = 0;
  let hasEnded = false;
  const pour = (response: ServerResponse, chunk: Buffer, chunks: number): void => {
    response.on("close", () => {
      hasEnded = true;
    });
    const more = (): void => {
      while (!response.closed && sentBytes < chunks * chunk.length) {
        sentBytes += chunk.length;
        if (!response.write(chunk)) return void response.once("drain", more);
      }
      response.end();
    };
    more();
  };
  const blanks = Buffer.alloc(1024 * 1024, 0x20);
  // A member of gzip may follow the other: 64 GiB of nothing.
  const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, 0x20));
  const answers: [why: RegExp, answer: (response: ServerResponse) => void, sentMax: number][] = [
    [/has more than 1048576 bytes/, (response) => pour(response, blanks, 1024), 64 * 1024 * 1024],
    [
      /has more than 1048576 bytes/,
      (response) => pour(response.setHeader("content-encoding", "gzip"), bomb, 1024),
      16 * 1024 * 1024,
    ],
    [
      /does not answer/,
      (response) => {
        answer = (second) => {
          elsewhere++;
          second.end("{}");
        };
        response.writeHead(302, { location: "/elsewhere" }).end();
      },
      0,
    ],
  ];
  for (const [why, given, sentMax] of answers) {
    [answer, sentBytes, hasEnded, said.length] = [given, 0, false, 0];
    clock.jump(299_000);
    expect(await isGood(pair, "one")).toBe(true);
    clock.jump(2_000);
    expect(await isGood(pair, "one")).toBe(true);
    expect(said.join("\n")).toMatch(why);
    if (sentMax > 0) await eventually(() => hasEnded);
    expect(sentBytes).toBeLessThanOrEqual(sentMax);
    // The keys are fresh again.
    answer = undefined;
    clock.jump(301_000);
    expect(await isGood(pair, "one")).toBe(true);
  }
  expect(elsewhere).toBe(0);
  said.length = 0;
  const silent = new Promise<void>((resolve) => {
    answer = () => resolve();
  });
  clock.jump(301_000);
  const asked = isGood(pair, "one");
  await silent;
  // Nobody else waits for it.
  expect(await isGood(pair, "one")).toBe(true);
  await clock.advance(5_001);
  expect(await asked).toBe(true);
  expect(said.join("\n")).toMatch(/does not answer/);
});
