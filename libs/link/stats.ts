import { type Histogram, histogramOf } from "../telemetry/index.js";
import { MethodStats } from "../rpc/common/index.js";

const clientDuration = histogramOf("rpc.client.call.duration");
const serverDuration = histogramOf("rpc.server.call.duration");

/** The durations of the link's calls, by name: those that a router sends, and those that a shard node answers. */
export const clientStats = statsBy(clientDuration);
export const serverStats = statsBy(serverDuration);

function statsBy(duration: Histogram): (name: string) => MethodStats {
  const known = new Map<string, MethodStats>();
  return (name) => {
    let stats = known.get(name);
    if (stats === undefined) {
      stats = new MethodStats(`kith.internal.v1.Link/${name}`, duration, "kith");
      known.set(name, stats);
    }
    return stats;
  };
}
