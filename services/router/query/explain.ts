import type { Clock } from "../../../libs/base/index.js";
import type { MaskExplain, ReadExplain, SearchExplain } from "../../../libs/shard-api/index.js";
import type { Span } from "../../../libs/telemetry/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** One step of how an answer came about, with what it did and the steps within it. */
export class ExplainStep {
  readonly name: string;
  readonly #clock: Clock;
  readonly #originMs: number;
  readonly #startMs: number;
  #endMs: number | undefined;
  readonly #facts: [string, string | number][] = [];
  readonly #steps: (ExplainStep | pb.Explain)[] = [];

  /** `originMs`: when the call began, on the monotonic clock; starts count from there. */
  constructor(clock: Clock, name: string, originMs: number) {
    this.#clock = clock;
    this.name = name;
    this.#originMs = originMs;
    this.#startMs = clock.monotonicMs();
  }

  begin(name: string): ExplainStep {
    const step = new ExplainStep(this.#clock, name, this.#originMs);
    this.#steps.push(step);
    return step;
  }

  end(): void {
    this.#endMs ??= this.#clock.monotonicMs();
  }

  fact(name: string, value: string | number | undefined): this {
    if (value !== undefined) this.#facts.push([name, value]);
    return this;
  }

  /** Adds what a replica tells of its part, also to the span of the request to it. */
  read(explain: ReadExplain, span: Span): void {
    const { plan, pointCount, mask, searches, readPoints, readUs, workUs, retries, totalUs } = explain;
    this.fact("plan", plan)
      .fact("points", pointCount)
      .fact("engine_us", Math.round(totalUs))
      .fact("retries", retries === 0 ? undefined : retries);
    span.set("plan", plan);
    span.set("engine_us", Math.round(totalUs));
    let atUs = 0;
    const add = (name: string, durationUs: number, facts: pb.ExplainFact[]): void => {
      this.#steps.push({ name, startUs: Math.round(atUs), durationUs: Math.round(durationUs), facts, steps: [] });
      for (const { name: fact, value } of facts) if (value !== undefined) span.set(`${name}.${fact}`, value.value);
      atUs += durationUs;
    };
    if (mask !== undefined) add("mask", mask.waitedUs, maskFacts(mask));
    for (const search of searches)
      add(`search ${search.field}`.trimEnd(), search.queueUs + search.searchUs + search.waitUs, searchFacts(search));
    if (workUs > 0) add(plan, workUs, []);
    if (readPoints > 0) add("read", readUs, factsOf([["points", readPoints]]));
  }

  toWire(): pb.Explain {
    const endMs = this.#endMs ?? this.#clock.monotonicMs();
    return {
      name: this.name,
      startUs: micros(this.#startMs - this.#originMs),
      durationUs: micros(endMs - this.#startMs),
      facts: factsOf(this.#facts),
      steps: this.#steps.map((step) => (step instanceof ExplainStep ? step.toWire() : step)),
    };
  }
}

function maskFacts(mask: MaskExplain): pb.ExplainFact[] {
  const facts: [string, string | number][] = [
    ["state", mask.state],
    ["estimated_points", mask.estimated],
    ["points", mask.count],
    ["tested_points", mask.testedPoints],
    ["index_us", Math.round(mask.indexUs)],
    ["test_us", Math.round(mask.testUs)],
  ];
  for (const { at, by, path, estimate } of mask.conditions) {
    const about = estimate === undefined ? "" : `, about ${Math.round(estimate)} points`;
    facts.push([at, `${path === undefined ? "" : `${path} `}by ${by}${about}`]);
  }
  for (const { at, path, kinds } of mask.unindexed) {
    facts.push([at, `"${path}" has no index: create one of the kind ${kinds.join(" or ")}`]);
  }
  return factsOf(facts);
}

function searchFacts(search: SearchExplain): pb.ExplainFact[] {
  return factsOf([
    ["plan", search.plan],
    ["reason", search.reason],
    ["k", search.k],
    ["ef", search.ef],
    ["computed", search.computed],
    ["queue_us", Math.round(search.queueUs)],
    ["search_us", Math.round(search.searchUs)],
    ["wait_us", Math.round(search.waitUs)],
    ["graph_estimate_us", Math.round(search.graphEstimateUs)],
    ["scan_estimate_us", Math.round(search.scanEstimateUs)],
  ]);
}

function factsOf(facts: readonly (readonly [string, string | number])[]): pb.ExplainFact[] {
  return facts.map(([name, value]) => ({
    name,
    value: typeof value === "number" ? { $case: "number", value } : { $case: "text", value },
  }));
}

function micros(ms: number): number {
  return Math.max(0, Math.round(ms * 1000));
}
