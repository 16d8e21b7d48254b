import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../../../libs/base/testing.js";
import { type ChildSpec, SupervisedChild } from "./child.js";
import { launchProgram } from "./launch.js";
import { testIo } from "../testing/io.js";

let folder: string;
let program: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kith-child-"));
  program = join(folder, "program.mjs");
  // Stands in for the real program: says that it serves, writes a line, and ends when it is told to or its parent is gone.
  writeFileSync(
    program,
    `const [mode] = process.argv.slice(2);
    if (mode === "broken") { console.error("no such option"); process.exit(2); }
    process.on("SIGTERM", () => { if (mode !== "deaf") process.exit(0); });
    process.on("disconnect", () => process.exit(0));
    console.log(JSON.stringify({ level: "info", msg: "hello", node: "x", extra: 1 }));
    process.send({ kind: "ready", address: "127.0.0.1:" + process.pid, nodeFlags: process.execArgv.join(" ") });
    setInterval(() => {}, 1000);`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function childOf(mode: string, stopTimeoutMs = 5_000) {
  const lines: string[] = [];
  const notes: string[] = [];
  const given: string[] = [];
  const io = testIo({ program: { executable: process.execPath, args: [program] } });
  const launch: ChildSpec["launch"] = (_, onLine) =>
    launchProgram(io, { args: [mode], nodeArgs: ["--max-old-space-size=900"] }, onLine);
  const child = new SupervisedChild(
    { name: mode, launch, stopTimeoutMs },
    {
      onLine: (line) => lines.push(line),
      onNote: (note) => notes.push(note),
      onGivenUp: (error) => given.push(error.message),
    },
  );
  return { child, lines, notes, given };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

describe("a supervised child", () => {
  it("becomes ready, passes on its lines, and ends when it is stopped", async () => {
    const { child, lines, notes } = childOf("good");
    const ready = await child.start();
    expect(ready).toMatchObject({ address: `127.0.0.1:${child.pid}`, nodeFlags: "--max-old-space-size=900" });
    await eventually(() => lines.length > 0);
    await child.stop();
    expect(isAlive(child.pid ?? 0)).toBe(false);
    expect(notes).toEqual([]);
  });

  it("that does not start is not tried again, and its own words are in the error", async () => {
    const { child, notes } = childOf("broken");
    await expect(child.start()).rejects.toThrow(/broken ended with code 2 before it was ready:\n {2}no such option/);
    expect(notes).toEqual([]);
    await child.stop();
  });

  it("that dies is started again", async () => {
    const { child, notes, given } = childOf("good");
    await child.start();
    const first = child.pid ?? 0;
    process.kill(first, "SIGKILL");
    await eventually(() => child.pid !== first && isAlive(child.pid ?? 0));
    expect(notes).toEqual([expect.stringContaining("good ended unexpectedly by SIGKILL; starting it again in")]);
    expect(given).toEqual([]);
    await child.stop();
    expect(isAlive(child.pid ?? 0)).toBe(false);
  });

  it("that does not listen is ended by force", async () => {
    const { child, notes } = childOf("deaf", 200);
    await child.start();
    await child.stop();
    expect(isAlive(child.pid ?? 0)).toBe(false);
    expect(notes).toEqual(["deaf did not end within 200 ms and is ended by force"]);
  });

  it("ends when its parent is killed", async () => {
    const pidFile = join(folder, "pids");
    const parentProgram = join(folder, "parent.mjs");
    writeFileSync(
      parentProgram,
      `import { spawn } from "node:child_process"; import { writeFileSync } from "node:fs";
      const child = spawn(process.execPath, [${JSON.stringify(program)}, "good"], { stdio: ["ignore", "pipe", "pipe", "ipc"], detached: true });
      child.on("message", (m) => writeFileSync(${JSON.stringify(pidFile)}, child.pid + " " + process.pid));
      setInterval(() => {}, 1000);`,
    );
    const parent = spawn(process.execPath, [parentProgram], { stdio: "ignore" });
    await eventually(() => existsSync(pidFile) && readFileSync(pidFile, "utf8").includes(" "));
    const pids = readFileSync(pidFile, "utf8").split(" ").map(Number);
    expect(pids.every(isAlive)).toBe(true);
    parent.kill("SIGKILL");
    await once(parent, "exit");
    await eventually(() => !pids.some(isAlive));
  });
});
