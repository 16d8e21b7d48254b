/** Keys on two routers of one cluster, on a real NATS server: what one changes the other knows. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { join } from "node:path";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { testNatsServer, type TestNatsServer } from "../../libs/nats-server/testing.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "./index.js";

const adminKey = "an-administrator-of-this-test-alone";

let folder: string;
let nats: TestNatsServer;
let routers: RunningNode[];
let admin: KithClient;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-keys-"));
  nats = await testNatsServer();
  routers = await Promise.all(
    ["a", "b"].map((nodeId) => {
      const roles = ["router", "coordinator"];
      const config = loadNodeConfig({
        flags: {
          ...{ nodeId, roles, listen: { port: 0 }, data: folder, drainTimeoutMs: 200, auth: { adminKey } },
          log: { kind: "jetstream", url: nats.url },
        },
      });
      return startNode(config, { version: "test", logger: () => silentLogger });
    }),
  );
  admin = await connect(routers[0]?.address ?? "", { apiKey: adminKey });
});
afterAll(async () => {
  admin.close();
  await Promise.all(routers.map((router) => router.close()));
  await nats.dispose();
  await rm(folder, { recursive: true, force: true });
});

test("a key is good on every router, and on none as soon as they have heard that it is revoked", async () => {
  const { key, secret } = await admin.keys.create("k", { role: "reader" });
  const other = await eventually(() => connect(routers[1]?.address ?? "", { apiKey: secret }));
  await other.collections.list();
  await admin.keys.revoke(key.id);
  await eventually(() =>
    other.collections.list().then(
      () => false,
      () => true,
    ),
  );
  await expect(other.collections.list()).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  other.close();
});

test("a client whose key is given anew goes on, on its stream too", async () => {
  const { key, secret } = await admin.keys.create("k", { role: "reader" });
  let current = secret;
  const client = await connect(routers[0]?.address ?? "", { apiKey: () => current });
  const query = (): Promise<unknown> =>
    client
      .collection("absent")
      .query({ vector: [1] })
      .catch(({ code }: { code: string }) => code);
  expect(await query()).toBe("COLLECTION_NOT_FOUND");
  current = (await admin.keys.rotate(key.id, { overlapMs: 0 })).secret;
  expect(await query()).toBe("COLLECTION_NOT_FOUND");
  current = secret;
  expect(await client.collections.list().catch(({ code }: { code: string }) => code)).toBe("UNAUTHENTICATED");
  client.close();
});
