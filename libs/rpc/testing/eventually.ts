import { setTimeout as sleep } from "node:timers/promises";

/** Polls until `check` returns something truthy. */
export async function eventually<T>(check: () => T, timeoutMs = 10_000): Promise<NonNullable<T>> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const value = check();
    if (value) return value;
    if (performance.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${check.toString()}`);
    await sleep(2);
  }
}
