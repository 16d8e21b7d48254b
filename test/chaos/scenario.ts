import type { SeededRandom } from "../../libs/base/index.js";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import type { ProcessCluster } from "../cluster/cluster.js";
import type { ProcessClusterOptions } from "../cluster/processes.js";
import type { Stamp } from "./data.js";
import type { History } from "./history.js";
import type { Load, LoadOptions } from "./load.js";

/** What a round has to do with. */
export interface Stage {
  cluster: ProcessCluster;
  client: KithClient;
  handle: CollectionHandle<Stamp>;
  history: History;
  load: Load;
  random: SeededRandom;
  /** Counts what was done to the cluster: kills, pauses, cuts. */
  fault: (kind: string) => void;
  /** Keeps the largest of a measured value for the report. */
  worst: (name: string, value: number) => void;
  /** Something that must not be. */
  violate: (message: string) => void;
}

export interface Scenario {
  name: string;
  /** One line for the report. */
  title: string;
  rounds: number;
  cluster: Omit<ProcessClusterOptions, "natsBinary" | "program">;
  shards: number;
  /** Parts of the hash slots in each of which a write is whole, where shards are split; default: the shards. */
  divisions?: number;
  replicas: number;
  load?: Partial<
    Pick<LoadOptions, "writers" | "searchers" | "writeDeadlineMs" | "readDeadlineMs" | "idCount" | "pauseMs">
  >;
  /** Searches must not fail, as clients with their retries see them. Default: they must not. */
  readsMayFail?: boolean;
  /** Rounds between two checks of everything; default: 1. */
  checkEvery?: number;
  /** Why it cannot be run here; undefined where it can. */
  missing?: () => string | undefined;
  /** One round of faults, under load; everything that was taken away is given back at its end. */
  round(stage: Stage, round: number): Promise<void>;
}
