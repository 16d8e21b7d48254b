import type { Scenario } from "../scenario.js";
import { everythingDies, rollingRestart, routerCrashes, shardCrashes } from "./crashes.js";
import { natsAway, natsCrashes } from "./nats.js";
import { pausedCoordinator, pausedShard, slowReplica } from "./pauses.js";

/** All scenarios, the most telling ones first. */
export const scenarios: readonly Scenario[] = [
  shardCrashes,
  everythingDies,
  natsCrashes,
  natsAway,
  routerCrashes,
  rollingRestart,
  pausedShard,
  pausedCoordinator,
  slowReplica,
];
