import type { Clock } from "../../base/index.js";
import { indexSpecOf, type PayloadIndexSpec } from "../../filter/index.js";
import type { KeyRing } from "../../encryption/index.js";
import type { SchemaPayloadIndex } from "../recover/schema.js";
import type { Checkpoint } from "./derived-index.js";
import type { IndexLife } from "./index-life.js";
import { PayloadGeneration, type PayloadRows } from "./payload-generation.js";
import { PayloadRowsKind } from "./payload-rows-kind.js";

/** The index of one field of the payload of an open replica. */
export type PayloadLife = IndexLife<PayloadRows, PayloadGeneration> & { readonly kind: PayloadKind };

export function isPayload(index: IndexLife): index is PayloadLife {
  return index.kind instanceof PayloadKind;
}

/** The index of the values of one field of the payload. */
export class PayloadKind extends PayloadRowsKind<PayloadGeneration> {
  readonly name = "payload";
  readonly label: string;
  readonly spec: PayloadIndexSpec;

  readonly #keys: KeyRing | undefined;

  constructor(definition: SchemaPayloadIndex, clock: Clock, keys?: KeyRing) {
    super(definition, clock);
    this.#keys = keys;
    this.label = `payload field "${definition.path}"`;
    this.spec = indexSpecOf(definition);
  }

  create(): PayloadGeneration {
    return new PayloadGeneration(this.definition, this.spec, this.clock, this.#keys);
  }

  load(directory: string): Promise<Checkpoint<PayloadGeneration> | undefined> {
    return PayloadGeneration.load(directory, this.definition, this.spec, this.clock, this.#keys);
  }
}
