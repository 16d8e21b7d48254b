/** Middle and extremes of repeated measurements. */
export interface Spread {
  min: number;
  median: number;
  max: number;
  values: number[];
}

export function spreadOf(values: readonly number[]): Spread {
  if (values.length === 0) throw new RangeError("a spread needs at least one value");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 === 1
      ? (sorted[middle] as number)
      : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
  return { min: sorted[0] as number, median, max: sorted.at(-1) as number, values: [...values] };
}

/**
 * Runs every variant once per round, one after the other, and turns the order round in every second round. What drifts
 * over minutes (heat, neighbours on the machine, the page cache) then meets all variants alike, where one block per
 * variant would give the drift to one of them. Results by variant, in order of rounds.
 */
export async function interleaved<V, R>(
  variants: readonly V[],
  rounds: number,
  run: (variant: V, round: number) => Promise<R>,
): Promise<R[][]> {
  const results: R[][] = variants.map(() => []);
  for (let round = 0; round < rounds; round++) {
    const order = variants.map((_, i) => i);
    if (round % 2 === 1) order.reverse();
    for (const i of order) (results[i] as R[]).push(await run(variants[i] as V, round));
  }
  return results;
}

/** By how much each value of `changed` differs from the one of `base` in the same round, as a share of the latter. */
export function pairedChange(base: readonly number[], changed: readonly number[]): Spread {
  if (base.length !== changed.length) throw new RangeError(`${base.length} and ${changed.length} values are no pairs`);
  return spreadOf(base.map((value, i) => ((changed[i] as number) - value) / value));
}
