import type { Attributes, Meter } from "@opentelemetry/api";

type Kind = "counter" | "histogram" | "gauge";

interface InstrumentSpec {
  readonly kind: Kind;
  /** UCUM unit, as OpenTelemetry wants it. */
  readonly unit: string;
  readonly description: string;
  /** Upper bounds of a histogram's buckets, in `unit`. */
  readonly buckets?: readonly number[];
}

/** 50 µs to 30 s: a search takes tenths of a millisecond, a blocked append seconds. */
const secondsBuckets = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
] as const;

const seconds = (description: string) =>
  ({ kind: "histogram", unit: "s", description, buckets: secondsBuckets }) as const;
const counter = (unit: string, description: string) => ({ kind: "counter", unit, description }) as const;
const gauge = (unit: string, description: string) => ({ kind: "gauge", unit, description }) as const;

/**
 * Every metric of Kith, by name. `rpc.*` follow OpenTelemetry's semantic conventions for RPC (attributes
 * rpc.system.name, rpc.method, rpc.response.status_code, error.type); `kith.*` follow its rules for names and units.
 */
const instrumentTable = {
  "rpc.server.call.duration": seconds(
    "Duration of incoming gRPC calls and of each request of a stream, decoded to answered.",
  ),
  "rpc.client.call.duration": seconds("Duration of outgoing gRPC calls and of requests over the link."),
  "kith.rpc.server.in_flight": gauge("{call}", "Unary calls that the server is answering."),
  "kith.link.in_flight": gauge("{request}", "Requests over the link that wait for their answer."),
  "kith.query.duration": seconds(
    "Time of a query in the router, all shards and merging included; failed ones have error.type.",
  ),
  "kith.query.in_flight": gauge("{query}", "Queries that the router is answering, unary ones and those of streams."),
  "kith.query.hedged": counter("{request}", "Queries sent to a second replica because the first was slow."),
  "kith.index.search.duration": seconds("Time of one search in the native index, waiting for a thread included."),
  "kith.log.append.duration": seconds("Time from an append to its acknowledgement by the log."),
  "kith.write.points": counter("{point}", "Points accepted for writing."),
  "kith.write.pending": gauge("By", "Bytes of mutations that wait in the router for their shard's log."),
  "kith.replica.apply.duration": seconds("Time to apply one log record to a replica."),
  "kith.replica.lag": gauge("{record}", "Log records that a replica has not applied yet."),
  "kith.replica.applied_sequence": gauge("{sequence}", "Last log sequence that a replica has applied."),
  "kith.replica.durable_sequence": gauge("{sequence}", "Last log sequence that a replica has flushed to its disk."),
  "kith.replica.points": gauge("{point}", "Points of a replica."),
  "kith.replica.unindexed": gauge("{vector}", "Vectors of a replica that are not in the graph yet."),
  "kith.recall": gauge(
    "1",
    "Recall that queries with a recall target have had of late, by field, number of results and share of the points that filters let through.",
  ),
  "kith.recall.margin": gauge("1", "Half of the width of the interval of 95 % confidence of `kith.recall`."),
  "kith.recall.samples": gauge("{query}", "Queries that `kith.recall` was measured with, those of long ago in part."),
  "kith.recall.held": gauge("1", "1 while recall targets can be held, 0 where no beam width reaches them."),
  "kith.replica.diverged": counter(
    "{shard}",
    "Shards found with two replicas that differ at the same sequence: a proven fault. Once per shard and router.",
  ),
  "kith.replica.quarantined": counter(
    "{replica}",
    "Replicas that were found to hold something else than their log says, and taken out.",
  ),
  "kith.replica.copied": counter(
    "{replica}",
    "Replicas whose content was replaced with that of another one, since their log did not lead on.",
  ),
  "kith.replica.count": gauge("{replica}", "Replicas on this node, by their state."),
  "kith.replica.memory": gauge("By", "Memory of a replica's indexes, slots and cached payloads."),
  "kith.cache.lookups": counter(
    "{lookup}",
    "Looks into a cache of a shard node: of answers, of payloads or of the masks of filters.",
  ),
  "kith.replica.store.memory": gauge("By", "Memory of a replica's LevelDB: what is not in a table yet, and its cache."),
  "kith.replica.disk": gauge("By", "Size of a replica's files."),
  "kith.log.size": gauge("By", "Size of a shard's log, as each node with a replica of it sees it."),
  "kith.log.first_sequence": gauge("{sequence}", "First sequence that a shard's log still holds."),
  "kith.log.last_sequence": gauge("{sequence}", "Last sequence of a shard's log."),
  "kith.log.trimmed": counter("{record}", "Records that the coordinator has trimmed from logs."),
  "kith.log.mended": counter(
    "{log}",
    "Logs that were mended from what replicas have: they had lost or changed records.",
  ),
  "kith.standby.lag": gauge(
    "{record}",
    "Records of a shard's log in the primary cluster that are not in this one yet.",
  ),
  "kith.standby.lag.time": gauge("s", "All that a shard's log had in the primary cluster so long ago is in this one."),
  "kith.log.available": gauge("{log}", "1 while the log can be expected to take appends, 0 while it cannot."),
  "kith.catalog.available": gauge("{catalog}", "1 while the catalog can be changed, 0 while it cannot."),
  "kith.cluster.nodes": gauge("{node}", "Nodes of the cluster as this one sees them, by their state."),
  "kith.process.memory": gauge("By", "Memory of the process, by kind."),
  "kith.process.heap.limit": gauge("By", "What the heap of the process may grow to."),
  "kith.disk.free": gauge("By", "Space that is left on the disk of the data folder."),
  "kith.disk.size": gauge("By", "Size of the disk of the data folder."),
  "kith.eventloop.utilization": gauge(
    "1",
    "Share of the time since the last collection in which the event loop was busy.",
  ),
  "kith.eventloop.delay": gauge("s", "Delay of the event loop since the last collection (attribute quantile)."),
} as const satisfies Record<string, InstrumentSpec>;

/** Every metric as docs/metrics.md lists it. */
export function describeMetrics(): { name: string; kind: Kind; unit: string; description: string }[] {
  return Object.entries<InstrumentSpec>(instrumentTable).map(([name, { kind, unit, description }]) => ({
    name,
    kind,
    unit,
    description,
  }));
}

type Table = typeof instrumentTable;
type NamesOf<K extends Kind> = {
  [N in keyof Table]: Table[N]["kind"] extends K ? N : never;
}[keyof Table];
export type CounterName = NamesOf<"counter">;
export type HistogramName = NamesOf<"histogram">;
export type GaugeName = NamesOf<"gauge">;

export interface Counter {
  add(value: number, attributes?: Attributes): void;
}
export interface Histogram {
  /** `value` in the unit of the table: seconds for durations. */
  record(value: number, attributes?: Attributes): void;
}
export type GaugeReport = (value: number, attributes?: Attributes) => void;
export type GaugeCallback = (report: GaugeReport) => void;

/** A facade's target is undefined while metrics are off: a call then costs a load and a branch. */
class CounterFacade implements Counter {
  target: Counter | undefined;
  add(value: number, attributes?: Attributes): void {
    this.target?.add(value, attributes);
  }
}
class HistogramFacade implements Histogram {
  target: Histogram | undefined;
  record(value: number, attributes?: Attributes): void {
    this.target?.record(value, attributes);
  }
}

const counters = new Map<string, CounterFacade>();
const histograms = new Map<string, HistogramFacade>();
const gauges = new Map<string, Set<GaugeCallback>>();
for (const [name, spec] of Object.entries<InstrumentSpec>(instrumentTable)) {
  if (spec.kind === "counter") counters.set(name, new CounterFacade());
  else if (spec.kind === "histogram") histograms.set(name, new HistogramFacade());
  else gauges.set(name, new Set());
}

let metricsOn = false;

/** Whether measurements are kept; lets hot paths skip reading the clock. */
export function metricsEnabled(): boolean {
  return metricsOn;
}

/** The counter of that name. Ask once, at module level; the facade lives as long as the process. */
export function counterOf(name: CounterName): Counter {
  return counters.get(name) as CounterFacade;
}

/** The histogram of that name. Ask once, at module level. */
export function histogramOf(name: HistogramName): Histogram {
  return histograms.get(name) as HistogramFacade;
}

/** Reports a gauge at every collection, until the function that it returns is called. */
export function registerGauge(name: GaugeName, callback: GaugeCallback): () => void {
  const callbacks = gauges.get(name) as Set<GaugeCallback>;
  callbacks.add(callback);
  return () => void callbacks.delete(callback);
}

/** Gives every facade its instrument; undefined switches metrics off again. Called by the set-up alone. */
export function bindMeter(meter: Meter | undefined): void {
  metricsOn = meter !== undefined;
  for (const [name, spec] of Object.entries<InstrumentSpec>(instrumentTable)) {
    const { unit, description } = spec;
    if (spec.kind === "counter") {
      (counters.get(name) as CounterFacade).target = meter?.createCounter(name, { unit, description });
    } else if (spec.kind === "histogram") {
      (histograms.get(name) as HistogramFacade).target = meter?.createHistogram(name, {
        unit,
        description,
        advice: { explicitBucketBoundaries: [...(spec.buckets ?? [])] },
      });
    } else if (meter !== undefined) {
      const callbacks = gauges.get(name) as Set<GaugeCallback>;
      meter.createObservableGauge(name, { unit, description }).addCallback((result) => {
        for (const callback of callbacks) callback((value, attributes) => result.observe(value, attributes));
      });
    }
  }
}
