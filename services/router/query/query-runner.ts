import { limits, toKithError } from "../../../libs/base/index.js";
import { type CallContext, childCall, type RowRule } from "../../../libs/call/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { Hit } from "../../../libs/model/index.js";
import {
  collecting,
  histogramOf,
  metricsEnabled,
  registerGauge,
  SpanCollector,
  startSpan,
} from "../../../libs/telemetry/index.js";
import type { pb, QueryAnswer, ShardSequence } from "../../../libs/wire/index.js";
import { accessOf, refuseTelling, ruleOf } from "../access.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { QueryAdmission } from "./admission.js";
import { type AnswerBudget, type AnswerShape, type Reservation, sizeOf } from "./answer-budget.js";
import { ExplainStep } from "./explain.js";
import { defaultResults } from "./query-request.js";
import { type MinSequences, minSequencesOf } from "./read-options.js";
import type { SlowLog, SlowQuery } from "./slow-log.js";

const duration = histogramOf("kith.query.duration");

/** What a query comes to. */
export interface Answered {
  hits: readonly Hit[];
  payloadAsStruct?: boolean;
  matrices?: ReadonlyMap<string, number> | undefined;
  /** Shards that did not answer. */
  missing: readonly RoutedShard[];
  sequences: readonly ShardSequence[];
}

/** What every query asks for, whatever it is about. */
type Common = Pick<pb.QueryRequest, "collection" | "trace" | "explain" | "consistency" | "select" | "limit" | "offset">;

/** What a query says of itself in traces and in the log of slow queries. */
export type Described = Pick<SlowQuery, "kind" | "shape"> & { span: string };

/** What a query works with. */
export interface Working {
  collection: RoutedCollection;
  /** Which of its points are there for the caller. */
  rule: RowRule | undefined;
  minSequences: MinSequences;
  call: CallContext;
  /** Where it is to be explained. */
  step: ExplainStep | undefined;
}

/** What all queries have in common: they are counted, measured, traced, explained, and kept where they were slow. */
export class QueryRunner {
  readonly #routingTable: RoutingTable;
  readonly #log: Log;
  readonly #nodeId: string;
  readonly #budget: AnswerBudget;
  readonly #slowLog: SlowLog;
  readonly #admission: QueryAdmission;
  readonly #unregister: () => void;

  constructor(routingTable: RoutingTable, log: Log, nodeId: string, budget: AnswerBudget, slowLog: SlowLog) {
    this.#routingTable = routingTable;
    this.#log = log;
    this.#nodeId = nodeId;
    this.#budget = budget;
    this.#slowLog = slowLog;
    this.#admission = new QueryAdmission(routingTable.runtime.clock);
    this.#unregister = registerGauge("kith.query.in_flight", (report) => report(this.#admission.inFlight));
  }

  close(): void {
    this.#unregister();
  }

  /** As `#runOnce`, and once more where hash slots have gone to other shards meanwhile. `isOfBatch`: its answer has its share with those of others. */
  async run<T extends Answered>(
    described: Described,
    request: Common,
    call: CallContext,
    work: (working: Working) => Promise<T>,
    isOfBatch = false,
  ): Promise<[T, QueryAnswer]> {
    const before = this.#routingTable.find(request.collection);
    try {
      return await this.#runOnce(described, request, call, work, isOfBatch);
    } catch (error) {
      return this.#runAgain(error, before, described, request, call, work, isOfBatch);
    }
  }

  /** A method of its own: a closure in `run` would cost every query an allocation. */
  #runAgain<T extends Answered>(
    error: unknown,
    before: RoutedCollection | undefined,
    described: Described,
    request: Common,
    call: CallContext,
    work: (working: Working) => Promise<T>,
    isOfBatch: boolean,
  ): Promise<[T, QueryAnswer]> {
    const again = (): Promise<[T, QueryAnswer]> => this.#runOnce(described, request, call, work, isOfBatch);
    return this.#routingTable.epochs.retryingAfter(error, before, request.collection, call, again);
  }

  /** Does what all queries have in common around `work`: counts, measures, traces and explains it, and keeps it where it was slow. */
  async #runOnce<T extends Answered>(
    described: Described,
    request: Common,
    call: CallContext,
    work: (working: Working) => Promise<T>,
    isOfBatch: boolean,
  ): Promise<[T, QueryAnswer]> {
    const { clock } = this.#routingTable.runtime;
    const startMs = clock.monotonicMs();
    let collection: RoutedCollection | undefined;
    let reservation: Reservation | undefined;
    this.#admission.check(call.deadlineMs);
    const release = accessOf(call).usage?.query();
    this.#admission.enter();
    let isGivenUp = false;
    const step = request.explain ? new ExplainStep(clock, "answer", startMs) : undefined;
    const preparing = step?.begin("prepare");
    const collector = request.trace ? new SpanCollector(this.#nodeId, this.#routingTable.runtime) : undefined;
    const outer = collector === undefined ? call : childCall(call, collecting(call.trace, collector));
    const span = startSpan(outer.trace, described.span, { attributes: { "kith.collection": request.collection } });
    try {
      collection = this.#routingTable.resolve(request.collection, call);
      const rule = ruleOf(call, collection.record);
      if (request.explain) refuseTelling(rule, "explain");
      if (request.trace) refuseTelling(rule, "trace");
      this.#routingTable.rates.take(collection.record, "maxReadsPerSecond");
      const shape = shapeOf(collection, request);
      const reserving = isOfBatch
        ? this.#budget.within(shape)
        : this.#budget.reserveKnown(shape, collection.shards.length, outer);
      reservation = reserving instanceof Promise ? await this.#admission.aside(reserving) : reserving;
      const settled = minSequencesOf(collection, request.consistency, this.#log, request.collection);
      const minSequences = settled instanceof Promise ? await settled : settled;
      preparing?.end();
      const answered = await work({ collection, rule, minSequences, call: childCall(outer, span.trace), step });
      const sizeBytes = sizeOf(answered.hits);
      reservation.settle(sizeBytes);
      accessOf(call).usage?.spend(answered.hits.length, sizeBytes);
      span.set("kith.results", answered.hits.length);
      span.end();
      step?.end();
      const tookMs = clock.monotonicMs() - startMs;
      if (metricsEnabled()) duration.record(tookMs / 1000, collection.attributes);
      this.#slowLog.note(described, request.collection, tookMs, "");
      const answer: QueryAnswer = {
        hits: answered.hits,
        payloadAsStruct: answered.payloadAsStruct,
        matrices: answered.matrices,
        missing: answered.missing.length === 0 ? none : answered.missing.map(slotsOf),
        trace: collector?.spans ?? none,
        tookUs: Math.round(tookMs * 1000),
        sequences: answered.sequences,
        collectionId: collection.record.id,
        explain: step?.toWire(),
      };
      return [answered, answer];
    } catch (error) {
      span.end(error);
      const { code } = toKithError(error);
      isGivenUp = code === "DEADLINE_EXCEEDED" || code === "CANCELLED";
      const tookMs = clock.monotonicMs() - startMs;
      // Without the name of a collection that there is not: whoever asks could make up any number of them.
      if (metricsEnabled()) duration.record(tookMs / 1000, { ...collection?.attributes, "error.type": code });
      this.#slowLog.note(described, request.collection, tookMs, code);
      throw error;
    } finally {
      // From here the answer is the server's, which counts what its clients have not taken.
      reservation?.release();
      release?.();
      this.#admission.leave(!isGivenUp);
    }
  }
}

const none: readonly never[] = [];

function slotsOf({ placement: { firstSlot, lastSlot } }: RoutedShard): { first: number; last: number } {
  return { first: firstSlot, last: lastSlot };
}

/** What the size of the answer depends on. */
export function shapeOf(collection: RoutedCollection, { limit, offset, select }: Common): AnswerShape {
  const count = Math.min((limit === 0 ? defaultResults : limit) + offset, limits.queryLimit);
  return { collectionId: collection.record.id, select, count };
}
