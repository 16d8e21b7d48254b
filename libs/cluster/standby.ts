import { type Clock, KithError, toKithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import { CatalogView } from "./view.js";

/**
 * What a standby cluster is doing. "following": it repeats what the primary has, and takes no writes. "promoting": it follows no more, and brings what
 * it has to an end. "promoted": it is a cluster of its own for good.
 */
export type StandbyPhase = "following" | "promoting" | "promoted";

export interface StandbyState {
  phase: StandbyPhase;
  /** Name of the primary cluster. */
  primary: string;
  /** Wall clock at which it came into this phase, milliseconds since the Unix epoch. */
  sinceMs: number;
  /** While it is promoted: all that is taken of the primary is here. */
  hasRest?: true;
}

/**
 * How far the log of a shard is repeated. "preparing": its slots are others' yet, which have all that it takes over. "copying": it has no replica yet that
 * has what was before. "failed": it is not gone on with by itself.
 */
export type FollowedState = "following" | "preparing" | "copying" | "sealed" | "waiting" | "failed";

/** How far one shard is. */
export interface FollowedLog {
  collectionId: string;
  collection: string;
  shard: number;
  state: FollowedState;
  /** The last record that is here. */
  sequence: number;
  /** The last record of the primary, as far as is known. */
  primarySequence: number;
  /** All that the primary had so many milliseconds ago is here; missing before all of it was here once. */
  lagMs?: number;
  /** What is wrong, or waited for. */
  reason?: string;
}

/** What the coordinator tells of following. */
export interface StandbyProgress {
  /** Wall clock, milliseconds since the Unix epoch. */
  atMs: number;
  isReachable: boolean;
  /** Why the primary, or all of following, is not as it should be; "" where it is. */
  reason: string;
  /** Of the collections that the primary does not have and nobody is known to have deleted there. */
  orphans: string[];
  logs: FollowedLog[];
}

const stateName = "state";
const progressName = "progress";

/** Whether this cluster follows another one, and how far it is. */
export class StandbyView {
  readonly #state: CatalogView<StandbyState>;
  readonly #progress: CatalogView<StandbyProgress>;
  readonly #clock: Clock;
  readonly #configured: string | undefined;

  /** `configured`: the primary's name in this node's settings; undefined where they name none. */
  constructor(catalog: Catalog, clock: Clock, configured: string | undefined) {
    this.#clock = clock;
    this.#configured = configured;
    this.#state = new CatalogView(catalog, "standby", (json) => JSON.parse(json) as StandbyState);
    this.#progress = this.#state.beside(
      progressName,
      (json) => JSON.parse(json) as StandbyProgress,
      (value) => value,
    );
  }

  start(signal?: AbortSignal): Promise<void> {
    return this.#state.start(signal);
  }

  /** Undefined for a cluster that has never followed another one. */
  get state(): StandbyState | undefined {
    return this.#state.get(stateName)?.value;
  }

  get progress(): StandbyProgress | undefined {
    return this.#progress.get(progressName)?.value;
  }

  /** The cluster that is followed, or was so before it was promoted; undefined where there is none. */
  get primary(): string | undefined {
    return this.state?.primary ?? this.#configured;
  }

  /** Why this cluster takes no writes; undefined where it does. */
  get refusal(): KithError | undefined {
    const { state } = this;
    const phase = state?.phase ?? (this.#configured === undefined ? "promoted" : "following");
    if (phase === "promoted") return undefined;
    const primary = this.primary ?? "";
    const text =
      phase === "promoting"
        ? "it is being promoted: try again in a moment"
        : `write to that one, or promote this one where that one is lost`;
    return new KithError(
      "READ_ONLY",
      `this cluster follows the cluster "${primary}", and takes no changes of its own: ${text}`,
      {
        details: { primary, phase },
      },
    );
  }

  onChange(listener: () => void): () => void {
    return this.#state.onChange(listener);
  }

  /** Follows from now on. No error where it does so already, or did before it was promoted. */
  async begin(primary: string): Promise<void> {
    const state: StandbyState = { phase: "following", primary, sinceMs: this.#clock.nowMs() };
    try {
      await this.#state.create(stateName, state);
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
    }
  }

  /** Asks for the promotion; the coordinator does it. FAILED_PRECONDITION where this cluster follows none. No error where that was asked already. */
  async promote(): Promise<StandbyState> {
    try {
      return await this.#state.modify(stateName, (state) =>
        state.phase === "following" ? { ...state, phase: "promoting", sinceMs: this.#clock.nowMs() } : undefined,
      );
    } catch (error) {
      if (toKithError(error).code !== "NOT_FOUND") throw error;
      throw new KithError("FAILED_PRECONDITION", "this cluster follows no other one: there is nothing to promote");
    }
  }

  /** Nothing more is taken of the primary. */
  async tookRest(): Promise<void> {
    await this.#state.modify(stateName, (state) =>
      state.phase === "promoting" && state.hasRest !== true ? { ...state, hasRest: true } : undefined,
    );
  }

  /** The promotion has come to its end. */
  async promoted(): Promise<void> {
    await this.#state.modify(stateName, (state) =>
      state.phase === "promoting" ? { ...state, phase: "promoted", sinceMs: this.#clock.nowMs() } : undefined,
    );
  }

  /** Tells how far it is. */
  async tell(progress: StandbyProgress): Promise<void> {
    if (this.#progress.get(progressName) === undefined) {
      try {
        await this.#progress.create(progressName, progress);
        return;
      } catch (error) {
        if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      }
    }
    await this.#progress.modify(progressName, () => progress);
  }

  close(): Promise<void> {
    return this.#state.close();
  }
}
