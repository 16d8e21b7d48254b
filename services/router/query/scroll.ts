import { KithError, limits } from "../../../libs/base/index.js";
import type { CallContext, RowRule } from "../../../libs/call/index.js";
import {
  type Filter,
  type IdKey,
  idMapKey,
  type OrderBy,
  type Select,
  type ShardPage,
  type StoredPoint,
} from "../../../libs/model/index.js";
import { contentBytes, mergeOrdered } from "../../../libs/query/index.js";
import type { OrderPlace } from "../../../libs/shard-api/index.js";
import type { ShardSequence } from "../../../libs/wire/index.js";
import { seeing, seen } from "../access.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import { skipped } from "../partitions.js";
import { sizeOf } from "./answer-budget.js";
import { askShard } from "./ask-shard.js";
import type { ExplainStep } from "./explain.js";
import type { MinSequences } from "./read-options.js";

/** What the pages of one scroll have in common. */
export interface Scrolling {
  collection: RoutedCollection;
  /** Those that can have such points. */
  shards: readonly RoutedShard[];
  limit: number;
  select: Select;
  filter: Filter | undefined;
  /** What the caller may see: the filter has it, too. */
  rule: RowRule | undefined;
  minSequences: MinSequences;
  call: CallContext;
  /** What tells how the answer came about, where that is asked for. */
  step: ExplainStep | undefined;
}

/** The pages of all shards in order of id, after one. */
export async function pagesOf(
  { collection, shards, limit, select, filter, minSequences, call, step: answer }: Scrolling,
  after: IdKey | undefined,
): Promise<(ShardPage & { shard: number })[]> {
  const step = answer?.begin("scroll").fact("shards_skipped", skipped(collection, shards));
  const explain = step !== undefined;
  const pages = await Promise.all(
    shards.map(async (shard) => {
      const minSequence = minSequences(shard.id.shard);
      const request = { after, limit, select, filter, minSequence, explain };
      return { ...(await askShard(shard, "scroll", request, { call, step })), shard: shard.id.shard };
    }),
  );
  step?.end();
  return pages;
}

export interface OrderedPage {
  points: StoredPoint[];
  /** Where each stands. */
  orders: number[];
  /** Where the next page begins; undefined at the end. */
  next: OrderPlace | undefined;
  sequences: ShardSequence[];
}

interface Placed extends OrderPlace {
  shard: RoutedShard;
  version: number;
}

/**
 * A page in an order by payload: at most `limit` points and limits.scrollBytes of content, but at least one point where there is one.
 * Shards say which points come next; what these hold is read then, of no more of them than the page takes. A point that was deleted
 * in between is left out.
 */
export async function orderedPage(
  scrolling: Scrolling,
  orderBy: OrderBy,
  after: OrderPlace | undefined,
): Promise<OrderedPage> {
  const { collection, shards, limit, filter, minSequences, call, step: answer } = scrolling;
  const sequences = new Map<number, number>();
  const note = (shard: RoutedShard, sequence: number): void => {
    sequences.set(shard.id.shard, Math.max(sequence, sequences.get(shard.id.shard) ?? 0));
  };
  const step = answer?.begin("order").fact("shards_skipped", skipped(collection, shards));
  const explain = step !== undefined;
  const lists = await Promise.all(
    shards.map(async (shard): Promise<Placed[]> => {
      const scope = { filter, ids: undefined, exclude: [], minSequence: minSequences(shard.id.shard), explain };
      const request = { ...scope, orderBy, after, limit, select: nothing };
      const { hits, sequence } = await askShard(shard, "order", request, { call, step });
      note(shard, sequence);
      return hits.map(({ id, order, version }) => ({ id, value: order ?? 0, shard, version }));
    }),
  );
  step?.end();
  const merging = answer?.begin("merge");
  const merged = mergeOrdered(lists, orderBy.direction, limit);
  merging?.end();
  const page: OrderedPage = { points: [], orders: [], next: undefined, sequences: [] };
  let sizeBytes = 0;
  let taken = 0;
  for (let count = merged.length; taken < merged.length; ) {
    const part = merged.slice(taken, taken + count);
    const fetching = answer?.begin("fetch").fact("points", part.length);
    const contents = await contentsOf(part, scrolling, note);
    fetching?.fact("bytes", contents && sizeOf([...contents.values()])).end();
    if (contents === undefined) {
      // They do not fit into one message: fewer of them.
      count = Math.max(1, count >> 1);
      continue;
    }
    const fitting = part.findIndex(({ id }, i) => {
      const point = contents.get(idMapKey(id));
      if (point === undefined) return false;
      sizeBytes += contentBytes(point);
      if (sizeBytes > limits.scrollBytes && taken + i > 0) return true;
      page.points.push(point);
      page.orders.push((part[i] as Placed).value);
      return false;
    });
    taken += fitting === -1 ? part.length : fitting;
    if (fitting !== -1) break;
  }
  const last = merged[taken - 1];
  const known = lists.reduce((sum, list) => sum + list.length, 0);
  const isEnd = taken === known && lists.every((list) => list.length < limit);
  if (!isEnd && last !== undefined) page.next = { value: last.value, id: last.id };
  page.sequences = Array.from(sequences, ([shard, sequence]) => ({ shard, sequence }));
  return page;
}

const nothing: Select = { payload: false, vectors: [] };
const noBytes = new Uint8Array(0);

/** What was asked of points, by map key of the id; undefined where the answer of a shard would be too large. */
async function contentsOf(
  placed: readonly Placed[],
  { select, rule, minSequences, call }: Scrolling,
  note: (shard: RoutedShard, sequence: number) => void,
): Promise<Map<string, StoredPoint> | undefined> {
  if (rule === undefined && !select.payload && select.vectors.length === 0) {
    return new Map(placed.map(({ id, version }) => [idMapKey(id), { id, version, payload: noBytes }]));
  }
  const byShard = new Map<RoutedShard, Map<string, IdKey>>();
  for (const { id, shard } of placed) {
    const ids = byShard.get(shard) ?? new Map<string, IdKey>();
    byShard.set(shard, ids.set(idMapKey(id), id));
  }
  try {
    const answers = await Promise.all(
      Array.from(byShard, async ([shard, ids]) => {
        const request = {
          ids: [...ids.values()],
          select: seeing(select, rule),
          minSequence: minSequences(shard.id.shard),
        };
        const answer = await shard.ask(call, (api, context) => api.read("get", shard.id, request, context));
        note(shard, answer.sequence);
        return seen(answer.points, select, rule);
      }),
    );
    return new Map(answers.flat().map((point) => [idMapKey(point.id), point]));
  } catch (error) {
    if (placed.length > 1 && error instanceof KithError && error.code === "BATCH_TOO_LARGE") return undefined;
    throw error;
  }
}
