import { expect, test } from "vitest";
import { pb } from "../../../libs/wire/index.js";
import { call, FakeNode, routed } from "../testing/router.js";
import { Generations } from "./generations.js";
import { SchemaChanges } from "./schema-changes.js";

test("a datatype is tried on what was written before, also by a replica that is behind", async () => {
  const node = new FakeNode("n1");
  const { log, record, collectionsOptions, close } = await routed([node]);
  await log.fill({ collectionId: record.id, shard: 0 }, 3);
  const asked: number[] = [];
  node.reads.trial = (_replica, { minSequence }) => {
    asked.push(minSequence);
    return Promise.resolve({ rows: 7, trials: [], sequence: node.applied });
  };
  const schemaChanges = new SchemaChanges(collectionsOptions);
  const generations = new Generations({ ...collectionsOptions, log, schemaChanges });
  const request = pb.AlterVectorFieldRequest.fromPartial({ collection: "c", autoRecall: 0.9 });
  await expect(generations.alter(request, call)).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
    details: { vectors: 7 },
  });
  expect(asked).toEqual([3]);
  close();
});
