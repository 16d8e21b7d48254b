import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { eventually } from "../base/testing.js";
import { guardProcess } from "./guard.js";

/** The program that holds the guard is a process of its own, so it runs what is built; `npm test` builds it first. */
const built = fileURLToPath(new URL("../../dist/libs/nats-server/guard.js", import.meta.url));

function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

function guardOf(pid: number): number {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim().split(" ").map(Number);
  const commandLine = (child: number): string => readFileSync(`/proc/${child}/cmdline`, "utf8");
  return (
    children.find((child) => commandLine(child).startsWith("/bin/sh") && commandLine(child).includes(`\0${pid}\0`)) ?? 0
  );
}

it("a guarded process ends when whoever guards it is killed", async () => {
  const guarded = spawn("sleep", ["600"], { stdio: "ignore" });
  const source = `import { guardProcess } from ${JSON.stringify(built)}; guardProcess(${guarded.pid}); console.log("on guard"); setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ["--input-type=module", "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(holder.stdout, "data");
  const ended = once(guarded, "exit");
  holder.kill("SIGKILL");
  expect(await ended).toEqual([null, "SIGTERM"]);
});

it("a guard that is taken away leaves the process alone, and is gone itself", async () => {
  const guarded = spawn("sleep", ["600"], { stdio: "ignore" });
  const pid = guarded.pid ?? 0;
  const release = guardProcess(pid);
  await eventually(() => expect(guardOf(pid)).toBeGreaterThan(0));
  const guard = guardOf(pid);
  release();
  await eventually(() => expect(isAlive(guard)).toBe(false));
  expect(isAlive(pid)).toBe(true);
  guarded.kill();
});
