import * as pb from "./gen/pb.js";

/** Resolves when others have had the event loop. */
export type Pause = () => Promise<void>;

/** Bytes of a message that are written in one turn of the event loop: about a millisecond, or ten where each new page of memory is dear. */
export const turnBytes = 1024 * 1024;
/** Room before a message for what encloses it. */
const headBytes = 32;
/** What a point has at most beside payload, vectors and their names. */
const pointBytes = 64;

/**
 * Pieces of a message put together, one a turn. `head` gives what stands before it, by its size.
 * Fields that are repeated may come in several pieces: by protobuf's encoding they follow each other.
 */
export async function joinInTurns(
  expectedBytes: number,
  pieces: Iterable<Uint8Array>,
  pause: Pause,
  head?: (sizeBytes: number) => Uint8Array,
): Promise<Buffer> {
  let whole = Buffer.allocUnsafeSlow(headBytes + expectedBytes);
  let at = headBytes;
  for (const piece of pieces) {
    if (at + piece.length > whole.length) {
      const larger = Buffer.allocUnsafeSlow((at + piece.length) * 2);
      whole.copy(larger, 0, 0, at);
      whole = larger;
    }
    whole.set(piece, at);
    at += piece.length;
    await pause();
  }
  const before = head?.(at - headBytes) ?? noBytes;
  whole.set(before, headBytes - before.length);
  return whole.subarray(headBytes - before.length, at);
}

const noBytes = new Uint8Array(0);

/** About as many bytes as the points have; rather more. */
export function pointsBytes(points: readonly pb.Point[]): number {
  let sizeBytes = 0;
  for (const point of points) sizeBytes += bytesOf(point);
  return sizeBytes;
}

/** As GetPointsResponse.encode, and others have the event loop after each `turnBytes`. */
export async function encodePointsInTurns(response: pb.GetPointsResponse, pause: Pause): Promise<Buffer> {
  return joinInTurns(pointsBytes(response.points), piecesOf(response), pause);
}

function* piecesOf(response: pb.GetPointsResponse): Generator<Uint8Array, void, undefined> {
  const { points } = response;
  for (let from = 0; from < points.length; ) {
    const begin = from;
    let sizeBytes = 0;
    while (from < points.length && (from === begin || sizeBytes < turnBytes)) {
      sizeBytes += bytesOf(points[from++] as pb.Point);
    }
    yield pb.GetPointsResponse.encode({ points: points.slice(begin, from), token: undefined }).finish();
  }
  yield pb.GetPointsResponse.encode({ ...response, points: [] }).finish();
}

function bytesOf({ payload, payloadStruct, vectors }: pb.Point): number {
  let bytes = pointBytes + payload.length + (payloadStruct?.length ?? 0);
  for (const [name, { values, indices }] of Object.entries(vectors)) {
    bytes += pointBytes + name.length + values.byteLength + 5 * indices.length;
  }
  return bytes;
}
