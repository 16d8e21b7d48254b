import { KithError, toKithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import { CatalogView } from "./view.js";

/** What holds for the whole cluster and can be changed while it runs. */
export interface ClusterSettings {
  /** A node that is away for so long has its replicas rebuilt on others; 0: never. Milliseconds. */
  repairAfterMs: number;
  /** Replicas that are moved, added or rebuilt at once. */
  movesAtOnce: number;
  /** What each node takes of copies, in bytes a second; 0: as much as it can. */
  copyBytesPerSecond: number;
  /** 1: the cluster balances its nodes by itself; 0: when it is told to. */
  autoRebalance: number;
  /** 1: no move that balances nodes begins; those under way go on. */
  rebalancePaused: number;
  /** Nothing is moved while the most loaded node has at most so many hundredths more than the mean. */
  rebalanceThresholdPercent: number;
  /** Nothing is moved while the most and the least loaded node differ by less, in bytes. */
  rebalanceMinBytes: number;
  /** Records of a log are kept for so long after they were written; 0: no longer than replicas need them. Milliseconds. */
  logRetentionMs: number;
  /** Of each shard's log, about so many bytes are kept at most because of `logRetentionMs`. */
  logRetentionBytes: number;
  /** So many of the latest records of each log are always kept. */
  logRetentionRecords: number;
  /** A replica that is away or has no content yet, and an operation that reads the log, keep records for so long at most. Milliseconds. */
  logHoldMs: number;
  /** Replicas flush what they have applied to the disk at least so often. Milliseconds. */
  replicaFlushMs: number;
  /** A shard whose replicas have more bytes is split; 0: none is split by itself. */
  splitShardBytes: number;
  /** Neighbouring shards that were one before and have at most so many bytes together are merged; 0: none is merged by itself. */
  mergeShardBytes: number;
}

type ClusterSetting = keyof ClusterSettings;

interface Bounds {
  default: number;
  min: number;
  max: number;
}

/** Every setting with its default and its bounds. */
const clusterSettingBounds: Record<ClusterSetting, Bounds> = {
  repairAfterMs: { default: 300_000, min: 0, max: 7 * 24 * 3_600_000 },
  movesAtOnce: { default: 2, min: 1, max: 16 },
  copyBytesPerSecond: { default: 128 * 1024 * 1024, min: 0, max: 2 ** 40 },
  autoRebalance: { default: 1, min: 0, max: 1 },
  rebalancePaused: { default: 0, min: 0, max: 1 },
  rebalanceThresholdPercent: { default: 20, min: 1, max: 1_000 },
  rebalanceMinBytes: { default: 64 * 1024 * 1024, min: 0, max: 2 ** 50 },
  logRetentionMs: { default: 24 * 3_600_000, min: 0, max: 366 * 24 * 3_600_000 },
  logRetentionBytes: { default: 8 * 1024 * 1024 * 1024, min: 0, max: 2 ** 50 },
  // The last record tells a log that was put back from the one that a replica has read.
  logRetentionRecords: { default: 1_000, min: 1, max: 1_000_000_000 },
  logHoldMs: { default: 6 * 3_600_000, min: 0, max: 366 * 24 * 3_600_000 },
  replicaFlushMs: { default: 60_000, min: 100, max: 24 * 3_600_000 },
  splitShardBytes: { default: 0, min: 0, max: 2 ** 50 },
  mergeShardBytes: { default: 0, min: 0, max: 2 ** 50 },
};

const names = Object.keys(clusterSettingBounds) as ClusterSetting[];

/** LIMIT_OUT_OF_RANGE where a value is out of its bounds. */
function checkClusterSetting(name: ClusterSetting, value: number): void {
  const { min, max } = clusterSettingBounds[name];
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new KithError("LIMIT_OUT_OF_RANGE", `${name} is ${value}; it must be a whole number in ${min}..${max}`, {
    details: { setting: name, value, min, max },
  });
}

const prefix = "settings";
const entryName = "cluster";

/** The settings of the cluster: what was changed is in the catalog, the rest has its default. */
export class SettingsView {
  readonly #view: CatalogView<Partial<ClusterSettings>>;
  #current: ClusterSettings = withDefaults({});

  constructor(catalog: Catalog) {
    this.#view = new CatalogView(catalog, prefix, (json) => JSON.parse(json) as Partial<ClusterSettings>);
    this.#view.onChange((name, value) => {
      if (name === entryName) this.#current = withDefaults(value ?? {});
    });
  }

  start(signal?: AbortSignal): Promise<void> {
    return this.#view.start(signal);
  }

  get current(): ClusterSettings {
    return this.#current;
  }

  onChange(listener: () => void): () => void {
    return this.#view.onChange(listener);
  }

  /** Changes some of them; LIMIT_OUT_OF_RANGE where a value is out of its bounds. */
  async change(changes: Partial<ClusterSettings>): Promise<ClusterSettings> {
    for (const name of names) {
      const value = changes[name];
      if (value !== undefined) checkClusterSetting(name, value);
    }
    try {
      await this.#view.create(entryName, changes);
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      await this.#view.modify(entryName, (before) => ({ ...before, ...changes }));
    }
    return this.#current;
  }

  close(): Promise<void> {
    return this.#view.close();
  }
}

/** A value that a newer version wrote and this one does not allow counts as not set. */
function withDefaults(changed: Partial<ClusterSettings>): ClusterSettings {
  const settings = {} as ClusterSettings;
  for (const name of names) {
    const { default: fallback, min, max } = clusterSettingBounds[name];
    const value = changed[name];
    settings[name] = typeof value === "number" && value >= min && value <= max ? value : fallback;
  }
  return settings;
}
