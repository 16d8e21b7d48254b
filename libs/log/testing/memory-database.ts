import { MemoryLevel } from "memory-level";
import type { OpenDatabase } from "../embedded/database.js";

/** A database in memory that can be closed and opened again as one in a directory can. */
export function memoryDatabase(): OpenDatabase {
  const level = new MemoryLevel<Uint8Array, Uint8Array>({ keyEncoding: "view", valueEncoding: "view" });
  const database = Object.assign(level, { location: "memory", compactRange: () => Promise.resolve() });
  return async () => {
    await database.open();
    return database;
  };
}
