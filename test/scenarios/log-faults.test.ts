/**
 * The log is not what a replica has read before: trimmed past a replica that was away, or deleted and made anew. The replica
 * stops with a reason that the cluster's description shows, others serve where they can, and it copies one of these. Where
 * none can give a copy, nothing on disk is wiped.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { filesBelow } from "../cluster/damage.js";
import { eventually } from "../../libs/base/testing.js";
import { useReplicaPair } from "../cluster/replica-pair.js";
import { compareDigests, Ledger, range } from "../cluster/workload.js";

const { cluster, log, client, filled, expectAgreement } = useReplicaPair();

test("a replica that was away while the log was trimmed past it copies the other one and follows the log", {
  timeout: 120_000,
}, async () => {
  const before = await client().cluster.settings();
  const retention = { logRetentionMs: 0, logRetentionBytes: 0, logRetentionRecords: 1 };
  await client().cluster.updateSettings({ ...retention, replicaFlushMs: 200, logHoldMs: 500 });
  const { handle, ledger, id } = await filled("trimmed");
  const name = { collectionId: id, shard: 0 };
  // A log that the coordinator has not compared with all its replicas yet is not trimmed for a minute where one of them is away.
  await eventually(async () => expect((await log().state(name)).firstSequence).toBeGreaterThan(1), 20_000);
  await cluster().stop("shard-1");
  for (let i = 0; i < 20; i++) expect(await ledger.write(range(i * 10, 50))).toBe(true);
  expect(await ledger.delete([3, 4, 5])).toBe(true);
  await eventually(async () => {
    const { firstSequence, lastSequence } = await log().state(name);
    expect(firstSequence).toBe(lastSequence);
  }, 20_000);
  const { shards } = await client().cluster.describe();
  const shard = shards.find(({ collection }) => collection === "trimmed");
  expect(shard?.logFirstSequence).toBe(shard?.logSequence);
  expect(shard?.logBytes).toBeGreaterThan(0);
  await client().cluster.updateSettings({ ...before });
  await cluster().start("shard-1");
  for (let i = 0; i < 5; i++) expect(await ledger.write(range(i * 10, 50))).toBe(true);
  await ledger.verify();
  await expectAgreement(ledger);
  expect(cluster().logOf("shard-1")).toMatch(/this replica has copied the replica of shard-0/);
  expect(await ledger.write(range(0, 50))).toBe(true);
  await ledger.verify();
  await handle.drop();
});

test("a replica that lost its data copies another where the log was trimmed", { timeout: 120_000 }, async () => {
  const { handle, ledger, id } = await filled("lost");
  await eventually(() => compareDigests(client(), 2));
  await cluster().stop("shard-1");
  await log().trim({ collectionId: id, shard: 0 }, 5);
  for (const path of filesBelow(cluster().dataOf("shard-1"), new RegExp(`${id}/`))) rmSync(path);
  await cluster().start("shard-1");
  await expectAgreement(ledger);
  await handle.drop();
});

test("a replica of a log that was replaced copies one that follows the new log, and keeps what it had", {
  timeout: 120_000,
}, async () => {
  const { handle, id } = await filled("replaced");
  await eventually(() => compareDigests(client(), 2));
  for (const node of ["shard-0", "shard-1"]) await cluster().stop(node);
  const name = { collectionId: id, shard: 0 };
  await log().remove(name);
  await log().create(name);
  // The operator decides that the log is right as it is, for one replica.
  rmSync(join(cluster().dataOf("shard-0"), "replicas", id), { recursive: true });
  await cluster().start("shard-0");
  const ledger = new Ledger(handle);
  await eventually(async () => expect(await ledger.write(range(0, 20))).toBe(true), 20_000);
  await cluster().start("shard-1");
  await expectAgreement(ledger);
  expect(filesBelow(cluster().dataOf("shard-1"), new RegExp(`${id}/0/replaced-1/db/CURRENT`))).toHaveLength(1);
  await handle.drop();
});
