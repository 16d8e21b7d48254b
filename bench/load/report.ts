import { Histogram, type LatencySummary } from "../lib/histogram.js";
import { type Spread, spreadOf } from "../lib/repeat.js";
import { type ThreadGroup, threadGroups } from "../lib/process-stats.js";
import { formatMiB, formatMs, formatNumber, formatTable } from "../lib/table.js";
import { describePlan, type Variant, type VariantSample } from "./variants.js";

/** All rounds of one variant. */
export interface VariantReport {
  server: string;
  driver: string;
  mode: string;
  load: string;
  ef: number;
  recall: number | undefined;
  queriesPerSecond: Spread;
  /** Of all rounds together. */
  latency: LatencySummary;
  sendDelay: LatencySummary | undefined;
  errors: Record<string, number>;
  serverCores: Spread | undefined;
  serverCpuUsPerQuery: Spread | undefined;
  /** The share of the event loop in that. */
  serverLoopUsPerQuery: Spread | undefined;
  /** µs of CPU a query, by process of the server. */
  processes: ProcessCost[];
  serverRssPeakBytes: number | undefined;
  clientCores: Spread | undefined;
  clientRssPeakBytes: number | undefined;
  eventLoopP99Ms: number | undefined;
  notes: string[];
}

export function summarize(
  variant: Variant,
  samples: readonly VariantSample[],
  recall: number | undefined,
): VariantReport {
  const latency = new Histogram();
  const sendDelay = new Histogram();
  const errors: Record<string, number> = {};
  for (const sample of samples) {
    latency.add(sample.latency);
    sendDelay.add(sample.sendDelay);
    for (const [code, count] of Object.entries(sample.errors)) errors[code] = (errors[code] ?? 0) + count;
  }
  const spread = (of: (sample: VariantSample) => number | undefined): Spread | undefined => {
    const values = samples.map(of).filter((value) => value !== undefined);
    return values.length === 0 ? undefined : spreadOf(values);
  };
  return {
    server: variant.session.name,
    driver: variant.driver,
    mode: variant.mode,
    load: describePlan(variant.plan),
    ef: variant.ef,
    recall,
    queriesPerSecond: spreadOf(samples.map((sample) => sample.queriesPerSecond)),
    latency: latency.summary(),
    sendDelay: sendDelay.count > 0 ? sendDelay.summary() : undefined,
    errors,
    serverCores: spread((sample) => sample.server?.cores),
    serverCpuUsPerQuery: spread(({ server, queriesPerSecond }) =>
      server === undefined || queriesPerSecond === 0 ? undefined : (server.cores / queriesPerSecond) * 1e6,
    ),
    serverLoopUsPerQuery: spread(({ server, queriesPerSecond }) =>
      server === undefined || queriesPerSecond === 0 ? undefined : (server.mainThreadCores / queriesPerSecond) * 1e6,
    ),
    processes: processCosts(samples),
    serverRssPeakBytes: spread((sample) => sample.server?.rssPeakBytes)?.max,
    clientCores: spread((sample) => sample.client?.cores),
    clientRssPeakBytes: spread((sample) => sample.client?.rssPeakBytes)?.max,
    eventLoopP99Ms: spread((sample) => sample.eventLoopP99Ms)?.max,
    notes: [...new Set(samples.flatMap((sample) => sample.notes))],
  };
}

/** What a query costs one process, in µs of CPU: medians of the rounds. */
export interface ProcessCost {
  name: string;
  cpuUs: number;
  threadUs: Record<ThreadGroup, number>;
}

function processCosts(samples: readonly VariantSample[]): ProcessCost[] {
  const rounds = new Map<string, ProcessCost[]>();
  for (const { server, queriesPerSecond, windowSeconds } of samples) {
    const queries = queriesPerSecond * windowSeconds;
    if (queries === 0) continue;
    for (const { name, cpuSeconds, threadSeconds } of server?.processes ?? []) {
      const us = (seconds: number): number => (seconds / queries) * 1e6;
      const threadUs = { ...threadSeconds };
      for (const group of threadGroups) threadUs[group] = us(threadSeconds[group]);
      rounds.set(name, [...(rounds.get(name) ?? []), { name, cpuUs: us(cpuSeconds), threadUs }]);
    }
  }
  return [...rounds].map(([name, costs]) => {
    const median = (of: (cost: ProcessCost) => number): number => spreadOf(costs.map(of)).median;
    const threadUs = { loop: 0, search: 0, index: 0, other: 0 };
    for (const group of threadGroups) threadUs[group] = median((cost) => cost.threadUs[group]);
    return { name, cpuUs: median((cost) => cost.cpuUs), threadUs };
  });
}

/** Processes that cost less are left out of the table. */
const shownUs = 0.5;

/** What a query costs each process, and in it each group of threads. */
export function formatProcesses(reports: readonly VariantReport[]): string {
  const left = { align: "left" } as const;
  const columns = [
    ...["server", "mode", "load", "process"].map((title) => ({ title, ...left })),
    ...["ef", "µs CPU/query", ...threadGroups].map((title) => ({ title })),
  ];
  const rows = reports.flatMap(({ server, driver, mode, load, ef, processes }) =>
    processes
      .filter(({ cpuUs }) => cpuUs >= shownUs)
      .sort((a, b) => b.cpuUs - a.cpuUs)
      .map(({ name, cpuUs, threadUs }) => [
        server,
        `${driver} ${mode}`,
        load,
        name,
        String(ef),
        cpuUs.toFixed(1),
        ...threadGroups.map((group) => threadUs[group].toFixed(1)),
      ]),
  );
  return formatTable(columns, rows);
}

export function formatReports(reports: readonly VariantReport[], k: number): string {
  const left = { align: "left" } as const;
  const columns = [
    { title: "server", ...left },
    { title: "driver", ...left },
    { title: "mode", ...left },
    { title: "load", ...left },
    ...["ef", `recall@${k}`, "QPS", "min..max", "p50 ms", "p95", "p99", "p99.9", "max"].map((title) => ({ title })),
    ...["errors", "server cores", "µs CPU/query", "on the loop", "client cores", "server MiB", "loop p99 ms"].map(
      (title) => ({
        title,
      }),
    ),
  ];
  const optional = (value: number | undefined, format: (value: number) => string): string =>
    value === undefined ? "-" : format(value);
  const rows = reports.map((report) => {
    const { latency, queriesPerSecond, errors } = report;
    const errorText = Object.entries(errors).map(([code, count]) => `${count} ${code}`);
    return [
      report.server,
      report.driver,
      report.mode,
      report.load,
      report.ef === 0 ? "default" : String(report.ef),
      optional(report.recall, (value) => value.toFixed(4)),
      formatNumber(queriesPerSecond.median),
      `${formatNumber(queriesPerSecond.min)}..${formatNumber(queriesPerSecond.max)}`,
      ...[latency.p50Us, latency.p95Us, latency.p99Us, latency.p999Us, latency.maxUs].map(formatMs),
      errorText.length === 0 ? "0" : errorText.join(", "),
      optional(report.serverCores?.median, (value) => value.toFixed(2)),
      optional(report.serverCpuUsPerQuery?.median, formatNumber),
      optional(report.serverLoopUsPerQuery?.median, formatNumber),
      optional(report.clientCores?.median, (value) => value.toFixed(2)),
      optional(report.serverRssPeakBytes, formatMiB),
      optional(report.eventLoopP99Ms, (value) => value.toFixed(1)),
    ];
  });
  const notes = [...new Set(reports.flatMap((report) => report.notes))];
  return [formatTable(columns, rows), ...notes.map((note) => `note: ${note}`)].join("\n");
}
