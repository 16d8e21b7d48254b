import { type IdKey, partitionPrefix } from "../model/index.js";

/** Whether a point is of a partition, by the key form of its id. */
export function partitionTest(partition: string): (id: IdKey) => boolean {
  const prefix = partitionPrefix(partition);
  return (id) => {
    if (id.length <= prefix.length) return false;
    for (let i = 0; i < prefix.length; i++) if (id[i] !== prefix[i]) return false;
    return true;
  };
}
