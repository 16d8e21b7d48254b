import { MemoryLevel } from "memory-level";
import type { OpenDatabase } from "../embedded/database.js";

/** A database in memory that can be closed and opened again as one in a directory can. */
export function memoryDatabase(): OpenDatabase {
  const database = Object.assign(new MemoryLevel(), { location: "memory" });
  return async () => {
    await database.open();
    return database;
  };
}
