import { AssertionError, KithError } from "../../../libs/base/index.js";
import type { RowRule } from "../../../libs/call/index.js";
import type { IdKey } from "../../../libs/model/index.js";
import { filterFromWire, filterToWire, type ipb, pb } from "../../../libs/wire/index.js";
import { narrowed } from "../access.js";
import type { PlannedPart } from "./planned-write.js";

type Mutation = NonNullable<ipb.Operation["mutation"]>;
type Inner = NonNullable<ipb.RestrictedWrite["mutation"]>;

const noBytes = new Uint8Array(0);
/** Of each item, for what a target says of it beside its id. */
const itemBytes = 16;

const encoded = new WeakMap<RowRule, Uint8Array>();

/** The rule as it goes into the log. */
export function ruleBytes(rule: RowRule): Uint8Array {
  let bytes = encoded.get(rule);
  if (bytes === undefined) {
    bytes = pb.Filter.encode(filterToWire(rule.filter)).finish();
    encoded.set(rule, bytes);
  }
  return bytes;
}

/**
 * The part as somebody writes whom only some points concern. What holds of points that are stored is decided where the write stands in the log,
 * so that no other write comes between; what the write itself says is refused here: PERMISSION_DENIED for a point that would be outside.
 */
export function restricted(part: PlannedPart, rule: RowRule): PlannedPart {
  const mutation = targeted(part.mutation);
  if (mutation.$case === "put") checkNew(mutation.value, part.positions, rule);
  const { target } = mutation.value;
  if (target !== undefined && target.filter.length > 0) {
    // The rule would do; this way neither counts nor limits tell of points beyond it.
    const both = narrowed(filterFromWire(pb.Filter.decode(target.filter)), rule);
    if (both !== undefined) target.filter = pb.Filter.encode(filterToWire(both)).finish();
  }
  const bytes = ruleBytes(rule);
  const sizeBytes = part.sizeBytes + 2 * bytes.length + itemBytes * part.positions.length;
  return { ...part, sizeBytes, mutation: { $case: "restricted", value: { rule: bytes, mutation } } };
}

/** As a mutation of a target, with which conditions can stand. Its target is a copy. */
function targeted(mutation: Mutation): Inner {
  const byIds = (ids: readonly IdKey[]): ipb.Target => {
    return { ids: [...ids], filter: noBytes, expectedVersions: [], onlyIf: noBytes };
  };
  switch (mutation.$case) {
    case "upsert": {
      const { mode, ids, vectors, payloads } = mutation.value;
      return { $case: "put", value: { mode, target: byIds(ids), vectors, sparse: [], payloads, expiresAtMs: [] } };
    }
    case "delete":
      return { $case: "remove", value: { target: byIds(mutation.value.ids) } };
    case "truncate":
    case "changeSchema":
    case "seal":
    case "adopt":
    case "restricted":
      throw new AssertionError(
        `a write of the kind ${mutation.$case} is about all points, and its caller is restricted`,
      );
    default: {
      const { target } = mutation.value;
      return { $case: mutation.$case, value: { ...mutation.value, target: target && { ...target } } } as Inner;
    }
  }
}

function checkNew({ target, payloads }: ipb.PutPoints, positions: readonly number[], rule: RowRule): void {
  for (const [row, id] of (target?.ids ?? []).entries()) {
    if (rule.passes(id, payloads[row] ?? noBytes)) continue;
    throw new KithError(
      "PERMISSION_DENIED",
      `points[${positions[row]}] would not be among those that the caller may write; nothing was written`,
      { details: { index: positions[row] ?? row } },
    );
  }
}
