const mib = 1024 * 1024;
/** A heap below this collects garbage all the time under load. */
const heapMinBytes = 256 * mib;
/** Node's own limit on large machines. */
const heapMaxBytes = 4096 * mib;

/**
 * Flags of Node for one of `processes` on this machine: their heaps together keep to half of the memory, which leaves the other half to the
 * graphs, LevelDB and the page cache. Node alone would give half to each of them, up to 4 GiB.
 *
 * @param given flags that somebody has chosen already (NODE_OPTIONS, execArgv): they win
 */
export function serverFlags(processes: number, memoryBytes: number, given: readonly string[]): string[] {
  const names = given.flatMap((text) => text.split(/\s+/)).map((flag) => flag.split("=")[0]?.replaceAll("_", "-"));
  if (names.includes(heapFlag)) return [];
  const heapBytes = Math.min(heapMaxBytes, Math.max(heapMinBytes, memoryBytes / 2 / processes));
  return [`${heapFlag}=${Math.floor(heapBytes / mib)}`];
}

const heapFlag = "--max-old-space-size";
