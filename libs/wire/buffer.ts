import { BackwardWriter } from "./encoded.js";

/** The same bytes as a Buffer. @public for the generated code. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

interface PointLike {
  readonly payload: Uint8Array;
  readonly vectors: { readonly [name: string]: { readonly values: Float32Array } };
}

/** What a point has at most beside payload and vectors, about. */
const pointBytes = 64;

const writer = new BackwardWriter();

/**
 * The message of `rest`, with points in its field 1. The generated writer grows by doubling and moves every point to make room for its length: of
 * 24 MB it copied 100. @public for the generated code.
 */
export function pointsBuffer<P extends PointLike>(
  points: readonly P[],
  message: { encode(point: P): { finish(): Uint8Array } },
  rest: () => Uint8Array,
): Buffer {
  let sizeBytes = 0;
  for (const { payload, vectors } of points) {
    sizeBytes += pointBytes + payload.length;
    for (const name in vectors) sizeBytes += pointBytes + name.length + (vectors[name]?.values.byteLength ?? 0);
  }
  try {
    writer.expect(sizeBytes);
    writer.bytes(rest());
    for (let i = points.length - 1; i >= 0; i--) {
      const end = writer.length;
      writer.bytes(message.encode(points[i] as P).finish());
      writer.nested(1, end);
    }
    return writer.finish();
  } catch (error) {
    writer.clear();
    throw error;
  }
}
