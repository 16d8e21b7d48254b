import type { Self } from "./api.js";
import type { QdrantOptions } from "./options.js";

/** Warnings that are told once; more of them are not kept. */
const warningsMax = 256;

/** What the server says of itself, and to its operators. */
export function selfOf({ version, logger, random }: Pick<QdrantOptions, "version" | "logger" | "random">): Self {
  const told = new Set<string>();
  return {
    version,
    random,
    warn(message) {
      if (told.has(message) || told.size >= warningsMax) return;
      told.add(message);
      logger.warn(message);
    },
  };
}
