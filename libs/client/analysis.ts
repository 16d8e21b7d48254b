import { KithError } from "../base/index.js";
import type { pb } from "../wire/index.js";
import { explainFromWire, type ParsePayload, pointFromWire, scoredPointFromWire } from "./decode.js";
import { givenBoolean, givenObject } from "./given.js";
import { atLeastOne } from "./numbers.js";
import { filterOf } from "./filter.js";
import { idFromWire } from "./ids.js";
import { queryToWire, selectToWire } from "./query.js";
import { onlyKeys } from "./only-keys.js";
import { partitionOf } from "./partition.js";
import type { Session } from "./token.js";
import { wellFormed } from "./well-formed.js";
import type {
  DistanceMatrix,
  FacetOptions,
  FacetResult,
  GroupsResult,
  MatrixOptions,
  PointGroup,
  QueryGroupsOptions,
} from "./types/queries.js";

/*
 * Groups, facets and matrices between the SDK's types and the wire.
 */

/** What a query by groups has beside the query itself. */
const groupKeys = ["groupBy", "limit", "groupSize", "withLookup"];

export function groupsToWire(name: string, options: QueryGroupsOptions, session: Session): pb.QueryGroupsRequest {
  const { groupBy, limit = 10, groupSize = 3, withLookup, ...query } = options;
  if (withLookup !== undefined) onlyKeys(withLookup, ["collection", "withPayload", "withVectors"], "withLookup");
  return {
    query: { ...queryToWire(name, query, session, groupKeys), limit: 0 },
    groupBy: wellFormed(groupBy, "groupBy"),
    limit: atLeastOne(limit, "limit"),
    groupSize: atLeastOne(groupSize, "groupSize"),
    withLookup: withLookup && { collection: withLookup.collection, select: selectToWire(withLookup) },
  };
}

export function groupsFromWire<P>(wire: pb.QueryGroupsResponse, parse: ParsePayload): GroupsResult<P> {
  return {
    groups: wire.groups.map(
      ({ value, points, lookup }): PointGroup<P> => ({
        value: value?.value ?? "",
        points: points.map((point) => scoredPointFromWire<P>(point, parse)),
        ...(lookup && { lookup: pointFromWire(lookup, parse) }),
      }),
    ),
    missing: wire.missing,
    trace: wire.trace,
    tookUs: wire.tookUs,
    ...(wire.explain && { explain: explainFromWire(wire.explain) }),
  };
}

export function facetToWire(name: string, key: string, options: FacetOptions, session: Session): pb.FacetRequest {
  return {
    collection: name,
    key: wellFormed(key, "key"),
    filter: filterOf(options.filter),
    limit: atLeastOne(options.limit ?? 10, "limit"),
    consistency: session.consistency(options.consistency),
    approximate: givenBoolean(options.approximate ?? false, "approximate"),
    explain: givenBoolean(options.explain ?? false, "explain"),
    ...partitionOf(options),
  };
}

export function facetFromWire({ hits, explain }: pb.FacetResponse): FacetResult {
  return {
    hits: hits.map(({ value, count }) => ({ value: value?.value ?? "", count })),
    ...(explain && { explain: explainFromWire(explain) }),
  };
}

export function matrixToWire(name: string, options: MatrixOptions, session: Session): pb.SearchMatrixRequest {
  givenObject(options, "options");
  return {
    collection: name,
    using: options.using ?? "",
    filter: filterOf(options.filter),
    sample: atLeastOne(options.sample ?? 10, "sample"),
    limit: atLeastOne(options.limit ?? 3, "limit"),
    consistency: session.consistency(options.consistency),
    ...partitionOf(options),
  };
}

export function matrixFromWire({ ids, rows, columns, scores }: pb.SearchMatrixResponse): DistanceMatrix {
  const known = ids.map(idFromWire);
  const idAt = (place: number | undefined): (typeof known)[number] => {
    const id = place === undefined ? undefined : known[place];
    if (id === undefined) throw new KithError("INTERNAL", "the server named a point that it did not draw");
    return id;
  };
  const pairs = scores.map((score, i) => ({ a: idAt(rows[i]), b: idAt(columns[i]), score }));
  return { ids: known, rows, columns, scores, pairs };
}
