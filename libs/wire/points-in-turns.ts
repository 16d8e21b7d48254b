import type { BackwardWriter, Encoded } from "./encoded.js";
import * as pb from "./gen/pb.js";
import { type Pause, type Steps, turnBytes, writeInTurns } from "./in-turns.js";
import { writeRequestId } from "./query-response.js";

/** What a point has at most beside payload, vectors and their names. */
const pointBytes = 64;

type AnyPoint = Pick<pb.Point, "payload" | "payloadStruct" | "vectors">;

/** About as many bytes as the points have; rather more. */
export function pointsBytes(points: readonly AnyPoint[]): number {
  let sizeBytes = 0;
  for (const point of points) sizeBytes += bytesOf(point);
  return sizeBytes;
}

/** As `pointsBytes`, with the points that are looked up. */
export function groupsBytes(groups: readonly pb.PointGroup[]): number {
  let sizeBytes = 0;
  for (const { points, lookup } of groups) {
    sizeBytes += pointsBytes(points) + (lookup === undefined ? 0 : bytesOf(lookup));
  }
  return sizeBytes;
}

/** As GetPointsResponse.encode, and others have the event loop after each `turnBytes`. */
export function encodePointsInTurns(
  response: pb.GetPointsResponse,
  pause: Pause,
): Promise<Encoded<pb.GetPointsResponse>> {
  return writeInTurns(pointsBytes(response.points), pause, function* (to) {
    to.bytes(pb.GetPointsResponse.encode({ ...response, points: [] }).finish());
    yield* pointSteps(to, response.points, 1, pb.Point);
  });
}

/** As `encodePointsInTurns`, of a page. */
export function encodePageInTurns(response: pb.ScrollResponse, pause: Pause): Promise<Encoded<pb.ScrollResponse>> {
  return writeInTurns(pointsBytes(response.points), pause, pageSteps(response));
}

/** As `encodePointsInTurns`, of groups. */
export function encodeGroupsInTurns(
  response: pb.QueryGroupsResponse,
  pause: Pause,
): Promise<Encoded<pb.QueryGroupsResponse>> {
  return writeInTurns(groupsBytes(response.groups), pause, groupSteps(response));
}

/** The answer to one request of a QueryStream that is a page or groups, in turns too. */
export function encodeStreamedPointsInTurns(
  requestId: number | bigint,
  outcome: Extract<pb.QueryStreamResponse["outcome"], { $case: "groups" | "scroll" }>,
  pause: Pause,
): Promise<Encoded<pb.QueryStreamResponse>> {
  const isGroups = outcome.$case === "groups";
  const sizeBytes = isGroups ? groupsBytes(outcome.value.groups) : pointsBytes(outcome.value.points);
  return writeInTurns(sizeBytes, pause, function* (to) {
    yield* isGroups ? groupSteps(outcome.value)(to) : pageSteps(outcome.value)(to);
    to.nested(isGroups ? 4 : 7, 0);
    writeRequestId(to, requestId);
  });
}

function pageSteps(response: pb.ScrollResponse): Steps {
  return function* (to) {
    to.bytes(pb.ScrollResponse.encode({ ...response, points: [] }).finish());
    yield* pointSteps(to, response.points, 1, pb.Point);
  };
}

function groupSteps(response: pb.QueryGroupsResponse): Steps {
  return function* (to) {
    to.bytes(pb.QueryGroupsResponse.encode({ ...response, groups: [] }).finish());
    let turnEnd = to.length + turnBytes;
    for (const { value, points, lookup } of response.groups.toReversed()) {
      const end = to.length;
      to.bytes(pb.PointGroup.encode({ value: undefined, points: [], lookup }).finish());
      yield* pointSteps(to, points, 3, pb.ScoredPoint, turnEnd);
      to.bytes(pb.PointGroup.encode({ value, points: [], lookup: undefined }).finish());
      to.nested(1, end);
      if (to.length < turnEnd) continue;
      yield;
      turnEnd = to.length + turnBytes;
    }
  };
}

/** Writes points as elements of a field. The first turn ends where `turnEnd` says. */
function* pointSteps<T extends AnyPoint>(
  to: BackwardWriter,
  points: readonly T[],
  field: number,
  type: { encode(point: T): { finish(): Uint8Array } },
  turnEnd = to.length + turnBytes,
): Generator<void, void, undefined> {
  for (let i = points.length - 1; i >= 0; i--) {
    const end = to.length;
    to.bytes(type.encode(points[i] as T).finish());
    to.nested(field, end);
    if (to.length < turnEnd) continue;
    yield;
    turnEnd = to.length + turnBytes;
  }
}

function bytesOf({ payload, payloadStruct, vectors }: AnyPoint): number {
  let bytes = pointBytes + payload.length + (payloadStruct?.length ?? 0);
  for (const [name, { values, indices }] of Object.entries(vectors)) {
    bytes += pointBytes + name.length + values.byteLength + 5 * indices.length;
  }
  return bytes;
}
