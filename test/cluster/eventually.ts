/** Repeats `check` until it does not throw; fails with its last error after `withinMs`. */
export async function eventually<T>(check: () => Promise<T> | T, withinMs = 20_000, everyMs = 50): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }
}
