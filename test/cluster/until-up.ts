import { eventually } from "../../libs/base/testing.js";
import { connect, type ConnectOptions } from "../../libs/client/index.js";

/** Waits until the router at `target` sees every node up. */
export async function untilUp(target: string, nodeCount: number, options?: ConnectOptions): Promise<void> {
  await eventually(async () => {
    const client = await connect(target, options);
    try {
      const { nodes } = await client.cluster.describe();
      const up = nodes.filter((node) => node.state === "up").length;
      if (up < nodeCount) throw new Error(`${up} of ${nodeCount} nodes are up`);
    } finally {
      client.close();
    }
  }, 60_000);
}
