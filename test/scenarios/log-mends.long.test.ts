/**
 * A log that is not what its replicas have read: deleted, made anew, or put back to an earlier state with the store of NATS. It is mended from what the
 * replicas have: nothing acknowledged is lost, and writes go on.
 */
import { cpSync, rmSync } from "node:fs";
import { expect, test } from "vitest";
import type { ClusterInfo } from "../../libs/client/index.js";
import { filesBelow } from "../cluster/damage.js";
import { eventually } from "../../libs/base/testing.js";
import { useReplicaPair } from "../cluster/replica-pair.js";
import type { Ledger } from "../cluster/workload.js";
import { compareDigests, range, replicaOn } from "../cluster/workload.js";

const { cluster, log, client, filled, expectAgreement } = useReplicaPair();

async function onNode(node: string, collection: string): Promise<ClusterInfo["shards"][number]["replicas"][number]> {
  return replicaOn(await client().cluster.describe(), node, collection);
}

/** The log is mended within some seconds: writes go on above all that was seen, and nothing that was acknowledged is missing. */
async function expectMended(ledger: Ledger, id: string, appliedBefore: number): Promise<void> {
  await eventually(async () => expect(await ledger.write(range(0, 50), { deadlineMs: 5_000 })).toBe(true), 60_000);
  await ledger.verify();
  const { firstSequence, lastSequence } = await log().state({ collectionId: id, shard: 0 });
  expect(firstSequence).toBeGreaterThan(appliedBefore);
  expect(lastSequence).toBeGreaterThan(appliedBefore);
  await eventually(() => compareDigests(client(), 2), 30_000);
  expect(cluster().logOf("router-0")).toMatch(/"alarm":"log_mended"/);
}

/** Logs are looked at all the time. */
async function lookOften(): Promise<void> {
  await client().cluster.updateSettings({ replicaFlushMs: 200 });
}

test("a log that was deleted, or made anew, is mended from what its replicas have", { timeout: 120_000 }, async () => {
  await lookOften();
  const gone = await filled("gone");
  const anew = await filled("anew");
  await eventually(() => compareDigests(client(), 2));
  const before = await onNode("shard-0", "gone");
  await log().remove({ collectionId: gone.id, shard: 0 });
  const name = { collectionId: anew.id, shard: 0 };
  await log().remove(name);
  await log().create(name);
  await log().append(name, Buffer.from("of another past"), { messageId: "1" });
  await eventually(async () => {
    for (const collection of ["gone", "anew"]) {
      const { state, fault } = await onNode("shard-0", collection);
      expect(state, collection).toBe("stale");
      expect(fault, collection).toMatch(/log of this shard is gone|restored, emptied or replaced/);
    }
  }, 30_000);
  for (const { ledger, id } of [gone, anew]) await expectMended(ledger, id, before.appliedSequence);
  for (const { ledger } of [gone, anew]) await expectAgreement(ledger);
  for (const node of ["shard-0", "shard-1"]) {
    expect(filesBelow(cluster().dataOf(node), /replaced-\d+\/db\/CURRENT/).length, node).toBeLessThanOrEqual(1);
  }
  await gone.handle.drop();
  await anew.handle.drop();
});

test("what was written after the store of NATS was copied is there after the copy was put back", {
  timeout: 120_000,
}, async () => {
  await lookOften();
  const { handle, ledger, id } = await filled("back");
  await eventually(() => compareDigests(client(), 2));
  const copy = `${cluster().dataOf("nats")}-copy`;
  await cluster().killNats();
  cpSync(cluster().dataOf("nats"), copy, { recursive: true });
  await cluster().startNats();
  for (let i = 0; i < 20; i++) {
    await eventually(async () => expect(await ledger.write(range(i * 10, 50))).toBe(true), 20_000);
  }
  expect(await ledger.delete([3, 4, 5])).toBe(true);
  await eventually(() => compareDigests(client(), 2));
  const before = await onNode("shard-0", "back");
  await cluster().killNats();
  rmSync(cluster().dataOf("nats"), { recursive: true });
  cpSync(copy, cluster().dataOf("nats"), { recursive: true });
  await cluster().startNats();
  rmSync(copy, { recursive: true });
  // Written to the log as it was put back, while nobody has mended it yet: acknowledged or not, the ledger knows.
  for (let i = 0; i < 5; i++) await ledger.write(range(1_000 + i * 10, 10), { deadlineMs: 2_000 });
  await expectMended(ledger, id, before.appliedSequence);
  await expectAgreement(ledger);
  await handle.drop();
  expect(await handle.exists()).toBe(false);
});
