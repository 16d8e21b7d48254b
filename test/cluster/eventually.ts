import { KithError } from "../../libs/client/index.js";

/**
 * Repeats `check` while it fails with an error of Kith, which says that something is not available yet. Any other failure
 * (a wrong answer) ends it at once.
 */
export async function onceAvailable<T>(check: () => Promise<T>, withinMs = 20_000): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (!(error instanceof KithError) || performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
