import { expect, test } from "vitest";
import { idFromNum } from "../../../libs/model/index.js";
import { decodeRecord, pb } from "../../../libs/wire/index.js";
import { call, FakeNode, routed } from "../testing/router.js";
import { Writes } from "./writes.js";

const nums = Array.from({ length: 40 }, (_, num) => num);
const idOf = (num: number): pb.PointId => ({ id: { $case: "num", value: BigInt(num) } });

/** A router of a collection whose shards have the ids 7 and 3, and the ids of points that were appended to each. */
async function given() {
  const router = await routed([new FakeNode("n1")], [7, 3]);
  const append = router.log.append.bind(router.log);
  const appended = new Map<number, string[]>();
  router.log.append = (shard, data, options) => {
    const ids = decodeIds(data);
    appended.set(shard.shard, [...(appended.get(shard.shard) ?? []), ...ids]);
    return append(shard, data, options);
  };
  const shardOf = (num: number): number => router.routingTable.resolve("c", call).shardOf(idFromNum(num)).id.shard;
  const owned = (shard: number): string[] => nums.filter((num) => shardOf(num) === shard).map((num) => keyOf(num));
  return { ...router, writes: new Writes(router.routingTable), appended, owned };
}

const keyOf = (num: number): string => Buffer.from(idFromNum(num)).toString("hex");

function decodeIds(data: Uint8Array): string[] {
  const { operations } = decodeRecord(data);
  return operations
    .flatMap(({ mutation }) => (mutation?.$case === "upsert" || mutation?.$case === "delete" ? mutation.value.ids : []))
    .map((id) => Buffer.from(id).toString("hex"));
}

test.each(["upsert", "delete"] as const)(
  "%s appends each point to the log of its shard, and its token names both",
  async (kind) => {
    const { writes, appended, owned, close } = await given();
    const ids = nums.map(idOf);
    const points = ids.map((id) => ({ id, vectors: { "": { values: Float32Array.of(1, 2) } } }));
    const { token } =
      kind === "upsert"
        ? await writes.upsert(pb.UpsertRequest.fromPartial({ collection: "c", points }), call)
        : await writes.delete(pb.DeletePointsRequest.fromPartial({ collection: "c", ids }), call);
    expect([...appended.keys()].sort()).toEqual([3, 7]);
    for (const shard of [3, 7]) expect(appended.get(shard)).toEqual(owned(shard));
    expect(token?.shards.map(({ shard }) => shard)).toEqual([3, 7]);
    close();
  },
);
