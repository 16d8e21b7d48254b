import { KithError } from "../base/index.js";

const clusterPattern = /^[A-Za-z0-9-]{1,32}$/;

/** INVALID_NAME where the name of a cluster cannot be a part of the names of streams, subjects and buckets. */
export function checkCluster(cluster: string): void {
  if (!clusterPattern.test(cluster)) {
    throw new KithError(
      "INVALID_NAME",
      `the cluster name ${JSON.stringify(cluster)} must be 1 to 32 characters of A-Z a-z 0-9 and -`,
    );
  }
}
