import { type Clock, sleep } from "../../libs/base/index.js";
import type { NodeRecord, NodesView } from "../../libs/cluster/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

const lookEveryMs = 500;

export interface ShardsFirstOptions {
  nodes: Pick<NodesView, "all" | "stateOf">;
  /** Release of this process. */
  version: string;
  clock: Clock;
  logger: Logger;
}

/**
 * Waits until no shard node that is there runs an older release than this process: a replica stops at a record that it does not know, so that
 * no router may write one before all shard nodes know it. Those that are down do not count; they come back with the new release, or stop.
 */
export async function shardsFirst(options: ShardsFirstOptions, signal?: AbortSignal): Promise<void> {
  const { clock, logger, version } = options;
  let told = "";
  for (;;) {
    const older = olderShards(options);
    if (older.length === 0) break;
    const names = older.map(({ id, version: own }) => `${id} (${own})`).join(", ");
    if (names !== told)
      logger.info(`this node of release ${version} waits until the shard nodes are updated: ${names}`, {});
    told = names;
    await sleep(clock, lookEveryMs, signal);
  }
  if (told !== "") logger.info(`all shard nodes have release ${version} or a later one`, {});
}

function olderShards({ nodes, version }: ShardsFirstOptions): NodeRecord[] {
  return nodes
    .all()
    .filter(
      ({ id, roles, version: own }) => roles.includes("shard") && nodes.stateOf(id) !== "down" && isOlder(own, version),
    );
}

/** Whether a release came before another one, by major, minor and patch; one that is named otherwise is not known to have. */
export function isOlder(release: string, than: string): boolean {
  const [a, b] = [release, than].map((each) => /^(\d+)\.(\d+)\.(\d+)/.exec(each)?.slice(1).map(Number));
  if (a === undefined || b === undefined) return false;
  for (let i = 0; i < 3; i++) if (a[i] !== b[i]) return (a[i] ?? 0) < (b[i] ?? 0);
  return false;
}
