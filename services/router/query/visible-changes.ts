import { KithError } from "../../../libs/base/index.js";
import type { RowRule } from "../../../libs/call/index.js";
import type { Select, StoredPoint } from "../../../libs/model/index.js";
import type { ShardChange } from "../../../libs/shard-api/index.js";

const noPayload = new Uint8Array(0);

/** Changes as somebody sees them for whom only some points are there: one that leaves them is deleted, and one that joins them inserted. */
export class VisibleChanges {
  readonly #rule: RowRule | undefined;
  readonly #isBeforeWanted: boolean;
  readonly #select: Select;

  /** The changes have been read with payloads, and with what was before. */
  constructor(rule: RowRule | undefined, isBeforeWanted: boolean, select: Select) {
    this.#rule = rule;
    this.#isBeforeWanted = isBeforeWanted;
    this.#select = select;
  }

  /** TOKEN_EXPIRED where it is not known any more whether the caller could see what a point was before. */
  of(changes: readonly ShardChange[]): readonly ShardChange[] {
    const rule = this.#rule;
    return rule === undefined ? changes : changes.flatMap((change) => this.#seen(change, rule) ?? []);
  }

  #seen(change: ShardChange, rule: RowRule): ShardChange | undefined {
    const { kind, id, sequence, before, after, score } = change;
    if (kind === "truncate") return change;
    const passes = (point: StoredPoint | undefined): boolean => point !== undefined && rule.passes(id, point.payload);
    const [isBefore, isAfter] = [passes(before), passes(after)];
    const scored = score === undefined ? {} : { score };
    const was = before === undefined ? {} : { before: this.#shown(before) };
    const told = { id, sequence, ...(this.#isBeforeWanted && isBefore && was) };
    if (kind === "insert")
      return isAfter && after ? { kind, ...told, after: this.#shown(after), ...scored } : undefined;
    if (isAfter && after !== undefined) {
      // Where it is not known what it was, this is no news of another point.
      const isNew = before !== undefined && !isBefore;
      return { kind: isNew ? "insert" : "update", ...told, after: this.#shown(after), ...scored };
    }
    if (isBefore) {
      // Changed again already: what it became is told by the change that follows.
      if (kind === "update" && after === undefined) return { kind, ...told };
      return { kind: "delete", ...told };
    }
    if (before !== undefined || (kind === "update" && after === undefined)) return undefined;
    throw new KithError(
      "TOKEN_EXPIRED",
      `what a point was before sequence ${sequence} is not known any more, and so not whether the caller may hear of it; read the points anew, and watch from then on`,
      { details: { sequence } },
    );
  }

  #shown(point: StoredPoint): StoredPoint {
    return this.#select.payload ? point : { ...point, payload: noPayload };
  }
}
