/** A benchmark that is killed leaves no server behind: its servers end by themselves. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { readProcess } from "../../bench/lib/process-stats.js";
import { eventually } from "../../libs/base/testing.js";
import { program } from "../cluster/processes.js";

const server = join(program, "..", "..", "..", "bench", "lib", "server.js");

test.skipIf(process.platform !== "linux").each(["embedded", "up"])(
  "its %s server ends with it, even by kill -9",
  { timeout: 120_000 },
  async (kind) => {
    const bench = spawn(
      process.execPath,
      [
        "--input-type=module",
        "--eval",
        `import { OwnServer } from ${JSON.stringify(server)};
        const own = await OwnServer.start(${JSON.stringify({ kind, shards: 1 })});
        console.log(JSON.stringify({ data: own.dataDirectory, pids: own.pids }));`,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const failed = once(bench, "exit").then(() => {
      throw new Error("the bench could not start its server");
    });
    const [line] = (await Promise.race([once(createInterface({ input: bench.stdout }), "line"), failed])) as [string];
    const { data, pids } = JSON.parse(line) as { data: string; pids: number[] };
    try {
      expect(pids.length).toBeGreaterThan(0);
      expect(pids.filter(isRunning)).toEqual(pids);
      bench.kill("SIGKILL");
      await once(bench, "exit");
      await eventually(() => expect(pids.filter(isRunning)).toEqual([]), 60_000);
    } finally {
      bench.kill("SIGKILL");
      for (const pid of pids.filter(isRunning)) process.kill(pid, "SIGKILL");
      rmSync(data, { recursive: true, force: true });
    }
  },
);

/** Whoever takes over orphans may be slow to wait for them. */
function isRunning(pid: number): boolean {
  return readProcess(pid) !== undefined && !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
}
