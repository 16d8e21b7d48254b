import type { Clock, Timer } from "../../libs/base/index.js";
import type { CollectionsView } from "../../libs/cluster/index.js";
import type { Log, LogState } from "../../libs/log/index.js";
import type { RecallStatus, ReplicaStatus } from "../../libs/model/index.js";
import { type GaugeReport, metricsEnabled, registerGauge } from "../../libs/telemetry/index.js";
import { type Hosted, unopened } from "./hosted.js";

interface ReplicaGaugesOptions {
  hosted: () => Iterable<Hosted>;
  collections: CollectionsView;
  log: Log;
  clock: Clock;
}

const lagEveryMs = 5_000;

/** The metrics of the replicas of a node, and of their logs. */
export class ReplicaGauges {
  readonly #options: ReplicaGaugesOptions;
  readonly #stops: (() => void)[];
  readonly #lagTimer: Timer | undefined;

  constructor(options: ReplicaGaugesOptions) {
    this.#options = options;
    this.#stops = [
      this.#gauge("kith.replica.applied_sequence", (status) => status.appliedSequence),
      this.#gauge("kith.replica.lag", (status, hosted) =>
        Math.max(0, (hosted.log?.lastSequence ?? 0) - status.appliedSequence),
      ),
      this.#gauge("kith.replica.points", (status) => status.pointCount),
      this.#gauge("kith.replica.unindexed", (status) => status.unindexedVectorCount),
      this.#gauge("kith.replica.memory", (status) => status.memoryBytes),
      this.#gauge("kith.replica.disk", (status) => status.diskBytes),
      this.#gauge("kith.replica.store.memory", (_, { open }) => open?.storeMemoryBytes ?? 0),
      this.#gauge("kith.replica.durable_sequence", (status) => status.durableSequence ?? 0),
      this.#recallGauge("kith.recall", ({ recall }) => recall),
      this.#recallGauge("kith.recall.margin", ({ margin }) => margin),
      this.#recallGauge("kith.recall.samples", ({ samples }) => samples),
      this.#recallGauge("kith.recall.held", ({ isHeld }) => (isHeld ? 1 : 0)),
      this.#logGauge("kith.log.size", ({ sizeBytes }) => sizeBytes),
      this.#logGauge("kith.log.first_sequence", ({ firstSequence }) => firstSequence),
      this.#logGauge("kith.log.last_sequence", ({ lastSequence }) => lastSequence),
      registerGauge("kith.replica.count", (report) => this.#countStates(report)),
    ];
    if (metricsEnabled()) this.#lagTimer = options.clock.every(() => void this.#readLogs(), lagEveryMs).unref();
  }

  close(): void {
    for (const stop of this.#stops) stop();
    this.#lagTimer?.close();
  }

  #gauge(
    name: Parameters<typeof registerGauge>[0],
    value: (status: ReplicaStatus, hosted: Hosted) => number,
  ): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const hosted of this.#options.hosted()) {
        const attributes = { "kith.collection": this.#nameOf(hosted), "kith.shard": hosted.name.shard };
        if (hosted.open) report(value(hosted.open.status(), hosted), attributes);
      }
    });
  }

  #recallGauge(name: Parameters<typeof registerGauge>[0], value: (recall: RecallStatus) => number): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const hosted of this.#options.hosted()) {
        const attributes = { "kith.collection": this.#nameOf(hosted), "kith.shard": hosted.name.shard };
        for (const recall of hosted.open?.status().recalls ?? []) {
          const { field, k, share } = recall;
          report(value(recall), { ...attributes, "kith.field": field, "kith.k": k, "kith.share": share });
        }
      }
    });
  }

  /** Of the logs of the replicas here, as of some seconds ago. */
  #logGauge(name: Parameters<typeof registerGauge>[0], value: (log: LogState) => number): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const hosted of this.#options.hosted()) {
        const { log, name: shard } = hosted;
        if (log !== undefined)
          report(value(log), { "kith.collection": this.#nameOf(hosted), "kith.shard": shard.shard });
      }
    });
  }

  /** The present name of its collection. */
  #nameOf({ name, collection }: Hosted): string {
    return this.#options.collections.naming.nameOf(name.collectionId) ?? collection;
  }

  #countStates(report: GaugeReport): void {
    const counts = new Map<string, Map<string, number>>();
    for (const hosted of this.#options.hosted()) {
      const { state } = hosted.open?.status() ?? unopened(hosted);
      const collection = this.#nameOf(hosted);
      const ofCollection = counts.get(collection) ?? new Map<string, number>();
      counts.set(collection, ofCollection.set(state, (ofCollection.get(state) ?? 0) + 1));
    }
    for (const [collection, states] of counts) {
      for (const [state, count] of states) {
        report(count, { "kith.collection": collection, "kith.replica.state": state });
      }
    }
  }

  async #readLogs(): Promise<void> {
    const { log } = this.#options;
    const read = async (hosted: Hosted): Promise<void> => {
      hosted.log = await log.state(hosted.name);
    };
    // While the log is away its end is not known, and the last one that was known stands.
    await Promise.allSettled(Array.from(this.#options.hosted(), read));
  }
}
