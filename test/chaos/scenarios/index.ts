import type { Scenario } from "../scenario.js";
import { everythingDies, rollingRestart, routerCrashes, shardCrashes, trimmedPast } from "./crashes.js";
import { nodeDeath } from "./deaths.js";
import { damagedFiles, fullDisk, fullLog, fullNatsDisk } from "./disks.js";
import { natsAway, natsCrashes } from "./nats.js";
import { backupsWithKills, drainsWithKills, movesWithKills, reshapesWithKills } from "./operations.js";
import { overload } from "./overload.js";
import { cutRouter, cutShard } from "./partitions.js";
import { pausedCoordinator, pausedShard, slowReplica } from "./pauses.js";
import { clockSteps, crashesAtPoints } from "./points.js";

/** All scenarios, the most telling ones first. */
export const scenarios: readonly Scenario[] = [
  shardCrashes,
  everythingDies,
  crashesAtPoints,
  natsCrashes,
  natsAway,
  routerCrashes,
  pausedShard,
  pausedCoordinator,
  slowReplica,
  nodeDeath,
  cutShard,
  cutRouter,
  fullDisk,
  fullLog,
  fullNatsDisk,
  rollingRestart,
  damagedFiles,
  trimmedPast,
  overload,
  clockSteps,
  movesWithKills,
  reshapesWithKills,
  drainsWithKills,
  backupsWithKills,
];
