import type { OrderCursor, OrderedPage, PageOptions, PayloadIndexes, Steps, Words } from "../../filter/index.js";
import { compareIds, type IdKey, idMapKey, type OrderBy, type Path } from "../../model/index.js";
import type { OrderPlace } from "../../shard-api/index.js";
import type { SlotTable } from "../index/slots.js";

/** Entries of an index that are looked at in one step: a part of a millisecond. */
const visitsPerStep = 4_000;

/** An index that knows the order of all values of a field. */
export type OrderIndex = (options: PageOptions<number>) => OrderedPage<number>;

/** A point where one of its values stands. */
export interface PlacedSlot extends OrderPlace {
  slot: number;
}

/** The index of a field that has its order; undefined where there is none, or where it lacks values that stand in the order too. */
export function orderIndexOf(indexes: PayloadIndexes, path: Path): OrderIndex | undefined {
  for (const { index } of indexes.of(path)) {
    const page = index.page?.bind(index);
    if (page !== undefined && index.holdsAll) return page;
  }
  return undefined;
}

export interface OrderedRequest {
  readonly orderBy: OrderBy;
  readonly after: OrderPlace | undefined;
  readonly limit: number;
  /** Only these slots; missing: all. */
  readonly mask: Words | undefined;
  /** Keys of ids that are left out. */
  readonly exclude: ReadonlySet<string>;
}

/**
 * The next places of an order by an index, which must not change between the steps. Points with equal values come in order of id, which
 * the index does not know: all those of the last value are looked at, however many there are.
 */
export function* orderedSlots(
  page: OrderIndex,
  slots: SlotTable,
  { orderBy, after, limit, mask, exclude }: OrderedRequest,
): Steps<PlacedSlot[]> {
  const descending = orderBy.direction === "descending";
  const places = new Places(limit);
  let start = startOf(orderBy, after, descending);
  for (;;) {
    const { items, next } = page({
      descending,
      ...(start && { start }),
      ...(mask && { mask }),
      limit: Math.min(visitsPerStep, limit + 2),
      visits: visitsPerStep,
    });
    for (const { slot, key } of items) {
      if (!places.reach(key)) return places.taken;
      const id = slots.idOf(slot);
      if (after !== undefined && key === after.value && compareIds(id, after.id) <= 0) continue;
      if (exclude.size > 0 && exclude.has(idMapKey(id))) continue;
      places.add({ slot, id, value: key });
    }
    if (next === undefined) return places.end();
    start = next;
    yield;
  }
}

/** Before the first entry that may be wanted; undefined for the beginning of the order. */
function startOf(
  { startFrom }: OrderBy,
  after: OrderPlace | undefined,
  descending: boolean,
): OrderCursor<number> | undefined {
  if (startFrom === undefined) return after && { key: after.value };
  if (after === undefined) return { key: startFrom };
  return { key: descending ? Math.min(startFrom, after.value) : Math.max(startFrom, after.value) };
}

/** The first places of an order whose entries come by value, those of one value in any order. */
class Places {
  readonly taken: PlacedSlot[] = [];
  readonly #limit: number;
  /** Of the value that is being read: the first by id, and some more. */
  #same: PlacedSlot[] = [];
  #value: number | undefined;
  /** What has an id behind this one is not among them. */
  #last: IdKey | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Entries of this value come now; false where there are enough without them. */
  reach(value: number): boolean {
    if (this.#value === value) return true;
    this.#settle();
    this.#value = value;
    return this.taken.length < this.#limit;
  }

  add(place: PlacedSlot): void {
    if (this.#last !== undefined && compareIds(place.id, this.#last) > 0) return;
    this.#same.push(place);
    const room = this.#limit - this.taken.length;
    if (this.#same.length < 2 * room + 16) return;
    this.#cut(room);
    this.#last = this.#same.at(-1)?.id;
  }

  end(): PlacedSlot[] {
    this.#settle();
    return this.taken;
  }

  #settle(): void {
    this.#cut(this.#limit - this.taken.length);
    this.taken.push(...this.#same);
    this.#same = [];
    this.#last = undefined;
  }

  #cut(room: number): void {
    this.#same.sort((a, b) => compareIds(a.id, b.id));
    this.#same.length = Math.min(this.#same.length, room);
  }
}
