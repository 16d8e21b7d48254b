const mib = 1024 * 1024;
/** A heap below this collects garbage all the time under load. */
const heapMinBytes = 256 * mib;
/** Node's own limit on large machines. */
const heapMaxBytes = 4096 * mib;

/**
 * Flags of Node for a process that serves. The young generation: half of the objects of a call die within a scavenge whether it is of 4 or
 * of 16 MiB (Node's default), but 4 stay in the cores' caches: see docs/benchmarks.md. The old one: all `processes` together keep to
 * half of the memory, which leaves the other half to the graphs, LevelDB and the page cache; Node would give half to each.
 *
 * @param given flags that somebody has chosen already (NODE_OPTIONS, execArgv): they win
 */
export function serverFlags(processes: number, memoryBytes: number, given: readonly string[]): string[] {
  const heapBytes = Math.min(heapMaxBytes, Math.max(heapMinBytes, memoryBytes / 2 / processes));
  const flags = [`--max-semi-space-size=${youngMib}`, `--max-old-space-size=${Math.floor(heapBytes / mib)}`];
  const names = given.flatMap((text) => text.split(/\s+/)).map(nameOf);
  return flags.filter((flag) => !names.includes(nameOf(flag)));
}

const youngMib = 4;

/** Node takes `_` for `-`. */
function nameOf(flag: string): string {
  return (flag.split("=")[0] ?? "").replaceAll("_", "-");
}
