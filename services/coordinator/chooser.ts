import { type Clock, heardByMany, KithError, toKithError } from "../../libs/base/index.js";
import type { CollectionsView } from "../../libs/cluster/index.js";
import {
  autoRowsMin,
  buildFor,
  type BuildTrial,
  chooseBuild,
  type Collection,
  type FieldChoice,
  generationOf,
  type ReplicaStatus,
  type ShardId,
  type VectorField,
  withChoice,
} from "../../libs/model/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { Measurements } from "./measurements.js";

/** Has a replica try datatypes on a sample of its vectors, which takes seconds; rejects where its node cannot be asked. */
export type TrialOf = (
  node: string,
  replica: ShardId,
  request: { field: string; target: number },
  signal: AbortSignal,
) => Promise<{ rows: number; trials: readonly BuildTrial[] }>;

export interface ChooserOptions {
  collections: CollectionsView;
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  trialOf: TrialOf;
  isHolder: () => boolean;
  clock: Clock;
  logger: Logger;
}

/** How often it is looked whether there are enough vectors. */
const lookEveryMs = 2_000;
/** Trials take seconds of each shard: those that came to nothing are made again so much later, and twice as late each time. */
const againMs = 10_000;
const againMostMs = 600_000;

type AutoField = VectorField & { autoRecall: number };

/** Picks the datatypes of fields that were made with `autoRecall`, once there are enough vectors: one field after the other. */
export class Chooser {
  readonly #options: ChooserOptions;
  readonly #measurements: Measurements;
  readonly #closing = new AbortController();
  /** By collection and field: how often there were trials, and when there may be the next ones. */
  readonly #tried = new Map<string, { count: number; nextMs: number }>();

  constructor(options: ChooserOptions) {
    this.#options = options;
    const pace = { clock: options.clock, logger: options.logger, everyMs: lookEveryMs };
    this.#measurements = new Measurements(pace, "which datatype does for a vector field", () => this.#measure());
  }

  /** To be called again and again. */
  look(): void {
    this.#measurements.beginDue();
  }

  /** Resolves when what is under way has ended. */
  get idle(): Promise<void> {
    return this.#measurements.close();
  }

  close(): Promise<void> {
    this.#closing.abort(new KithError("SHUTTING_DOWN", "the coordinator ends"));
    return this.idle;
  }

  async #measure(): Promise<void> {
    const { collections, logger } = this.#options;
    const due = new Set<string>();
    for (const record of collections.values()) {
      const field = dueIn(record);
      if (field === undefined) continue;
      const key = `${record.id} ${field.name}`;
      due.add(key);
      try {
        await this.#pick(record, field, key);
      } catch (error) {
        // A shard that cannot be asked now may be later; the others are not to wait for it.
        const { code, message } = toKithError(error);
        logger.warn(`a datatype of the collection "${record.name}" could not be picked yet: ${message}`, { code });
      }
      if (this.#closing.signal.aborted) return;
    }
    for (const key of this.#tried.keys()) if (!due.has(key)) this.#tried.delete(key);
  }

  async #pick(record: Collection, field: AutoField, key: string): Promise<void> {
    const { trialOf, clock, collections, isHolder, logger } = this.#options;
    const { count, nextMs } = this.#tried.get(key) ?? { count: 0, nextMs: 0 };
    if (count > 0 && clock.monotonicMs() < nextMs) return;
    const replicas = await this.#replicas(record, field);
    if (replicas === undefined || replicas.reduce((sum, { rows }) => sum + rows, 0) < autoRowsMin) return;
    const pauseMs = Math.min(againMostMs, againMs * 2 ** Math.min(count, 10));
    this.#tried.set(key, { count: count + 1, nextMs: clock.monotonicMs() + pauseMs });
    const request = { field: field.name, target: field.autoRecall };
    const signal = heardByMany(this.#closing.signal);
    const answers = await Promise.all(
      replicas.map(({ node, shard }) => trialOf(node, { collectionId: record.id, shard }, request, signal)),
    );
    const tried = answers.filter(({ trials }) => trials.length > 0);
    // Each shard has too few for itself.
    if (tried.length === 0) return;
    const { picked, isHeld } = pickedOf(
      field.autoRecall,
      tried.map(({ trials }) => trials),
    );
    const rows = answers.reduce((sum, each) => sum + each.rows, 0);
    const choice: FieldChoice = { ...picked, target: field.autoRecall, rows, atMs: clock.nowMs() };
    await collections.modify(record.name, (found) => {
      if (!isHolder() || found.id !== record.id || dueIn(found)?.name !== field.name) return undefined;
      const after = withChoice(found, field.name, choice, isHeld);
      if (choice.datatype === field.datatype) return after;
      const build = buildFor(field, choice.datatype);
      const version = found.schemaVersion + 1;
      return { ...after, change: { kind: "beginGeneration", name: field.name, build, plan: {}, version } };
    });
    logger.info(`picked ${choice.datatype} for a vector field of the collection "${record.name}": ${choice.reason}`, {
      field: field.name,
      target: choice.target,
    });
  }

  /** A replica of each shard that answers, with how many vectors it has; undefined where none of a shard does. */
  async #replicas(
    { id, shards }: Collection,
    field: AutoField,
  ): Promise<{ node: string; shard: number; rows: number }[] | undefined> {
    const found: { node: string; shard: number; rows: number }[] = [];
    for (const { shard, state, replicas } of shards) {
      if (state !== "active") continue;
      const statuses = await Promise.all(
        replicas.map(async ({ node }) => {
          const status = await this.#options.statusOf(node, { collectionId: id, shard }).catch(() => undefined);
          if (status?.state !== "active") return [];
          const isMeant = (each: { field: string; number: number }): boolean =>
            each.field === field.name && each.number === generationOf(field);
          return [{ node, shard, rows: status.generations?.find(isMeant)?.rowCount ?? 0 }];
        }),
      );
      const [first] = statuses.flat();
      if (first === undefined) return undefined;
      found.push(first);
    }
    return found;
  }
}

/** The first field of a collection whose datatype is to be picked, and can be now. */
function dueIn({ state, restoring, change, fields }: Collection): AutoField | undefined {
  if (state !== "ready" || restoring !== undefined || change !== undefined) return undefined;
  return fields.find((field): field is AutoField => {
    return field.autoRecall !== undefined && field.other?.state !== "building";
  });
}

/** What is picked; the datatype of before, with the reason, where none reaches the recall. */
function pickedOf(
  target: number,
  trials: readonly (readonly BuildTrial[])[],
): { picked: Pick<FieldChoice, "datatype" | "reason" | "trials">; isHeld: boolean } {
  try {
    return { picked: chooseBuild(target, trials), isHeld: true };
  } catch (error) {
    const { code, message } = toKithError(error);
    if (code !== "FAILED_PRECONDITION") throw error;
    return { picked: { datatype: "f32", reason: message, trials: trials[0] ?? [] }, isHeld: false };
  }
}
