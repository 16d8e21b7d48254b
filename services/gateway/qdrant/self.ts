import type { Self } from "./api.js";
import type { QdrantOptions } from "./options.js";

/** Warnings that are told once; more of them are not kept. */
const warningsMax = 256;

/** What the server says of itself, and to its operators. */
export function selfOf({ version, logger }: Pick<QdrantOptions, "version" | "logger">): Self {
  const told = new Set<string>();
  return {
    version,
    warn(message) {
      if (told.has(message) || told.size >= warningsMax) return;
      told.add(message);
      logger.warn(message);
    },
  };
}
