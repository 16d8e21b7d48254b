import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { ShardId } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { minSequencesOf } from "./read-options.js";
import { call, FakeNode, routed } from "../testing/router.js";

const consistency = (level: pb.Consistency["level"]): pb.Consistency => pb.Consistency.fromPartial({ level });
const linearizable = consistency({ $case: "linearizable", value: true });

test("a token that names a shard twice counts by its highest sequence", async () => {
  const { routingTable, log, close } = await routed([new FakeNode("a")]);
  const shards = [2, 9, 5].map((sequence) => ({ shard: 0, sequence }));
  const token = consistency({ $case: "atLeast", value: { shards, collectionId: "" } });
  expect((await minSequencesOf(routingTable.resolve("c", call), token, log))(0)).toBe(9);
  close();
});

describe("a token is checked against the ids of the collection's shards", () => {
  const given = async (...shards: number[]) => {
    const { routingTable, log, close } = await routed([new FakeNode("a")], [3, 7]);
    close();
    const value = { shards: shards.map((shard) => ({ shard, sequence: 10 + shard })), collectionId: "" };
    return minSequencesOf(routingTable.resolve("c", call), consistency({ $case: "atLeast", value }), log);
  };

  test("which need not be 0, 1, …", async () => {
    const minSequences = await given(3, 7);
    expect([minSequences(3), minSequences(7)]).toEqual([13, 17]);
  });

  test("shard 8 may be one of which this router has not heard", async () => {
    await expect(given(3, 8)).rejects.toMatchObject({ code: "STALE_EPOCH", details: { unknownShard: 8 } });
  });

  test.each([0, 1, 4])("shard %i is none of them", async (shard) => {
    await expect(given(3, shard)).rejects.toMatchObject({ code: "INVALID_TOKEN", details: { shard } });
  });
});

test("a linearizable read asks each shard's log, and sees it to the end", async () => {
  const { routingTable, log, close } = await routed([new FakeNode("a")], [3, 7]);
  log.state = ({ shard }: ShardId) =>
    Promise.resolve({ firstSequence: 1, lastSequence: 10 * shard, incarnation: "1", sizeBytes: 0 });
  const minSequences = await minSequencesOf(routingTable.resolve("c", call), linearizable, log);
  expect([minSequences(3), minSequences(7)]).toEqual([30, 70]);
  close();
});

describe("a linearizable read, while the log says less than what is in it", () => {
  test("sees what this router has appended, until the log goes on from an earlier place", async () => {
    const { routingTable, log, close } = await routed([new FakeNode("a")]);
    const collection = routingTable.resolve("c", call);
    const id = { collectionId: collection.record.id, shard: 0 };
    const write = () =>
      collection
        .laneOf(0)
        .write({ operationId: randomBytes(16), traceparent: "", mutation: undefined }, 1, "log", call);
    const end = async () => (await minSequencesOf(collection, linearizable, log))(0);
    await log.fill(id, 7);
    await write();
    log.unknownRecords = 2;
    expect(await end()).toBe(8);
    await log.fill(id, 3);
    expect(await end()).toBe(9);
    // The log was replaced.
    log.unknownRecords = 0;
    await log.remove(id);
    await log.create(id);
    await write();
    expect(await end()).toBe(1);
    close();
  });

  test("sees what an active replica has applied, and not what a stale one has, which may be of another past", async () => {
    const nodes = [new FakeNode("a"), new FakeNode("b", "stale")] as const;
    nodes[0].applied = 5;
    nodes[1].applied = 9;
    const { routingTable, log, close } = await routed(nodes);
    const collection = routingTable.resolve("c", call);
    const polled = () => collection.shards[0]?.replicas.map(({ status }) => status?.appliedSequence);
    await expect.poll(polled).toEqual([5, 9]);
    await log.fill({ collectionId: collection.record.id, shard: 0 }, 3);
    expect((await minSequencesOf(collection, linearizable, log))(0)).toBe(5);
    close();
  });
});
