import { assert, type Clock } from "../../base/index.js";
import type { Bm25Options } from "../../model/index.js";
import type { KeyRing } from "../../encryption/index.js";
import type { SchemaPayloadIndex } from "../recover/schema.js";
import type { Checkpoint } from "./derived-index.js";
import type { IndexLife } from "./index-life.js";
import type { PayloadRows } from "./payload-generation.js";
import { PayloadRowsKind } from "./payload-rows-kind.js";
import { TextGeneration } from "./text-generation.js";

/** An index by BM25 of an open replica. */
export type TextLife = IndexLife<PayloadRows, TextGeneration> & { readonly kind: TextKind };

export function isText(index: IndexLife): index is TextLife {
  return index.kind instanceof TextKind;
}

/** The key of one build of the index with this number. */
export function textKey(number: number, generation: number): string {
  return generation === 0 ? String(number) : `${number}g${generation}`;
}

/** An index by BM25 of texts in the payload: one build of it. `definition` has the options that are meant. */
export class TextKind extends PayloadRowsKind<TextGeneration> {
  readonly name = "text";
  readonly label: string;
  readonly options: Bm25Options;
  readonly generation: number;
  readonly canWait: boolean;
  readonly #keys: KeyRing | undefined;

  /** @param canWait whether another generation answers while this one is filled */
  constructor(
    definition: SchemaPayloadIndex,
    generation: number,
    clock: Clock,
    { keys, canWait }: { keys?: KeyRing; canWait: boolean },
  ) {
    super(definition, clock, textKey(definition.number, generation));
    this.generation = generation;
    this.canWait = canWait;
    this.#keys = keys;
    this.label = `BM25 index "${definition.path}"${generation === 0 ? "" : ` (generation ${generation})`}`;
    assert(definition.bm25 !== undefined, `the ${this.label} has no options`);
    this.options = definition.bm25;
  }

  create(): TextGeneration {
    return new TextGeneration(this.options, this.#keys);
  }

  load(directory: string): Promise<Checkpoint<TextGeneration> | undefined> {
    return TextGeneration.load(directory, this.options, this.#keys);
  }
}
