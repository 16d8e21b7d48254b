const safeMax = BigInt(Number.MAX_SAFE_INTEGER);

/** An integer of 64 bits: a number where a double holds it. */
export function wholeOf(digits: bigint | string): number | bigint {
  const value = BigInt(digits);
  return value <= safeMax && value >= -safeMax ? Number(value) : value;
}
