import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { pb } from "../../../libs/wire/index.js";
import { minSequencesOf } from "./read-options.js";
import { call, FakeNode, routed } from "../testing/router.js";

const consistency = (level: pb.Consistency["level"]): pb.Consistency => pb.Consistency.fromPartial({ level });
const linearizable = consistency({ $case: "linearizable", value: true });

test("a token that names a shard twice counts by its highest sequence", async () => {
  const { routingTable, log, close } = await routed([new FakeNode("a")]);
  const shards = [2, 9, 5].map((sequence) => ({ shard: 0, sequence }));
  const token = consistency({ $case: "atLeast", value: { shards, collectionId: "" } });
  expect((await minSequencesOf(routingTable.resolve("c"), token, log))(0)).toBe(9);
  close();
});

describe("a linearizable read, while the log says less than what is in it", () => {
  test("sees what this router has appended, until the log goes on from an earlier place", async () => {
    const { routingTable, log, close } = await routed([new FakeNode("a")]);
    const collection = routingTable.resolve("c");
    const write = () =>
      collection.lanes[0]?.write(
        { operationId: randomBytes(16), traceparent: "", mutation: undefined },
        1,
        "log",
        call,
      );
    const end = async () => (await minSequencesOf(collection, linearizable, log))(0);
    log.lastSequence = 7;
    await write();
    log.lastSequence = 6;
    expect(await end()).toBe(8);
    log.lastSequence = 9;
    expect(await end()).toBe(9);
    // The log was replaced.
    log.lastSequence = 0;
    await write();
    expect(await end()).toBe(1);
    close();
  });

  test("sees what an active replica has applied, and not what a stale one has, which may be of another past", async () => {
    const nodes = [new FakeNode("a"), new FakeNode("b", "stale")] as const;
    nodes[0].applied = 5;
    nodes[1].applied = 9;
    const { routingTable, log, close } = await routed(nodes);
    const collection = routingTable.resolve("c");
    const polled = () => collection.shards[0]?.replicas.map(({ status }) => status?.appliedSequence);
    await expect.poll(polled).toEqual([5, 9]);
    log.lastSequence = 3;
    expect((await minSequencesOf(collection, linearizable, log))(0)).toBe(5);
    close();
  });
});
