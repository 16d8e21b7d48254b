import { Option } from "commander";

export interface PartitionFlag {
  partition?: string;
}

/** For collections with a partition key. */
export function partitionOption(): Option {
  return new Option("--partition <value>", "of a collection with a partition key: only points with this value of it");
}

/** To be spread into the options of a call. */
export function partitionOf({ partition }: PartitionFlag): PartitionFlag {
  return partition === undefined ? {} : { partition };
}
