/** Rows of the table that is being filled: this one and the two before. One call uses them at a time. */
let rows = [new Uint16Array(64), new Uint16Array(64), new Uint16Array(64)] as const;

/** Changes of a character (one more, one less, another one, two exchanged) that make one word of the other; more than `max` as max + 1. */
export function editDistance(a: string, b: string, max: number): number {
  if (Math.abs(a.length - b.length) > max) return max + 1;
  if (b.length + 2 > rows[0].length) {
    const size = 2 * (b.length + 2);
    rows = [new Uint16Array(size), new Uint16Array(size), new Uint16Array(size)];
  }
  let [before, last, row] = rows;
  const far = max + 1;
  // Only where the table is near its diagonal it has less than `far`; beside that it is not looked at.
  for (let j = 0; j <= Math.min(b.length, far); j++) last[j] = j;
  for (let i = 1; i <= a.length; i++) {
    const from = Math.max(1, i - max);
    const to = Math.min(b.length, i + max);
    let least = from === 1 ? i : far;
    row[from - 1] = least;
    for (let j = from; j <= to; j++) {
      const isSame = a.charCodeAt(i - 1) === b.charCodeAt(j - 1);
      let cost = (last[j - 1] as number) + (isSame ? 0 : 1);
      cost = Math.min(cost, (last[j] as number) + 1, (row[j - 1] as number) + 1);
      const isSwapped =
        i > 1 && j > 1 && a.charCodeAt(i - 1) === b.charCodeAt(j - 2) && a.charCodeAt(i - 2) === b.charCodeAt(j - 1);
      if (isSwapped) cost = Math.min(cost, (before[j - 2] as number) + 1);
      row[j] = cost;
      least = Math.min(least, cost);
    }
    if (least > max) return far;
    row[to + 1] = far;
    [before, last, row] = [last, row, before];
  }
  return Math.min(last[b.length] as number, far);
}
