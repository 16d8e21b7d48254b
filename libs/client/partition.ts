import { KithError } from "../base/index.js";
import type { PartitionValue } from "./types/points.js";
import { wellFormed } from "./well-formed.js";

/** INVALID_ARGUMENT for a number that is not whole, and for what UTF-8 cannot hold. */
export function partitionToWire(partition: PartitionValue): string {
  if (typeof partition === "number" && !Number.isSafeInteger(partition)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `partition is ${partition}; give a string, a whole number that a double holds exactly, or a bigint`,
      { details: { field: "partition" } },
    );
  }
  return wellFormed(String(partition), "partition");
}

/** To be spread into a request. */
export function partitionOf(options: { partition?: PartitionValue | undefined } | undefined): { partition?: string } {
  return options?.partition === undefined ? {} : { partition: partitionToWire(options.partition) };
}
