import { expect, test } from "vitest";
import { idFromNum, idMapKey } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { Reads } from "./reads.js";
import { call, FakeNode, routed } from "../testing/router.js";

const id = (num: number): pb.PointId => ({ id: { $case: "num", value: BigInt(num) } });

test.each([
  { shards: 1, asked: [1, 1, 2, 3] },
  { shards: 1, asked: [1, 2, 1, 9, 9, 2, 3, 3, 3] },
  { shards: 2, asked: [1, 2, 1, 2, 3, 4, 3, 4, 9, 5, 6, 5, 6] },
])("ids that stand twice are answered twice and cost no other point: $asked of $shards shards", async (given) => {
  const node = new FakeNode("n1");
  for (let num = 1; num <= 6; num++) node.ids.add(idMapKey(idFromNum(num)));
  const { routingTable, log, close } = await routed([node], given.shards);
  const request = pb.GetPointsRequest.fromPartial({ collection: "c", ids: given.asked.map(id) });
  const { points } = await new Reads(routingTable, log).get(request, call);
  expect(points.map((point) => point.id)).toEqual(given.asked.filter((num) => num <= 6).map(id));
  close();
});
