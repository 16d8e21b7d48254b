import type { Random } from "../../libs/base/index.js";

/** One of the doors: sends mutated requests, and gives how many, and what must not be. */
export interface Door {
  readonly name: string;
  /** Of all requests, in thousandths. */
  readonly share: number;
  /** Sends about `count` requests; gives how many there were. Throws what the door must not do. */
  send(count: number, random: Random, tally: Tally): Promise<number>;
  close(): void;
}

/** How often each answer came. */
export type Tally = Map<string, number>;

/** No answer for so many seconds is a hang. */
const hangSeconds = 20;
export const concurrent = 48;

export const pick = <T>(list: readonly T[], random: Random): T => list[Math.floor(random.float() * list.length)] as T;

export function count(tally: Tally, answer: string): void {
  tally.set(answer, (tally.get(answer) ?? 0) + 1);
}

export async function atOnce(total: number, one: () => Promise<void>): Promise<number> {
  let left = total;
  const work = async (): Promise<void> => {
    while (left-- > 0) await one();
  };
  await Promise.all(Array.from({ length: concurrent }, work));
  return total;
}

/** Both sides are in this process: seconds in which it got no processor are not counted, or a busy machine would be taken for a hang. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let seconds = 0;
  let atMs = performance.now();
  const hung = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      const nowMs = performance.now();
      if (nowMs - atMs < 1_500) seconds++;
      atMs = nowMs;
      if (seconds >= hangSeconds) reject(new Error(`hangs: ${what}`));
    }, 1_000);
  });
  return Promise.race([promise, hung]).finally(() => clearInterval(timer));
}
