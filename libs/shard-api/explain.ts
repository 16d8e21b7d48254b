import type { Datatype } from "../model/index.js";

/** How one condition of a filter was answered. */
export interface ConditionExplain {
  /** Its place in the filter, with the names of the JSON form: `filter.must[1]`. */
  readonly at: string;
  /**
   * The kind of payload index that answered (keyword, integer, ...); "ids" or "vectors"; "payload" where points were read and tested.
   */
  readonly by: string;
  /** The field of the condition. */
  readonly path?: string;
  /** Points expected to pass it; missing where nothing was known. */
  readonly estimate?: number;
}

/** A field that conditions ask for and that has no index which could answer them. */
export interface UnindexedExplain {
  readonly at: string;
  readonly path: string;
  /** Kinds of index that would answer, the best first. */
  readonly kinds: readonly string[];
}

/** How the filter of a read became a set of points. */
export interface MaskExplain {
  /** "cached": it was there; "built": made for this read; "awaited": made meanwhile for another one. */
  readonly state: "cached" | "built" | "awaited";
  /** Points expected to pass before any work was done. */
  readonly estimated: number;
  /** Points that pass. */
  readonly count: number;
  /** Payloads that were read and tested, when the mask was made. */
  readonly testedPoints: number;
  readonly testedBytes: number;
  readonly conditions: readonly ConditionExplain[];
  readonly unindexed: readonly UnindexedExplain[];
  /** Microseconds that this read waited for the mask. */
  readonly waitedUs: number;
  /** Microseconds of making it, from indexes and by tests, whoever it was made for. */
  readonly indexUs: number;
  readonly testUs: number;
}

/** What a search by vectors has compared. */
export interface CodesExplain {
  readonly datatype: Datatype;
  /** Number of the generation that answered. */
  readonly generation: number;
  /** Whether what looked best by codes was scored and ordered by the vectors as they were written; false where the codes are these (f32), too. */
  readonly rescored: boolean;
  /** Where a shard has the vectors as they were written, the nearest place first. */
  readonly originals: "memory" | "mapped file" | "LevelDB";
}

/** A search of the index of a vector field. */
export interface SearchExplain {
  readonly field: string;
  /** Of a search by vectors: what the index keeps of them. Missing from nodes of before, and of postings. */
  readonly codes?: CodesExplain;
  /** What the index did: "graph", "scan" (exact), "graph+scan". */
  readonly plan: string;
  /** Why, in words. */
  readonly reason: string;
  readonly k: number;
  readonly ef: number;
  /** Microseconds that the plans were expected to take. */
  readonly graphEstimateUs: number;
  readonly scanEstimateUs: number;
  /** Rows whose distance was computed. */
  readonly computed: number;
  readonly queueUs: number;
  readonly searchUs: number;
  /** From the end of the search until the event loop took its result. */
  readonly waitUs: number;
}

/** What a replica did from one moment to another, for one read. */
export interface ReadStage {
  /**
   * "wait": until it had applied what was asked for; "prepare"; "ids": ids became slots; "mask"; "tenant": the index of a field of tenants listed the rows of one; "search"; "scores": candidates were
   * compared with several examples; "order index", "facet index": an index of payloads was read; "read": points were read from the store;
   * "collect": rows became hits; "writes": points were overwritten under the read, and it waited for the batch to be written.
   */
  readonly name: string;
  /** Microseconds after the replica got the read. */
  readonly startUs: number;
  readonly durationUs: number;
  /**
   * Points that were read from the store (of the stage "tenant": rows that were listed), and their payloads and vectors in bytes. Of a
   * search: bytes of the rows that it measured.
   */
  readonly points?: number;
  readonly bytes?: number;
  /** Of the stage "mask". */
  readonly mask?: MaskExplain;
  /** Of the stage "search". */
  readonly search?: SearchExplain;
}

/** What a replica did for one read, and what it took. */
export interface ReadExplain {
  /**
   * "search": by the index of vectors; "order index" and "facet index": by a payload index; "scores": candidates were compared with
   * several examples; "points": points were read; "sampled points": some of
   * them, by chance, for an estimate; "mask": the set of points alone was the answer; "count": the number of points was known; "tenant": that of the rows
   * of a tenant.
   */
  readonly plan:
    | "search"
    | "scores"
    | "order index"
    | "facet index"
    | "points"
    | "sampled points"
    | "mask"
    | "count"
    | "tenant";
  /** Points of the replica. */
  readonly pointCount: number;
  /** One behind the other, without gaps between them. */
  readonly stages: readonly ReadStage[];
  /** Points and bytes that were read from the store for the answer, beside those that a mask was made from. */
  readonly readPoints: number;
  readonly readBytes: number;
  /** How often the read was begun again, because points were overwritten under it. */
  readonly retries: number;
  /** Microseconds. */
  readonly totalUs: number;
}
