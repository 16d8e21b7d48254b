import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";

/** What the kernel tells of one process. */
export interface ProcessStats {
  pid: number;
  /** User and system time of all its threads so far. */
  cpuSeconds: number;
  /** Of the first thread alone, which in Node is the event loop. */
  mainThreadSeconds: number;
  rssBytes: number;
  /** The resident set without mapped files, such as LevelDB's tables, which the system takes back when it needs the memory. */
  privateBytes: number;
  /** Highest resident set in its life. */
  peakRssBytes: number;
}

/** What groups of threads do. Node's own other threads (garbage, compilation, libuv's pool) have no names of theirs. */
export const threadGroups = ["loop", "search", "index", "other"] as const;
export type ThreadGroup = (typeof threadGroups)[number];

/** What one process used during a window. */
export interface OneProcessUsage {
  pid: number;
  /** The id of its node where it has one, else what it is. */
  name: string;
  cpuSeconds: number;
  threadSeconds: Record<ThreadGroup, number>;
}

/** What processes used during one window. */
export interface ProcessUsage {
  pids: number[];
  cpuSeconds: number;
  /** CPU seconds per second of wall time: 1.0 is one core. */
  cores: number;
  /** As `cores`, of the first threads alone: the event loops. */
  mainThreadCores: number;
  /** Highest sum of resident sets seen in the window; pages that processes share count in each. */
  rssPeakBytes: number;
  /** Those that used anything. */
  processes: OneProcessUsage[];
}

/** USER_HZ: the unit of times in /proc/<pid>/stat, 100 on every Linux that Node supports. */
const ticksPerSecond = 100;
const sampleMs = 200;

/** Undefined where there is no such process, or no /proc. */
export function readProcess(pid: number): ProcessStats | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  const status = readText(`/proc/${pid}/status`);
  const mainThread = readText(`/proc/${pid}/task/${pid}/stat`);
  if (stat === undefined || status === undefined || mainThread === undefined) return undefined;
  return {
    pid,
    cpuSeconds: parseCpuSeconds(stat),
    mainThreadSeconds: parseCpuSeconds(mainThread),
    rssBytes: parseStatusBytes(status, "VmRSS"),
    privateBytes: parseStatusBytes(status, "RssAnon"),
    peakRssBytes: parseStatusBytes(status, "VmHWM"),
  };
}

/** What a process has in memory, its pages shared out among those that map them. */
export interface ProcessMemory {
  pid: number;
  /** Every page that it maps and that is in memory, the program's own code included; pages that processes share count in each. */
  residentBytes: number;
  /** As `residentBytes`, but a page that n processes map counts as 1/n in each, so that sums are right. */
  proportionalBytes: number;
  /** Pages that are its own and of no file: what it has allocated. */
  privateBytes: number;
  /** Its command line. */
  args: string[];
}

/** Undefined where there is no such process, or no /proc. */
export function readMemory(pid: number): ProcessMemory | undefined {
  const rollup = readText(`/proc/${pid}/smaps_rollup`);
  if (rollup === undefined) return undefined;
  return {
    pid,
    residentBytes: parseStatusBytes(rollup, "Rss"),
    proportionalBytes: parseStatusBytes(rollup, "Pss"),
    privateBytes: parseStatusBytes(rollup, "Anonymous"),
    args: argsOf(pid),
  };
}

/** What a process of Kith is called in reports: its node id, its command, or else its program. */
export function processName(args: readonly string[]): string {
  const nodeId = args.includes("--node-id") ? args[args.indexOf("--node-id") + 1] : undefined;
  if (args[0]?.endsWith("nats-server") === true) return "nats-server";
  const command = args.find((arg) => /^(dev|up)$/.test(arg));
  return nodeId ?? (command === undefined ? basename(args[0] ?? "?") : `kith ${command}`);
}

/** utime + stime. The name of the program, in brackets, may hold spaces and brackets itself. */
export function parseCpuSeconds(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

export function parseStatusBytes(status: string, field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status);
  return match === null ? 0 : Number(match[1]) * 1024;
}

/** CPU seconds of the children of this process that have ended and been waited for. */
export function endedChildrenCpuSeconds(): number {
  const stat = readText("/proc/self/stat");
  if (stat === undefined) return 0;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond;
}

/** The processes and all that they started, as far as they live. */
export function withDescendants(pids: readonly number[]): number[] {
  const children = new Map<number, number[]>();
  for (const name of readNames("/proc")) {
    const stat = /^\d+$/.test(name) ? readText(`/proc/${name}/stat`) : undefined;
    if (stat === undefined) continue;
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found = new Set<number>();
  const queue = [...pids];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    if (found.has(pid)) continue;
    found.add(pid);
    queue.push(...(children.get(pid) ?? []));
  }
  return [...found].filter((pid) => readProcess(pid) !== undefined).sort((a, b) => a - b);
}

/** Samples exactly these processes (see withDescendants) from `start` to `stop`. */
export class ProcessWatch {
  readonly #pids: readonly number[];
  #before = { cpuSeconds: 0, mainThreadSeconds: 0 };
  #threadsBefore = new Map<number, Record<ThreadGroup, number>>();
  #startMs = 0;
  #rssPeakBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(pids: readonly number[]) {
    this.#pids = pids;
  }

  start(): void {
    this.#startMs = performance.now();
    this.#before = this.#sample();
    this.#threadsBefore = new Map(this.#pids.map((pid) => [pid, readThreads(pid)]));
    this.#timer = setInterval(() => this.#sample(), sampleMs);
    this.#timer.unref();
  }

  /** Undefined where no process could be read. */
  stop(): ProcessUsage | undefined {
    clearInterval(this.#timer);
    if (this.#pids.length === 0) return undefined;
    const now = this.#sample();
    const cpuSeconds = now.cpuSeconds - this.#before.cpuSeconds;
    const mainThreadSeconds = now.mainThreadSeconds - this.#before.mainThreadSeconds;
    const seconds = (performance.now() - this.#startMs) / 1000;
    return {
      pids: [...this.#pids],
      cpuSeconds,
      cores: seconds > 0 ? cpuSeconds / seconds : 0,
      mainThreadCores: seconds > 0 ? mainThreadSeconds / seconds : 0,
      rssPeakBytes: this.#rssPeakBytes,
      processes: this.#pids.map((pid) => this.#usageOf(pid)).filter((each) => each.cpuSeconds > 0),
    };
  }

  #usageOf(pid: number): OneProcessUsage {
    const threadSeconds = readThreads(pid);
    const before = this.#threadsBefore.get(pid);
    let cpuSeconds = 0;
    for (const group of threadGroups) {
      // A thread that ended took its time along.
      threadSeconds[group] = Math.max(0, threadSeconds[group] - (before?.[group] ?? 0));
      cpuSeconds += threadSeconds[group];
    }
    return { pid, name: processName(argsOf(pid)), cpuSeconds, threadSeconds };
  }

  #sample(): { cpuSeconds: number; mainThreadSeconds: number } {
    let cpuSeconds = 0;
    let mainThreadSeconds = 0;
    let rssBytes = 0;
    for (const pid of this.#pids) {
      const stats = readProcess(pid);
      cpuSeconds += stats?.cpuSeconds ?? 0;
      mainThreadSeconds += stats?.mainThreadSeconds ?? 0;
      rssBytes += stats?.rssBytes ?? 0;
    }
    this.#rssPeakBytes = Math.max(this.#rssPeakBytes, rssBytes);
    return { cpuSeconds, mainThreadSeconds };
  }
}

/** CPU seconds of a process's threads so far, by what they do. */
function readThreads(pid: number): Record<ThreadGroup, number> {
  const seconds = { loop: 0, search: 0, index: 0, other: 0 };
  for (const thread of readNames(`/proc/${pid}/task`)) {
    const stat = readText(`/proc/${pid}/task/${thread}/stat`);
    if (stat === undefined) continue;
    const name = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
    const group =
      thread === String(pid)
        ? "loop"
        : name === "kith-search"
          ? "search"
          : name.startsWith("kith-")
            ? "index"
            : "other";
    seconds[group] += parseCpuSeconds(stat);
  }
  return seconds;
}

function argsOf(pid: number): string[] {
  return (readText(`/proc/${pid}/cmdline`) ?? "").split("\0").slice(0, -1);
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    return absent(error);
  }
}

function readNames(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    return absent(error) ?? [];
  }
}

/** A process that has ended, or a system without /proc, is no failure here. */
function absent(error: unknown): undefined {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT" || code === "ESRCH" || code === "EACCES") return undefined;
  throw error;
}
