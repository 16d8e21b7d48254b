import { expect, test } from "vitest";
import { idFromNum, idMapKey } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { AnswerBudget } from "./answer-budget.js";
import { Reads } from "./reads.js";
import { call, FakeNode, routed } from "../testing/router.js";
import { systemClock } from "../../../libs/base/index.js";
import { SlowLog } from "./slow-log.js";

const slowLog = new SlowLog(systemClock, "r", () => 0);

const id = (num: number): pb.PointId => ({ id: { $case: "num", value: BigInt(num) } });

test.each([
  { shards: [3], asked: [1, 1, 2, 3] },
  { shards: [0], asked: [1, 2, 1, 9, 9, 2, 3, 3, 3] },
  { shards: [3, 7], asked: [1, 2, 1, 2, 3, 4, 3, 4, 9, 5, 6, 5, 6] },
])("ids that stand twice are answered twice and cost no other point: $asked of the shards $shards", async (given) => {
  const node = new FakeNode("n1");
  for (let num = 1; num <= 6; num++) node.ids.add(idMapKey(idFromNum(num)));
  const { routingTable, log, close } = await routed([node], given.shards);
  const request = pb.GetPointsRequest.fromPartial({ collection: "c", ids: given.asked.map(id) });
  const { points } = await new Reads(routingTable, log, new AnswerBudget(systemClock), slowLog).get(request, call);
  expect(points.map((point) => point.id)).toEqual(given.asked.filter((num) => num <= 6).map(id));
  close();
});

test("a token names shards by their ids, whichever read gives it out", async () => {
  const node = new FakeNode("n1");
  node.applied = 5;
  const { routingTable, log, close } = await routed([node], [7, 3]);
  const reads = new Reads(routingTable, log, new AnswerBudget(systemClock), slowLog);
  const ids = Array.from({ length: 20 }, (_, num) => id(num));
  const requests = [
    reads.get(pb.GetPointsRequest.fromPartial({ collection: "c", ids }), call),
    reads.scroll(pb.ScrollRequest.fromPartial({ collection: "c" }), call),
    reads.count(pb.CountRequest.fromPartial({ collection: "c" }), call),
  ];
  for (const { token } of await Promise.all(requests)) {
    expect(token?.shards.toSorted((a, b) => a.shard - b.shard)).toEqual([
      { shard: 3, sequence: 5 },
      { shard: 7, sequence: 5 },
    ]);
  }
  close();
});
