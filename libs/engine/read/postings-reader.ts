import { limits } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import { type Filter, filterOf, idMapKey, type SparseScorer } from "../../model/index.js";
import type { ShardHits, ShardSparse, ShardText } from "../../shard-api/index.js";
import { startSpan } from "../../telemetry/index.js";
import type { SparseGeneration } from "../index/sparse-generation.js";
import type { OpenReplica } from "../replica/open-replica.js";
import type { ReadNotes } from "./explain.js";
import { explained } from "./explain.js";
import { type FoundRows, type Hydrator } from "./hydrator.js";
import { overfetch, scoreRows } from "./scores.js";
import { checkSparse, searchPostings, searchSparse, sparseGenerationOf, sparseSimilarities } from "./sparse.js";
import { searchTexts, textIndexOf } from "./texts.js";
import { isChosen, type Scope, type Scopes, within } from "./scopes.js";

/** Answers reads by postings: of texts, and of sparse vectors. */
export class PostingsReader {
  readonly #replica: OpenReplica;
  readonly #hydrator: Hydrator;
  readonly #scopes: Scopes;

  constructor(replica: OpenReplica, hydrator: Hydrator, scopes: Scopes) {
    this.#replica = replica;
    this.#hydrator = hydrator;
    this.#scopes = scopes;
  }

  async text(request: ShardText, call: CallContext): Promise<ShardHits> {
    const found = textIndexOf(this.#replica, request.index, request.generation);
    this.#replica.usage.used(request.index);
    const notes = this.#scopes.notes(request.explain);
    const answer = await this.#scopes.repeated(call, notes, async (each) => {
      const scope = await this.#scopes.scope(request, each, notes);
      if (scope.slots?.length === 0 || scope.mask?.count === 0)
        return { hits: [], sequence: this.#replica.appliedSequence };
      const { appliedSequence: sequence, slotEpoch } = this.#replica;
      const k = Math.min(limits.shardResults, request.k + scope.exclude.size);
      const where = within(scope);
      notes?.enter("text");
      const rows = await searchTexts(this.#replica, found, request, k, where, each);
      notes?.postings(request.index, k, rows);
      notes?.enter("collect");
      // A point whose text changes meanwhile keeps its slot: it was chosen by what it held.
      return this.#best(rows, request, scope, each, notes, { sequence, slotEpoch, isChosen: true });
    });
    return explained(answer, notes, "search");
  }

  async sparse(request: ShardSparse, call: CallContext): Promise<ShardHits> {
    checkSparse(request);
    const { scorer } = request;
    const notes = this.#scopes.notes(request.explain);
    // Rows without an index in common with an example have a score, too; those without a vector have none.
    const about = scorer === undefined ? request : { ...request, filter: havingVector(request.filter, request.field) };
    const answer = await this.#scopes.repeated(call, notes, async (each) => {
      const serving = sparseGenerationOf(this.#hydrator, request.field);
      const scope = await this.#scopes.scope(about, each, notes);
      const { slots, mask } = scope;
      if (slots?.length === 0 || mask?.count === 0) return { hits: [], sequence: this.#replica.appliedSequence };
      const { appliedSequence: sequence, slotEpoch } = this.#replica;
      const k = Math.min(limits.shardResults, request.k + scope.exclude.size);
      notes?.enter(scorer === undefined ? "sparse" : "scores");
      const span = startSpan(each.trace, "index.search");
      let rows: FoundRows | undefined;
      try {
        if (scorer === undefined) {
          const found = await searchSparse(serving, request.vector, k, within(scope), each);
          notes?.postings(request.field, k, found);
          span.set("plan", "postings");
          span.set("computed", found.scoredRows);
          rows = found;
        } else rows = await this.#scoredSparse(serving, scorer, k, request.exact === true, scope, slotEpoch, each);
      } catch (error) {
        span.end(error);
        // As with vectors.
        if (sparseGenerationOf(this.#hydrator, request.field) !== serving) return undefined;
        throw error;
      }
      span.end();
      if (rows === undefined) return undefined;
      notes?.enter("collect");
      return this.#best(rows, request, scope, each, notes, { sequence, slotEpoch, isChosen: isChosen(scope) });
    });
    return explained(answer, notes, scorer === undefined ? "search" : "scores");
  }

  /** Undefined where rows were removed meanwhile, which then were compared without their vectors. */
  async #scoredSparse(
    { postings }: SparseGeneration,
    scorer: SparseScorer,
    k: number,
    exact: boolean,
    scope: Scope,
    slotEpoch: number,
    call: CallContext,
  ): Promise<FoundRows | undefined> {
    const where = within(scope);
    const near = Math.min(limits.shardResults, overfetch * k);
    const { compared, ...rows } = await scoreRows(scorer, this.#scopes.scoredScope(scope, k, exact, call), {
      near: async (example) => (await searchPostings(postings, example, near, where, call)).slots,
      compare: (examples, candidates) => sparseSimilarities(postings, examples, candidates, call),
    });
    const { slots: table } = this.#replica;
    if (slotEpoch !== this.#replica.slotEpoch || compared.some((slot) => !table.isAlive(slot))) return undefined;
    return rows;
  }

  /** The best of rows by postings, of which there are more than are wanted: those of the same score are told apart by their ids. */
  async #best(
    rows: FoundRows,
    { k, select }: Pick<ShardText, "k" | "select">,
    { exclude }: Scope,
    call: CallContext,
    notes: ReadNotes | undefined,
    asOf: { sequence: number; slotEpoch: number; isChosen: boolean },
  ): Promise<ShardHits | undefined> {
    const isStored = select.payload || select.vectors.length > 0;
    const { sequence, slotEpoch } = asOf;
    const collected = this.#hydrator.collect("dot", rows, sequence, slotEpoch, isStored, asOf.isChosen);
    if (collected === undefined) return undefined;
    const kept = collected.hits
      .map((hit, i) => ({ hit, slot: collected.slots[i] as number }))
      .filter(({ hit }) => !exclude.has(idMapKey(hit.id)))
      .slice(0, k);
    const best = { hits: kept.map(({ hit }) => hit), slots: kept.map(({ slot: at }) => at) };
    if (isStored && best.hits.length > 0) {
      notes?.enter("read");
      if (!(await this.#hydrator.hydrate(best, select, call, notes))) return undefined;
      notes?.enter("collect");
    }
    return { hits: best.hits, sequence: this.#replica.appliedSequence };
  }
}

/** Points that pass the filter and have a vector of the field. */
function havingVector(filter: Filter | undefined, name: string): Filter {
  const own = filter === undefined ? [] : [{ kind: "filter", filter } as const];
  return filterOf({ must: [{ kind: "hasVector", name }, ...own] });
}
