/**
 * Polls until `check` neither throws nor gives false, and resolves with what it gives; rejects with its last failure after
 * `withinMs`.
 */
export async function eventually<T>(check: () => Promise<T> | T, withinMs = 20_000): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    try {
      const found = await check();
      if (found === false) throw new Error(`it did not happen: ${check.toString()}`);
      return found;
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  }
}

const pollMs = 10;
