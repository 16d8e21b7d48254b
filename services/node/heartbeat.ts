import { statfs } from "node:fs/promises";
import { type Clock, type Timer, toKithError } from "../../libs/base/index.js";
import { heartbeatMs, type NodeRecord, type NodesView } from "../../libs/cluster/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

/** Keeps this node's record in the catalog fresh: others judge by it whether the node lives. */
export class Heartbeat {
  readonly #nodes: NodesView;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #data: string | undefined;
  #record: NodeRecord;
  #timer: Timer | undefined;
  #writing: Promise<void> = Promise.resolve();
  #failed = false;

  constructor(nodes: NodesView, clock: Clock, record: NodeRecord, data: string | undefined, logger: Logger) {
    this.#clock = clock;
    this.#nodes = nodes;
    this.#record = record;
    this.#data = data;
    this.#logger = logger;
  }

  /** Tells the others at once what changed; from the first time on the record is kept fresh. */
  async tell(change: Partial<NodeRecord>): Promise<void> {
    this.#record = { ...this.#record, ...change };
    this.#timer ??= this.#clock.every(() => void this.#beatNext(), heartbeatMs).unref();
    await this.#beatNext();
  }

  /** Takes the record out: this node ends in order. */
  async stop(): Promise<void> {
    if (this.#timer === undefined) return;
    this.#timer.close();
    await this.#writing;
    try {
      await this.#nodes.remove(this.#record.id);
    } catch (error) {
      this.#logger.warn(`the node's record could not be removed: ${toKithError(error).message}`, {});
    }
  }

  #beatNext(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#beat());
    return this.#writing;
  }

  async #beat(): Promise<void> {
    try {
      const disk = this.#data === undefined ? undefined : await statfs(this.#data);
      this.#record = {
        ...this.#record,
        heartbeat: this.#record.heartbeat + 1,
        memoryBytes: process.memoryUsage.rss(),
        diskFreeBytes: disk === undefined ? 0 : disk.bavail * disk.bsize,
      };
      await this.#nodes.announce(this.#record);
      if (this.#failed) this.#logger.info("the node's record is being renewed again", {});
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#logger.warn(`the node's record could not be renewed: ${toKithError(error).message}`, {});
      this.#failed = true;
    }
  }
}
