import type { Condition, Filter, PayloadIndex } from "../../model/index.js";
import { type Found, lookupOf, type SlotSource } from "./evaluate.js";

/** Rows of a tenant, times the conditions on them, that are looked at in one go: some tenths of a millisecond. */
const listedMax = 10_000;

/**
 * The slots that pass a filter, in ascending order, where it asks for one value of a field of tenants and where indexes surely answer all else
 * that it asks: the rows of the value are listed, and no set over all slots is made. Undefined where the filter is another one, or the tenant
 * a large one, of which a set is cheaper.
 */
export function listTenant(
  { must, mustNot, should, minShould }: Filter,
  source: SlotSource,
  indexes: readonly Pick<PayloadIndex, "path" | "isTenant">[],
): Uint32Array | undefined {
  if (should.length > 0 || minShould !== undefined) return undefined;
  const isOfTenants = (condition: Condition): boolean =>
    condition.kind === "match" &&
    condition.match.kind === "value" &&
    indexes.some(({ path, isTenant }) => isTenant && path === condition.path.text);
  const tenant = must.find(isOfTenants);
  if (tenant === undefined) return undefined;
  const list = sureOf(tenant, source);
  if (list?.lookup.list === undefined) return undefined;
  const count = must.length + mustNot.length;
  if (list.lookup.estimate * count > listedMax) return undefined;
  const tests: ((slot: number) => boolean)[] = [];
  for (const [conditions, wanted] of [
    [must, true],
    [mustNot, false],
  ] as const) {
    for (const condition of conditions) {
      if (condition === tenant) continue;
      const found = sureOf(condition, source);
      if (found === undefined) return undefined;
      tests.push((slot) => (found.lookup.has(slot) !== found.negated) === wanted);
    }
  }
  const rows = list.lookup.list();
  return tests.length === 0 ? rows : rows.filter((slot) => tests.every((test) => test(slot)));
}

/** What an index knows of a condition, where it leaves no slot open. */
function sureOf(condition: Condition, source: SlotSource): Found | undefined {
  const found = lookupOf(condition, source);
  if (found === undefined || !found.lookup.sure) return undefined;
  return found.lookup.maybe === undefined || found.lookup.maybe.count === 0 ? found : undefined;
}
