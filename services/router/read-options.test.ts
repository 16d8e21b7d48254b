import { expect, test } from "vitest";
import { pb } from "../../libs/wire/index.js";
import { atLeastOf } from "./read-options.js";
import { FakeNode, routed } from "./testing/router.js";

const consistency = (level: pb.Consistency["level"]): pb.Consistency => pb.Consistency.fromPartial({ level });

test("a token that names a shard twice counts by its highest sequence", async () => {
  const { directory, log, close } = await routed([new FakeNode("a")]);
  const shards = [2, 9, 5].map((sequence) => ({ shard: 0, sequence }));
  const token = consistency({ $case: "atLeast", value: { shards, collectionId: "" } });
  expect((await atLeastOf(directory.resolve("c"), token, log))(0)).toBe(9);
  close();
});
