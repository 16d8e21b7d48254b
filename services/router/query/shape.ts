import { readPath } from "../../../libs/model/index.js";
import type { pb } from "../../../libs/wire/index.js";

/*
 * What a request asks for, as text for logs: which kinds of queries, fields and conditions with which limits, and never what is compared
 * with: no vectors, ids or values.
 */

/** Such as `fusion of [nearest "" limit 20, recommend "image" limit 20 where year range] limit 10`. */
export function shapeOfQuery(request: pb.QueryRequest): string {
  const { offset, vector, point } = request;
  const kind = request.query === undefined && (vector.length > 0 || point !== undefined) ? "nearest" : undefined;
  return [shapeOfStage(request, kind, 1), ...(offset > 0 ? [`offset ${offset}`] : [])].join(" ");
}

export function shapeOfGroups({ query, groupBy, limit, groupSize }: pb.QueryGroupsRequest): string {
  const inner = query === undefined ? "nothing" : shapeOfQuery(query);
  return `${inner} grouped by ${shapeOfPath(groupBy)} limit ${limit} x ${groupSize}`;
}

/** With `lead`, what stands before: "scroll limit 10 where year range". */
export function shapeOfRead(lead: string, filter: pb.Filter | undefined): string {
  return filter === undefined ? lead : `${lead} where ${shapeOfFilter(filter, 1)}`;
}

/** Prefetches and filters that are described; what lies deeper is "...". */
const depthMax = 6;

type Stage = Pick<pb.Prefetch, "prefetch" | "query" | "using" | "filter" | "limit" | "ef" | "exact">;

/** A path as it was given, where it is one: what is not could be anything. */
export function shapeOfPath(text: string): string {
  return "steps" in readPath(text) ? text : "a path that is not valid";
}

function shapeOfStage(stage: Stage, kind: string | undefined, depth: number): string {
  const parts = [kind ?? stage.query?.query?.$case ?? "in order of id"];
  if (stage.prefetch.length > 0) {
    const inner = depth >= depthMax ? ["..."] : stage.prefetch.map((each) => shapeOfStage(each, undefined, depth + 1));
    parts.push(`of [${inner.join(", ")}]`);
  } else if (["nearest", "recommend", "discover", "context", "feedback", "text"].includes(parts[0] ?? ""))
    parts.push(JSON.stringify(stage.using));
  if (stage.query?.query?.$case === "orderBy") parts.push(`by ${shapeOfPath(stage.query.query.value.key)}`);
  if (stage.limit > 0) parts.push(`limit ${stage.limit}`);
  if (stage.ef > 0) parts.push(`ef ${stage.ef}`);
  if (stage.exact) parts.push("exact");
  return shapeOfRead(parts.join(" "), stage.filter);
}

function shapeOfFilter(filter: pb.Filter, depth: number): string {
  if (depth > depthMax) return "...";
  const of = (conditions: readonly pb.Condition[]): string =>
    conditions.map((condition) => shapeOfCondition(condition, depth)).join(", ");
  const { must, should, mustNot, minShould } = filter;
  const parts: string[] = [];
  if (must.length > 0) parts.push(`all of (${of(must)})`);
  if (should.length > 0) parts.push(`one of (${of(should)})`);
  if (mustNot.length > 0) parts.push(`none of (${of(mustNot)})`);
  if (minShould !== undefined) parts.push(`${minShould.minCount} of (${of(minShould.conditions)})`);
  return parts.join(" and ");
}

function shapeOfCondition({ condition }: pb.Condition, depth: number): string {
  if (condition === undefined) return "nothing";
  switch (condition.$case) {
    case "filter":
      return shapeOfFilter(condition.value, depth + 1);
    case "nested": {
      const { key, filter } = condition.value;
      return `${shapeOfPath(key)} nested ${filter === undefined ? "" : shapeOfFilter(filter, depth + 1)}`;
    }
    case "hasId":
      return `id of ${condition.value.ids.length}`;
    case "hasVector":
      return `vector ${JSON.stringify(condition.value.name)}`;
    case "slice":
    case "partition":
      return condition.$case;
    case "match": {
      const { key, match } = condition.value;
      const count = match !== undefined && typeof match.value === "object" ? ` of ${match.value.values.length}` : "";
      return `${shapeOfPath(key)} match ${match?.$case ?? "nothing"}${count}`;
    }
    default:
      return `${shapeOfPath(condition.value.key)} ${condition.$case}`;
  }
}
