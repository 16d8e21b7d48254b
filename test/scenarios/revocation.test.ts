/** A key that is revoked, with real routers: refused by all of them, by one that is cut off from NATS after the stated time, and never let in again. */
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { KithError, type KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";

const adminKey = "an-administrator-of-this-test-alone";
/** docs/security.md promises it of routers that reach the catalog. */
const heardWithinMs = 2_000;
const keysStaleMs = 3_000;

const cluster = useCluster(() =>
  startProcesses({
    ...{ shardNodes: 1, replicas: 1, routers: 2, cuttable: true, connect: { apiKey: adminKey } },
    env: { KITH_AUTH_ADMIN_KEY: adminKey, KITH_AUTH_REQUIRED: "true", KITH_AUTH_KEYS_STALE_MS: String(keysStaleMs) },
  }),
);

/** "in", or the code of the refusal. */
async function outcomeOf(client: KithClient): Promise<string> {
  try {
    await client.collections.list({ deadlineMs: 5_000 });
    return "in";
  } catch (error) {
    if (error instanceof KithError) return error.code;
    throw error;
  }
}

const becomes = (client: KithClient, outcome: string, withinMs: number): Promise<void> =>
  eventually(async () => expect(await outcomeOf(client)).toBe(outcome), withinMs);

/** A key that both routers know, and a client of each. */
async function newKey(admin: KithClient): Promise<{ id: string; clients: [KithClient, KithClient] }> {
  const { key, secret } = await admin.keys.create("k", { role: "reader" });
  const connectTo = (router: number): Promise<KithClient> =>
    eventually(() => cluster().connect({ router, apiKey: secret, retry: { attempts: 1 } }), 10_000);
  return { id: key.id, clients: [await connectTo(0), await connectTo(1)] };
}

test("a revoked key is refused by every router within the promised time, and by one that is cut off after that of the settings", {
  timeout: 60_000,
}, async () => {
  const admin = await cluster().connect();
  const { id, clients } = await newKey(admin);
  await admin.keys.revoke(id);
  await Promise.all(clients.map((client) => becomes(client, "UNAUTHENTICATED", heardWithinMs)));

  const {
    id: second,
    clients: [near, far],
  } = await newKey(admin);
  const { nats } = cluster().networkOf("router-1");
  nats.cut({ toServer: true, toClient: true });
  await admin.keys.revoke(second);
  await becomes(near, "UNAUTHENTICATED", heardWithinMs);
  // Nothing can tell the other router.
  expect(await outcomeOf(far)).toBe("in");
  await becomes(far, "CATALOG_UNAVAILABLE", 30_000);
  nats.mend();
  await becomes(far, "UNAUTHENTICATED", 15_000);
  for (let i = 0; i < 10; i++) expect(await outcomeOf(far)).toBe("UNAUTHENTICATED");
});

test("while NATS is away routers go on with the keys that they know, for the time of the settings, and take them again afterwards", {
  timeout: 60_000,
}, async () => {
  const admin = await cluster().connect();
  const { clients } = await newKey(admin);
  await cluster().killNats();
  const killedMs = performance.now();
  expect(await Promise.all(clients.map(outcomeOf))).toEqual(["in", "in"]);
  await Promise.all(clients.map((client) => becomes(client, "CATALOG_UNAVAILABLE", 20_000)));
  expect(performance.now() - killedMs).toBeGreaterThan(keysStaleMs);
  // The administrator's key is in no catalog.
  expect(await outcomeOf(admin)).toBe("in");
  await cluster().startNats();
  await Promise.all(clients.map((client) => becomes(client, "in", 20_000)));
});
