import { statfsSync } from "node:fs";
// eslint-disable-next-line no-restricted-imports -- the event loop of the host is what is measured
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import type { Catalog } from "../../libs/catalog/index.js";
import type { NodesView } from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import { metricsEnabled, registerGauge } from "../../libs/telemetry/index.js";
import type { Closers } from "./closers.js";

/** Milliseconds between the samples of the event loop's delay. */
const delaySampleMs = 10;

/** Measures what the process takes of the machine: memory, disk, and how busy and how late its event loop is. */
export function measureProcess(data: string | undefined, closers: Closers): void {
  if (!metricsEnabled()) return;
  const stops = [
    ...measureEventLoop(),
    registerGauge("kith.process.memory", (report) => {
      const { rss, heapUsed, external } = process.memoryUsage();
      report(rss, { "kith.memory.kind": "resident" });
      report(heapUsed, { "kith.memory.kind": "heap" });
      report(external, { "kith.memory.kind": "external" });
    }),
    registerGauge("kith.process.heap.limit", (report) => report(getHeapStatistics().heap_size_limit)),
    ...(data === undefined ? [] : measureDisk(data)),
  ];
  closers.add("measurements of the process", () => {
    for (const stop of stops) stop();
  });
}

/** Measures whether what the nodes share can be used, and which nodes there are. */
export function measureCluster(shared: { log: Log; catalog: Catalog; nodes: NodesView }, closers: Closers): void {
  const { log, catalog, nodes } = shared;
  const stops = [
    registerGauge("kith.log.available", (report) => report(log.available ? 1 : 0)),
    registerGauge("kith.catalog.available", (report) => report(catalog.available ? 1 : 0)),
    registerGauge("kith.cluster.nodes", (report) => {
      const counts = new Map<string, number>();
      for (const { id } of nodes.all()) counts.set(nodes.stateOf(id), (counts.get(nodes.stateOf(id)) ?? 0) + 1);
      for (const [state, count] of counts) report(count, { "kith.node.state": state });
    }),
  ];
  closers.add("measurements of the cluster", () => {
    for (const stop of stops) stop();
  });
}

/** Of the disk that a folder lies on. What cannot be read is not reported. */
function measureDisk(folder: string): (() => void)[] {
  const read = (): { free: number; size: number } | undefined => {
    try {
      const { bavail, blocks, bsize } = statfsSync(folder);
      return { free: bavail * bsize, size: blocks * bsize };
    } catch {
      return undefined;
    }
  };
  return [
    registerGauge("kith.disk.free", (report) => {
      const disk = read();
      if (disk !== undefined) report(disk.free);
    }),
    registerGauge("kith.disk.size", (report) => {
      const disk = read();
      if (disk !== undefined) report(disk.size);
    }),
  ];
}

/** How late the event loop runs what is due, and how much of the time it works: the signs of a handler that does too much at once. */
function measureEventLoop(): (() => void)[] {
  const delay = monitorEventLoopDelay({ resolution: delaySampleMs });
  delay.enable();
  // Node records the time between two samples: on an idle loop that is the sampling interval itself.
  const late = (ns: number): number => Math.max(0, ns / 1e9 - delaySampleMs / 1000);
  let before = performance.eventLoopUtilization();
  return [
    registerGauge("kith.eventloop.delay", (report) => {
      report(late(delay.percentile(50)), { quantile: "0.5" });
      report(late(delay.percentile(99)), { quantile: "0.99" });
      report(late(delay.max), { quantile: "1" });
      delay.reset();
    }),
    registerGauge("kith.eventloop.utilization", (report) => {
      const now = performance.eventLoopUtilization();
      report(performance.eventLoopUtilization(now, before).utilization);
      before = now;
    }),
    () => delay.disable(),
  ];
}
