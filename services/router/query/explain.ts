import type { Clock } from "../../../libs/base/index.js";
import type {
  CodesExplain,
  MaskExplain,
  ReadExplain,
  ReadStage,
  SearchExplain,
} from "../../../libs/shard-api/index.js";
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

  /**
   * Adds what a replica tells of its part, also to the span of the request to it. To be called when the step has ended: what its time has
   * beyond the replica's is that of the way there and back.
   */
  read({ plan, pointCount, stages, retries, totalUs, readBytes }: ReadExplain, span: Span): void {
    this.fact("plan", plan)
      .fact("points", pointCount)
      .fact("engine_us", Math.round(totalUs))
      .fact("read_bytes", readBytes)
      .fact("retries", retries === 0 ? undefined : retries);
    for (const [name, value] of this.#facts) span.set(name, value);
    const endMs = this.#endMs ?? this.#clock.monotonicMs();
    const linkUs = Math.max(0, micros(endMs - this.#startMs) - totalUs);
    const add = (name: string, startUs: number, durationUs: number, facts: pb.ExplainFact[]): void => {
      this.#steps.push({ name, startUs: Math.round(startUs), durationUs: Math.round(durationUs), facts, steps: [] });
      span.set(`${name}.us`, Math.round(durationUs));
      for (const { name: fact, value } of facts) if (value !== undefined) span.set(`${name}.${fact}`, value.value);
    };
    // Encoding, the network, and the turns of both event loops until they came to it.
    add("link", 0, linkUs, []);
    for (const stage of stages)
      add(nameOf(stage), linkUs + stage.startUs, stage.durationUs, [
        ...(stage.mask === undefined ? [] : maskFacts(stage.mask)),
        ...(stage.search === undefined ? [] : searchFacts(stage.search)),
        ...factsOf([
          ...(stage.points === undefined ? [] : [["points", stage.points] as const]),
          ...(stage.bytes === undefined ? [] : [["bytes", stage.bytes] as const]),
        ]),
      ]);
  }

  toWire(): pb.Explain {
    const endMs = this.#endMs ?? this.#clock.monotonicMs();
    const startUs = micros(this.#startMs - this.#originMs);
    const durationUs = micros(endMs - this.#startMs);
    const steps = this.#steps.map((step) => (step instanceof ExplainStep ? step.toWire() : step));
    // What a replica did is told on a clock of its own, without gaps.
    const isMade = this.#steps.some((step) => step instanceof ExplainStep);
    const own: [string, number][] = isMade ? [["own_us", ownUs(startUs, durationUs, steps)]] : [];
    return { name: this.name, startUs, durationUs, facts: factsOf([...this.#facts, ...own]), steps };
  }
}

function nameOf({ name, search }: ReadStage): string {
  return search === undefined ? name : `search ${search.field}`.trimEnd();
}

function maskFacts(mask: MaskExplain): pb.ExplainFact[] {
  const facts: [string, string | number][] = [
    ["state", mask.state],
    ["estimated_points", mask.estimated],
    ["points", mask.count],
    ["tested_points", mask.testedPoints],
    ["tested_bytes", mask.testedBytes],
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

function codesFacts({ datatype, generation, rescored, originals }: CodesExplain): [string, string | number][] {
  return [
    ["datatype", datatype],
    ["generation", generation],
    ["rescored", rescored ? "yes" : "no"],
    ["originals", originals],
  ];
}

function searchFacts(search: SearchExplain): pb.ExplainFact[] {
  const { codes } = search;
  return factsOf([
    ...(codes === undefined ? [] : codesFacts(codes)),
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

/** How much of a step's time none of its steps was going on: planning, and the turns of the event loop between them. */
function ownUs(startUs: number, durationUs: number, steps: readonly pb.Explain[]): number {
  let own = 0;
  let endUs = startUs;
  for (const step of [...steps].sort((a, b) => a.startUs - b.startUs)) {
    own += Math.max(0, step.startUs - endUs);
    endUs = Math.max(endUs, step.startUs + step.durationUs);
  }
  return own + Math.max(0, startUs + durationUs - endUs);
}

function micros(ms: number): number {
  return Math.max(0, Math.round(ms * 1000));
}
