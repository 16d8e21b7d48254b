import { type Condition, type Filter, type IdKey, type Path, pathOf } from "../../model/index.js";
import { eachElement } from "../matches.js";
import { partitionTest } from "../partition.js";
import { sliceOf } from "../slice.js";
import { andInto, andNotInto, countBits, hasBit, orInto, setBit, type Words } from "./bits.js";
import type { PayloadIndexes } from "./payload-indexes.js";
import type { Steps } from "./sorted-entries.js";
import type { IndexKind, Lookup } from "./types.js";

/**
 * What a filter is evaluated over. What is absent leaves its conditions to be checked point by point. Slots that come, go or change while
 * the evaluation runs are whoever changes them to know: of those, the result tells nothing.
 */
export interface SlotSource {
  readonly indexes: PayloadIndexes;
  /** Slots that hold a point, and how many they are. */
  readonly alive: Words;
  readonly aliveCount: number;
  slotOf?(id: IdKey): number | undefined;
  idOf?(slot: number): IdKey;
  /** Slots of the points of a partition; undefined where asking each slot is cheaper. */
  slotsOfPartition?(partition: string): Uint32Array | undefined;
  /** Slots whose point has a vector in a field. */
  withVector?(name: string): Words | undefined;
}

/** How one condition was answered. */
export interface ConditionReport {
  /** Its place in the filter: `filter.must[1]`. */
  readonly at: string;
  /** The index that answered; "ids" or "vectors"; "payload" where only points themselves can tell. */
  readonly by: IndexKind | "ids" | "vectors" | "payload";
  /** The field of the condition. */
  readonly path?: string;
  /** Slots expected to pass; undefined where nothing is known. */
  readonly estimate?: number;
}

/**
 * Slots that pass a filter, and slots of which that only the point can tell: those in `possible` that are not in `sure` need
 * a test of the point itself.
 */
export interface FilterSelection {
  readonly sure: Words;
  /** Holds all that are sure. The same array as `sure` where nothing is left open. */
  readonly possible: Words;
  readonly sureCount: number;
  readonly possibleCount: number;
  readonly conditions: readonly ConditionReport[];
}

/** Two sets, one within the other: slots that pass, slots that may. The same array where nothing is open. */
interface Interval {
  readonly sure: Words;
  readonly possible: Words;
}

/** Asking one slot costs about as much as marking this many. */
const askedCost = 20;
/** Slots asked in one step. */
const slotsPerStep = 2_000;

/**
 * Evaluates a filter over indexes, in steps: the indexes may change between them. The slots of the result are those of `alive` as it
 * was at first.
 */
export function* evaluateFilter(filter: Filter, source: SlotSource): Steps<FilterSelection> {
  const all = source.alive.slice();
  const evaluation = new Evaluation(source);
  const { sure, possible } = yield* evaluation.filter(filter, all, "filter", []);
  const possibleCount = countBits(possible);
  const sureCount = sure === possible ? possibleCount : countBits(sure);
  const { reports: conditions } = evaluation;
  // Where both are equal nothing is open.
  return { sure: sureCount === possibleCount ? possible : sure, possible, sureCount, possibleCount, conditions };
}

/** A condition with what its index says before any work. */
interface Planned {
  readonly condition: Condition;
  readonly at: string;
  readonly negated: boolean;
  readonly found: Found | undefined;
  /** Slots expected to pass. */
  readonly expected: number;
}

/** Conditions planned in one step. */
const plansPerStep = 8;

class Evaluation {
  readonly #source: SlotSource;
  readonly reports: ConditionReport[] = [];

  constructor(source: SlotSource) {
    this.#source = source;
  }

  /**
   * The slots of `within` that pass. `base` are the steps to the array whose elements a nested filter is about; there `possible`
   * alone has a meaning: slots of which some element may pass. What an element must not have tells nothing then, since another
   * may have it.
   */
  *filter(filter: Filter, within: Words, at: string, base: Path["steps"]): Steps<Interval> {
    const { must, should, mustNot, minShould } = filter;
    const planned: Planned[] = [];
    for (const [negated, conditions, name] of [
      [false, must, "must"],
      [true, base.length === 0 ? mustNot : [], "must_not"],
    ] as const) {
      for (const [i, condition] of conditions.entries()) {
        planned.push(yield* this.#plan(condition, `${at}.${name}[${i}]`, negated, base));
        if (planned.length % plansPerStep === 0) yield;
      }
    }
    planned.sort((a, b) => a.expected - b.expected);
    let result: Interval = { sure: within, possible: within };
    for (const { condition, at: where, negated, found } of planned) {
      const part = yield* this.#condition(condition, result.possible, where, base, found);
      result = both(result, negated ? complement(part, result.possible) : part);
      yield;
    }
    if (should.length > 0) {
      result = both(result, yield* this.#any(should, result.possible, `${at}.should`, base));
      yield;
    }
    if (minShould === undefined) return result;
    const where = `${at}.min_should.conditions`;
    return both(result, yield* this.#atLeast(minShould.conditions, minShould.count, result.possible, where, base));
  }

  *#plan(condition: Condition, at: string, negated: boolean, base: Path["steps"]): Steps<Planned> {
    const total = this.#source.aliveCount;
    const found = lookupOf(rebased(condition, base), this.#source);
    const estimate =
      condition.kind === "filter" ? yield* estimateFilter(condition.filter, this.#source) : expectedOf(found, total);
    return { condition, at, negated, found, expected: negated ? total - estimate : estimate };
  }

  *#any(conditions: readonly Condition[], within: Words, at: string, base: Path["steps"]): Steps<Interval> {
    const sure = new Uint32Array(within.length);
    const possible = new Uint32Array(within.length);
    let isExact = true;
    for (const [i, condition] of conditions.entries()) {
      const part = yield* this.#condition(condition, within, `${at}[${i}]`, base);
      orInto(sure, part.sure);
      orInto(possible, part.possible);
      isExact &&= part.sure === part.possible;
      yield;
    }
    return isExact ? { sure: possible, possible } : { sure, possible };
  }

  *#atLeast(
    conditions: readonly Condition[],
    count: number,
    within: Words,
    at: string,
    base: Path["steps"],
  ): Steps<Interval> {
    const sure = new BitCounters(within.length);
    const possible = new BitCounters(within.length);
    for (const [i, condition] of conditions.entries()) {
      const part = yield* this.#condition(condition, within, `${at}[${i}]`, base);
      sure.add(part.sure);
      possible.add(part.possible);
      yield;
    }
    return { sure: sure.atLeast(count), possible: possible.atLeast(count) };
  }

  *#condition(condition: Condition, within: Words, at: string, base: Path["steps"], planned?: Found): Steps<Interval> {
    if (condition.kind === "filter") return yield* this.filter(condition.filter, within, at, base);
    if (condition.kind === "nested") {
      const inner = [...base, ...eachElement(condition.path).steps];
      const { possible } = yield* this.filter(condition.filter, within, `${at}.nested.filter`, inner);
      return { sure: new Uint32Array(within.length), possible };
    }
    const found = planned ?? lookupOf(rebased(condition, base), this.#source);
    const path = "path" in condition ? condition.path.text : undefined;
    if (found === undefined || (found.negated && base.length > 0)) {
      this.reports.push({ at, by: "payload", path });
      return { sure: new Uint32Array(within.length), possible: within };
    }
    this.reports.push({ at, by: found.by, path, estimate: expectedOf(found, this.#source.aliveCount) });
    const part = yield* this.#look(found.lookup, within, found.bySlot);
    return found.negated ? complement(part, within) : part;
  }

  *#look(lookup: Lookup, within: Words, bySlot: boolean): Steps<Interval> {
    const marked = new Uint32Array(within.length);
    if (bySlot || countBits(within) * askedCost < lookup.estimate) {
      let asked = 0;
      for (let i = 0; i < within.length; i++) {
        for (let word = within[i] as number; word !== 0; ) {
          const low = word & -word;
          word ^= low;
          const slot = (i << 5) + (31 - Math.clz32(low));
          if (lookup.has(slot)) setBit(marked, slot);
          if (++asked % slotsPerStep === 0) yield;
        }
      }
    } else {
      yield* lookup.mark(marked);
      andInto(marked, within);
    }
    const { maybe } = lookup;
    if (lookup.sure && (maybe === undefined || maybe.count === 0)) return { sure: marked, possible: marked };
    const possible = marked.slice();
    if (maybe !== undefined) {
      orInto(possible, maybe.words);
      andInto(possible, within);
    }
    return { sure: lookup.sure ? marked : new Uint32Array(within.length), possible };
  }
}

/** The condition as one on the payload: its path goes on from the elements that a nested filter is about. */
function rebased(condition: Condition, base: Path["steps"]): Condition {
  return base.length > 0 && "path" in condition
    ? { ...condition, path: pathOf([...base, ...condition.path.steps]) }
    : condition;
}

export interface Found {
  readonly lookup: Lookup;
  readonly by: Exclude<ConditionReport["by"], "payload">;
  /** What is found are the slots that do not meet the condition. */
  readonly negated: boolean;
  /** Every slot is asked: nothing marks them. */
  readonly bySlot: boolean;
}

export function lookupOf(condition: Condition, source: SlotSource): Found | undefined {
  switch (condition.kind) {
    case "filter":
    case "nested":
      return undefined;
    case "isEmpty":
    case "isNull":
    case "valuesCount": {
      const found = source.indexes.presence(condition);
      if (found === undefined) return undefined;
      return { lookup: found.lookup, by: found.spec.kind, negated: condition.kind === "isEmpty", bySlot: false };
    }
    case "hasId": {
      if (source.slotOf === undefined) return undefined;
      return { lookup: idLookup(condition.ids, source.slotOf.bind(source)), by: "ids", negated: false, bySlot: false };
    }
    case "hasVector": {
      const words = source.withVector?.(condition.name);
      if (words === undefined) return undefined;
      return { lookup: wordsLookup(words), by: "vectors", negated: false, bySlot: false };
    }
    case "partition": {
      const slots = source.slotsOfPartition?.(condition.partition);
      if (slots !== undefined) return { lookup: slotsLookup(slots), by: "ids", negated: false, bySlot: false };
      const idOf = source.idOf?.bind(source);
      if (idOf === undefined) return undefined;
      const within = partitionTest(condition.partition);
      const has = (slot: number): boolean => within(idOf(slot));
      return {
        lookup: { estimate: source.aliveCount / 2, sure: true, mark: nothing, has },
        by: "ids",
        negated: false,
        bySlot: true,
      };
    }
    case "slice": {
      const idOf = source.idOf?.bind(source);
      if (idOf === undefined) return undefined;
      const { index, total } = condition;
      const has = (slot: number): boolean => sliceOf(idOf(slot), total) === index;
      const estimate = source.aliveCount / total;
      return { lookup: { estimate, sure: true, mark: nothing, has }, by: "ids", negated: false, bySlot: true };
    }
    default: {
      const found = source.indexes.lookup(condition);
      return found === undefined
        ? undefined
        : { lookup: found.lookup, by: found.spec.kind, negated: false, bySlot: false };
    }
  }
}

function* nothing(): Steps<void> {
  yield;
}

function idLookup(ids: readonly IdKey[], slotOf: (id: IdKey) => number | undefined): Lookup {
  return {
    estimate: ids.length,
    sure: true,
    *mark(words: Words): Steps<void> {
      for (const [i, id] of ids.entries()) {
        const slot = slotOf(id);
        if (slot !== undefined && slot >>> 5 < words.length) setBit(words, slot);
        if (i % slotsPerStep === slotsPerStep - 1) yield;
      }
    },
    has: (slot) => ids.some((id) => slotOf(id) === slot),
  };
}

function slotsLookup(slots: Uint32Array): Lookup {
  const set = new Set(slots);
  return {
    estimate: slots.length,
    sure: true,
    *mark(words: Words): Steps<void> {
      for (const [i, slot] of slots.entries()) {
        if (slot >>> 5 < words.length) setBit(words, slot);
        if (i % slotsPerStep === slotsPerStep - 1) yield;
      }
    },
    has: (slot) => set.has(slot),
  };
}

function wordsLookup(set: Words): Lookup {
  return {
    estimate: countBits(set),
    sure: true,
    *mark(words: Words): Steps<void> {
      orInto(words, set);
      yield;
    },
    has: (slot) => hasBit(set, slot),
  };
}

/** Half of all where nothing is known. */
function expectedOf(found: Found | undefined, total: number): number {
  if (found === undefined) return total / 2;
  const { lookup, negated } = found;
  return Math.max(0, Math.min(total, negated ? total - lookup.estimate : lookup.estimate));
}

/**
 * How many points are expected to pass a filter, as if its conditions knew nothing of one another; half where nothing is known. In steps:
 * what an index says of one condition takes it up to some tens of microseconds.
 */
export function* estimateFilter(filter: Filter, source: SlotSource): Steps<number> {
  const total = source.aliveCount;
  if (total === 0) return 0;
  const { must, should, mustNot, minShould } = filter;
  let expected = 1;
  for (const share of yield* sharesOf(must, source)) expected *= share;
  for (const share of yield* sharesOf(mustNot, source)) expected *= 1 - share;
  if (should.length > 0) {
    expected *= 1 - (yield* sharesOf(should, source)).reduce((none, share) => none * (1 - share), 1);
  }
  if (minShould !== undefined) {
    const shares = (yield* sharesOf(minShould.conditions, source)).sort((a, b) => b - a);
    // At most as many as pass the least of the likeliest.
    expected *= shares[minShould.count - 1] ?? 0;
  }
  return expected * total;
}

/** The part of all points that each condition is expected to let through. */
function* sharesOf(conditions: readonly Condition[], source: SlotSource): Steps<number[]> {
  const total = source.aliveCount;
  const shares: number[] = [];
  for (const condition of conditions) {
    const expected =
      condition.kind === "filter"
        ? yield* estimateFilter(condition.filter, source)
        : expectedOf(lookupOf(condition, source), total);
    if (shares.push(expected / total) % plansPerStep === 0) yield;
  }
  return shares;
}

function both(a: Interval, b: Interval): Interval {
  const possible = b.possible.slice();
  andInto(possible, a.possible);
  if (a.sure === a.possible && b.sure === b.possible) return { sure: possible, possible };
  const sure = b.sure.slice();
  andInto(sure, a.sure);
  return { sure, possible };
}

/** The slots of `within` that are not in the set; what may be in it may be out of it. */
function complement(part: Interval, within: Words): Interval {
  const possible = within.slice();
  andNotInto(possible, part.sure);
  if (part.sure === part.possible) return { sure: possible, possible };
  const sure = within.slice();
  andNotInto(sure, part.possible);
  return { sure, possible };
}

/** For each slot how many of the added sets hold it, as one plane of bits for each binary digit. */
class BitCounters {
  readonly #planes: Words[] = [];
  readonly #length: number;

  constructor(length: number) {
    this.#length = length;
  }

  add(set: Words): void {
    const carry = set.slice();
    for (const plane of this.#planes) {
      for (let i = 0; i < this.#length; i++) {
        const both = (plane[i] as number) & (carry[i] as number);
        plane[i] = (plane[i] as number) ^ (carry[i] as number);
        carry[i] = both;
      }
    }
    if (carry.some((word) => word !== 0)) this.#planes.push(carry);
  }

  /** The slots that so many sets hold at least. */
  atLeast(count: number): Words {
    const result = new Uint32Array(this.#length);
    if (count >= 2 ** this.#planes.length) return result;
    for (let i = 0; i < this.#length; i++) {
      let greater = 0;
      let equal = -1;
      for (let digit = this.#planes.length - 1; digit >= 0; digit--) {
        const bits = (this.#planes[digit] as Words)[i] as number;
        const wanted = ((count >>> digit) & 1) === 1 ? -1 : 0;
        greater |= equal & bits & ~wanted;
        equal &= ~(bits ^ wanted);
      }
      result[i] = greater | equal;
    }
    return result;
  }
}
