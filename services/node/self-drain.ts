import { type Clock, sleep, toKithError } from "../../libs/base/index.js";
import type { collectionsView, NodesView } from "../../libs/cluster/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

type Collections = ReturnType<typeof collectionsView>;

const lookEveryMs = 200;

export interface SelfDrainOptions {
  nodeId: string;
  nodes: NodesView;
  collections: Collections;
  clock: Clock;
  logger: Logger;
}

/** Asks for this node's replicas to be moved to others, and waits until it has none, at most for `withinMs`. Never rejects. */
export async function drainSelf(options: SelfDrainOptions, withinMs: number): Promise<void> {
  const { nodeId, nodes, collections, clock, logger } = options;
  const endMs = clock.monotonicMs() + withinMs;
  try {
    await nodes.drain(nodeId, { isOwn: true });
    logger.info(`this node gives its ${replicasOn(collections, nodeId)} replicas to others before it ends`, {});
    while (replicasOn(collections, nodeId) > 0 && clock.monotonicMs() < endMs) await sleep(clock, lookEveryMs);
    const left = replicasOn(collections, nodeId);
    if (left > 0) logger.warn(`this node ends with ${left} replicas: the ${withinMs} ms for draining it are over`, {});
  } catch (error) {
    logger.warn(`this node ends without being drained: ${toKithError(error).message}`, {});
  }
}

/** Takes back what this node asked for at its last end. */
export async function undrainSelf({ nodeId, nodes, logger }: SelfDrainOptions): Promise<void> {
  if (nodes.drainOf(nodeId)?.isOwn !== true) return;
  await nodes.undrain(nodeId);
  logger.info("this node takes replicas again: it had been drained at its end", {});
}

function replicasOn(collections: Collections, nodeId: string): number {
  let count = 0;
  for (const { shards } of collections.values()) {
    for (const { replicas } of shards) for (const { node } of replicas) if (node === nodeId) count++;
  }
  return count;
}
