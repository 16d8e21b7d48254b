import { type Hit, idFromNum } from "../model/index.js";

/** A hit of a numeric id. */
export function hitOf(id: number, score: number): Hit {
  return { id: idFromNum(id), score, version: 1, payload: new Uint8Array() };
}

export function numberOf({ id }: Pick<Hit, "id">): number {
  return Number(Buffer.from(id).readBigUInt64BE(1));
}

/** Ids and scores, to compare with. */
export function plain(hits: readonly Hit[]): [number, number][] {
  return hits.map((hit) => [numberOf(hit), hit.score]);
}

/** What work in steps ends with. */
export function resultOf<T>(steps: Generator<void, T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}
