import type { IsEmptyCondition, IsNullCondition, Path, ValuesCountCondition } from "../../model/index.js";
import type { ValueCondition } from "../matches.js";
import type { PayloadField } from "./payload-field.js";
import type { Lookup, PayloadIndexSpec } from "./types.js";

/** What the indexes of several fields over the same slots know together. */
export class PayloadIndexes {
  readonly #fields: readonly PayloadField[];

  constructor(fields: readonly PayloadField[]) {
    this.#fields = fields;
  }

  get specs(): PayloadIndexSpec[] {
    return this.#fields.map((field) => field.spec);
  }

  /** The indexes of a field. */
  of(path: Path): PayloadField[] {
    return this.#fields.filter(({ spec }) => spec.path.text === path.text);
  }

  /** How to find the slots that meet a condition on a field, and the index that tells; undefined where none does. */
  lookup(condition: ValueCondition): { lookup: Lookup; spec: PayloadIndexSpec } | undefined {
    for (const { spec, index } of this.of(condition.path)) {
      const lookup = index.lookup(condition);
      if (lookup !== undefined) return { lookup, spec };
    }
    return undefined;
  }

  /**
   * How to find the slots whose field is not empty, is null, or has a number of values, for any kind of index on the field. Not
   * being empty is found, not being so.
   */
  presence(
    condition: IsEmptyCondition | IsNullCondition | ValuesCountCondition,
  ): { lookup: Lookup; spec: PayloadIndexSpec } | undefined {
    const [field] = this.of(condition.path);
    const lookup = field?.presence(condition);
    return field === undefined || lookup === undefined ? undefined : { lookup, spec: field.spec };
  }
}
