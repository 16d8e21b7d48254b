import { SeededRandom } from "../../libs/base/index.js";
import { grpcDoor, linkDoor, restDoor, snapshotDoor } from "./doors.js";
import { qdrantGrpcDoor, qdrantRestDoor } from "./qdrant-doors.js";
import type { Door, Tally } from "./sending.js";
import type { Target } from "./target.js";

export interface FuzzReport {
  requests: number;
  /** Requests and answers of each door. */
  doors: Map<string, { requests: number; answers: Tally }>;
  /** What must not be; the first of each door. */
  faults: string[];
  /** Largest memory of the process, in bytes, and the one after the first tenth. */
  rssMaxBytes: number;
  rssEarlyBytes: number;
}

/** Requests of a round; memory is looked at after each. */
const roundRequests = 50_000;
/** Of a process with a node and all clients. */
const rssLimitBytes = 2 * 1024 ** 3;

/** Sends `count` mutated requests to all doors, from a seed. */
export async function fuzz(
  target: Target,
  count: number,
  seed: number,
  log: (line: string) => void,
): Promise<FuzzReport> {
  const rounds = Math.max(2, Math.ceil(count / roundRequests));
  const random = new SeededRandom(seed);
  const open = [grpcDoor, restDoor, qdrantGrpcDoor, qdrantRestDoor, linkDoor, snapshotDoor];
  const doors: Door[] = open.map((door) => door(target));
  const report: FuzzReport = { requests: 0, doors: new Map(), faults: [], rssMaxBytes: 0, rssEarlyBytes: 0 };
  const onFault = (error: unknown): void => void report.faults.push(`not caught: ${String(error)}`);
  process.on("uncaughtException", onFault);
  process.on("unhandledRejection", onFault);
  try {
    for (let round = 0; round < rounds && report.faults.length === 0; round++) {
      for (const door of doors) {
        const of = report.doors.get(door.name) ?? { requests: 0, answers: new Map<string, number>() };
        report.doors.set(door.name, of);
        const share = Math.ceil((count * door.share) / 1_000 / rounds);
        const sent = await door.send(share, random, of.answers).catch((error: unknown) => {
          report.faults.push(`${door.name}: ${(error as Error).message}`);
          return 0;
        });
        of.requests += sent;
        report.requests += sent;
      }
      const { rss } = process.memoryUsage();
      report.rssMaxBytes = Math.max(report.rssMaxBytes, rss);
      if (round === Math.floor(rounds / 10)) report.rssEarlyBytes = rss;
      if (rss > rssLimitBytes) report.faults.push(`the process has ${rss} bytes`);
      log(`round ${round + 1} of ${rounds}: ${report.requests} requests, ${Math.round(rss / 1024 ** 2)} MiB`);
    }
  } finally {
    for (const door of doors) door.close();
    process.off("uncaughtException", onFault);
    process.off("unhandledRejection", onFault);
  }
  return report;
}
