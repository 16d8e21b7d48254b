import type { Datatype } from "./types.js";

type Numbers<Name extends string> = Readonly<Record<Name, number>>;

/** The numbers by which both sides speak; they are written down in native/layout.h alone. */
export interface Layout {
  sizes: Numbers<"tickets" | "headers" | "results">;
  /** Words of the header of a completion. */
  header: Numbers<
    | "ticket"
    | "failure"
    | "count"
    | "computed"
    | "plan"
    | "queueUs"
    | "searchUs"
    | "from"
    | "visited"
    | "walked"
    | "allowed"
    | "walkEstimateUs"
    | "scanEstimateUs"
    | "twoHopsEstimateUs"
    | "twoHops"
    | "words"
  >;
  /** Words of a search on its way in. */
  request: Numbers<"ticket" | "index" | "k" | "ef" | "flags" | "queryAt" | "scored" | "words">;
  flag: Numbers<"exact" | "filter" | "slots" | "codesOnly">;
  option: Numbers<"dimension" | "metric" | "datatype" | "m" | "efConstruction" | "graphThreshold" | "words">;
  stats: Numbers<
    | "rowCount"
    | "aliveCount"
    | "graphRowCount"
    | "arenaBytes"
    | "graphBytes"
    | "otherBytes"
    | "hugePages"
    | "givenBytes"
    | "numbers"
  >;
  metric: Numbers<"cosine" | "dot" | "l2">;
  datatype: Numbers<Datatype>;
  plan: Numbers<"graph" | "scan" | "graph+scan">;
  failure: Numbers<
    | "none"
    | "notFinite"
    | "zeroVector"
    | "duplicateSlot"
    | "resources"
    | "corrupt"
    | "io"
    | "cancelled"
    | "closed"
    | "invalid"
    | "internal"
    | "outOfRange"
  >;
  /** How rows are written; an i8 index chooses among i8, i16 and f32. */
  code: Numbers<"f32" | "f16" | "bf16" | "i8" | "i16" | "binary">;
}
