import { limits, ownText } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import { type FacetCount, runSteps, type Steps, type Words } from "../../filter/index.js";
import {
  type Hit,
  type IdKey,
  idMapKey,
  type JsonObject,
  parsePath,
  type Path,
  type PayloadIndexKind,
  valuesAtPath,
} from "../../model/index.js";
import { mergeOrdered } from "../../query/index.js";
import type { ShardFacet, ShardFacets, ShardHits, ShardOrder } from "../../shard-api/index.js";
import type { OpenReplica } from "../replica/open-replica.js";
import type { ReadNotes } from "./explain.js";
import { explained } from "./explain.js";
import { cancellationOf } from "./hydrator.js";
import { facetValueBytes, facetValues, isBehind, orderValues, tooManyValues } from "./payload-values.js";
import { type OrderIndex, orderedSlots, orderIndexOf, type PlacedSlot } from "./ordered-slots.js";
import type { Scopes } from "./scopes.js";

/** Points of an order that are kept beyond twice as many as are wanted, before the last ones are dropped. */
const keptForOrder = 1_000;

/** Kinds of payload index that count what stands in payloads. */
const facetKinds: readonly PayloadIndexKind[] = ["keyword", "integer", "bool", "uuid"];

interface FacetIndex {
  readonly facet: (mask?: Words) => Steps<FacetCount[]>;
}

/** Answers reads of what stands in payloads: orders and facets. */
export class ValuesReader {
  readonly #replica: OpenReplica;
  readonly #scopes: Scopes;

  constructor(replica: OpenReplica, scopes: Scopes) {
    this.#replica = replica;
    this.#scopes = scopes;
  }

  async order(request: ShardOrder, call: CallContext): Promise<ShardHits> {
    const path = parsePath(request.orderBy.key);
    const notes = this.#scopes.notes(request.explain);
    const ordered = await this.#scopes.repeated(call, notes, async (each) => {
      const index = request.ids === undefined ? orderIndexOf(this.#replica.indexes.payloadIndexes(), path) : undefined;
      const plan = index === undefined ? "points" : "order index";
      const best =
        index === undefined
          ? await this.#orderByPayloads(request, path, each, notes)
          : await this.#orderByIndex(request, index, each, notes);
      if (best === undefined) return undefined;
      const { slots: table, appliedSequence: sequence } = this.#replica;
      // Nothing has changed since the index was read; for hundreds of points what follows costs more than that.
      if (index !== undefined && !request.select.payload && request.select.vectors.length === 0) {
        const hits = best.map(({ id, slot, value }): Hit => {
          return { id, score: 0, version: table.versionOf(slot), payload: noBytes, order: value };
        });
        return { hits, sequence, plan } as const;
      }
      const rows = { slots: Uint32Array.from(best, ({ slot }) => slot), distances: best.map(() => 0) };
      const answer = await this.#scopes.answer("dot", rows, request.select, each, notes);
      if (answer === undefined) return undefined;
      // Equal scores come in order of id; here the order is that of the values, and a point may stand at several.
      const byId = new Map(answer.hits.map((hit) => [idMapKey(hit.id), hit]));
      const hits = best.flatMap(({ id, value }): Hit[] => {
        const hit = byId.get(idMapKey(id));
        return hit === undefined ? [] : [{ ...hit, order: value }];
      });
      return { ...answer, hits, plan } as const;
    });
    const { plan, ...answer } = ordered;
    if (plan === "order index") this.#replica.usage.used(path.text);
    return explained(answer, notes, plan);
  }

  async #orderByPayloads(
    request: ShardOrder,
    path: Path,
    call: CallContext,
    notes: ReadNotes | undefined,
  ): Promise<PlacedSlot[]> {
    const { after, limit } = request;
    const { direction, startFrom } = request.orderBy;
    let found: PlacedSlot[] = [];
    await this.#scopes.eachPayload(request, call, notes, (slot, id, payload) => {
      const values = new Set(valuesAtPath(payload, path).flatMap(orderValues));
      for (const value of values) {
        if (startFrom !== undefined && (direction === "ascending" ? value < startFrom : value > startFrom)) continue;
        if (after === undefined || isBehind({ id, value }, after, direction)) found.push({ id, slot, value });
      }
      // A sort of all at the end would hold the event loop for as long as it takes.
      if (found.length >= 2 * limit + keptForOrder) found = mergeOrdered([found], direction, limit);
    });
    return mergeOrdered([found], direction, limit);
  }

  /** Undefined where a batch has changed the index meanwhile. */
  async #orderByIndex(
    request: ShardOrder,
    index: OrderIndex,
    call: CallContext,
    notes: ReadNotes | undefined,
  ): Promise<PlacedSlot[] | undefined> {
    const { orderBy, after, limit } = request;
    const { mask, exclude } = await this.#scopes.scope(request, call, notes, false);
    const steps = orderedSlots(index, this.#replica.slots, { orderBy, after, limit, mask: mask?.words, exclude });
    notes?.enter("order index");
    const places = await this.#undisturbed(steps, call);
    notes?.enter("collect");
    return places;
  }

  /** Runs steps over indexes and slots; undefined where a batch has changed these meanwhile. */
  async #undisturbed<T>(steps: Steps<T>, call: CallContext): Promise<T | undefined> {
    const replica = this.#replica;
    const signal = cancellationOf(call);
    const { writeEpoch } = replica;
    // A large batch is becoming visible, in several steps.
    if (replica.whole !== undefined) return undefined;
    const result = await runSteps(steps, { clock: replica.context.clock, ...(signal && { signal }) });
    return writeEpoch === replica.writeEpoch && replica.whole === undefined ? result : undefined;
  }

  async facet(request: ShardFacet, call: CallContext): Promise<ShardFacets> {
    const path = parsePath(request.key);
    const counts = new Map<string | number | bigint | boolean, number>();
    const notes = this.#scopes.notes(request.explain);
    const index = this.#facetIndex(request, path);
    if (index !== undefined) {
      this.#replica.usage.used(path.text);
      const answer = await this.#scopes.repeated(call, notes, (each) => this.#facetOnce(index, request, each, notes));
      return explained(answer, notes, "facet index");
    }
    let sizeBytes = 0;
    const count = (_slot: number, _id: IdKey, payload: JsonObject): void => {
      const values = new Set(valuesAtPath(payload, path).flatMap(facetValues));
      for (const value of values) {
        const known = counts.get(value);
        if (known !== undefined) counts.set(value, known + 1);
        else {
          sizeBytes += facetValueBytes(value);
          if (sizeBytes > limits.facetBytes) throw tooManyValues(path.text);
          counts.set(typeof value === "string" ? ownText(value) : value, 1);
        }
      }
    };
    const scale = await this.#scopes.eachPayload(request, call, notes, count, request.approximate === true);
    const answer: ShardFacets = {
      counts: Array.from(counts, ([value, found]) => ({ value, count: Math.round(found * scale) })),
      sequence: this.#replica.appliedSequence,
    };
    return explained(answer, notes, scale === 1 ? "points" : "sampled points");
  }

  /** The index that counts what the payloads would say; undefined where there is none. */
  #facetIndex({ ids, exclude }: ShardFacet, path: Path): FacetIndex | undefined {
    if (ids !== undefined || exclude.length > 0) return undefined;
    for (const { index } of this.#replica.indexes.payloadIndexes().of(path)) {
      if (!index.holdsAll || !facetKinds.includes(index.kind)) continue;
      const facet = index.facet?.bind(index);
      if (facet !== undefined) return { facet };
    }
    return undefined;
  }

  /** Undefined where a batch has changed the index meanwhile. */
  async #facetOnce(
    { facet }: FacetIndex,
    request: ShardFacet,
    call: CallContext,
    notes: ReadNotes | undefined,
  ): Promise<ShardFacets | undefined> {
    const { mask } = await this.#scopes.scope(request, call, notes, false);
    const { appliedSequence: sequence } = this.#replica;
    notes?.enter("facet index");
    const counts = await this.#undisturbed(facet(mask?.words), call);
    notes?.enter("collect");
    if (counts === undefined) return undefined;
    const sizeBytes = counts.reduce((sum, { value }) => sum + facetValueBytes(value), 0);
    if (sizeBytes > limits.facetBytes) throw tooManyValues(request.key);
    return { counts, sequence };
  }
}

const noBytes = new Uint8Array(0);
