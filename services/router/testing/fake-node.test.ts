import { idFromNum, idMapKey } from "../../../libs/model/index.js";
import { describeShardApi } from "../../../libs/shard-api/testing.js";
import { FakeNode } from "./fake-node.js";
import { call } from "./router.js";

describeShardApi("fake", async () => {
  const node = new FakeNode("n1");
  node.hangs = true;
  const replica = { collectionId: "c1", shard: 0 };
  return {
    api: node,
    replica,
    call,
    write: async (num) => {
      node.ids.add(idMapKey(idFromNum(num)));
      return { sequence: ++node.applied, operationId: new Uint8Array(16) };
    },
    unavailable: async () => {
      node.state = "opening";
      return replica;
    },
    dispose: async () => undefined,
  };
});
