/** The program as shells run it: readers that leave early, a disk that is full, and Ctrl-C, once and twice. */
import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { program } from "../cluster/processes.js";
import { range } from "../cluster/workload.js";

const folder = mkdtempSync(join(tmpdir(), "kith-command-line-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const cluster = useCluster(
  () => startInProcess(),
  async (started) => {
    const handle = (await started.connect()).collection("many");
    await handle.create({ vectors: { dimension: 2, metric: "l2" } });
    const payload = { text: "t".repeat(200), n: 1 };
    await handle.upsert(range(0, 3_000).map((id) => ({ id, vector: [id, 1], payload })));
  },
);

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, KITH_TARGET: cluster().target, KITH_STATE_DIR: join(folder, "state") };
}

/** Runs a line of the shell, in which $kith is the program; what it wrote to each stream, and the code of the program. */
async function shell(line: string): Promise<{ out: string; err: string; codes: string }> {
  const kith = `${process.execPath} ${program}`;
  const script = `kith="${kith}"; ${line}; echo "\${PIPESTATUS[*]}" > ${join(folder, "codes")}`;
  const { stdout, stderr } = await promisify(execFile)("bash", ["-c", script], { env: environment(), cwd: folder });
  return { out: stdout, err: stderr, codes: readFileSync(join(folder, "codes"), "utf8").trim() };
}

test.each([
  "$kith export many",
  "$kith export many - --format csv",
  "$kith scroll many -n 0 --output json",
  "$kith scroll many -n 0",
  "$kith search many --vector 1,1 -n 1000",
  "$kith --output json search many --vector 1,1 -n 1000",
  "$kith get many $(seq 0 999)",
])("a reader that leaves early is no error: %s | head", { timeout: 60_000 }, async (line) => {
  const { out, err, codes } = await shell(`${line} | head -n 1`);
  expect(out.split("\n")).toHaveLength(2);
  // Tables say on the other stream how many there were.
  expect(err).toMatch(/^(\d[\d,]* (points?|results?)\b[^\n]*\n)?$/);
  expect(codes).toBe("0 0");
});

test("output that cannot be written is one line and a failure", { timeout: 60_000 }, async () => {
  if (!existsSync("/dev/full")) return;
  for (const command of ["export many", "scroll many -n 5 -o json", "count many", "collection list"]) {
    const { err, codes } = await shell(`$kith ${command} > /dev/full`);
    expect(err, command).toMatch(/^error: the output cannot be written: ENOSPC[^\n]*\[INVALID_ARGUMENT\]\n$/);
    expect(codes, command).toBe("1");
  }
});

interface Run {
  err: () => string;
  interrupt: () => void;
  ended: Promise<number | null>;
  write: (text: string) => void;
}

/** An import from standard input, which stays open. */
function importing(...flags: string[]): Run {
  const args = [program, "import", "-", "-f", "jsonl", "-c", "piped", "--create", "-m", "l2", "--batch", "1", ...flags];
  const child = spawn(process.execPath, args, { env: environment(), cwd: folder });
  let err = "";
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  return {
    err: () => err,
    interrupt: () => child.kill("SIGINT"),
    ended: new Promise((resolve) => child.on("exit", resolve)),
    write: (text) => child.stdin.write(text),
  };
}

test("Ctrl-C is acknowledged at once, and the import says how to go on", { timeout: 60_000 }, async () => {
  const handle = (await cluster().connect()).collection("piped");
  const run = importing();
  run.write('{"id":1,"vector":[1,2]}\n');
  await eventually(async () => expect(await handle.count()).toBe(1));
  run.interrupt();
  expect(await run.ended).toBe(130);
  expect(run.err()).toMatch(/^interrupted: no more rows are read, .*; Ctrl-C again ends at once\n/m);
  expect(run.err()).toMatch(/^stopped: all rows before 1 are done .*--skip 1 goes on there\.\n/m);
});

test("a second Ctrl-C ends what waits for a server that does not answer", { timeout: 60_000 }, async () => {
  // It takes calls, and answers nothing but what connecting asks for.
  const child = spawn(process.execPath, [program, "dev", "--port", "0", "--data", join(folder, "stuck"), "-o", "json"]);
  try {
    const line = await new Promise<string>((resolve) =>
      child.stdout.once("data", (chunk: Buffer) => resolve(String(chunk))),
    );
    const { target } = JSON.parse(line) as { target: string };
    const run = importing("--target", target);
    run.write('{"id":1,"vector":[1,2]}\n');
    await eventually(() => {
      expect(run.err()).toContain("created piped");
    });
    child.kill("SIGSTOP");
    run.write('{"id":2,"vector":[1,2]}\n');
    await new Promise((resolve) => setTimeout(resolve, 300));
    run.interrupt();
    await eventually(() => {
      expect(run.err()).toContain("interrupted: no more rows are read");
    });
    // The server stands still until after it has ended.
    run.interrupt();
    expect(await run.ended).toBe(130);
  } finally {
    child.kill("SIGKILL");
  }
});

test("the quickstart fills a server, searches it and leaves nothing behind", { timeout: 120_000 }, async () => {
  const { out, err, codes } = await shell(`TMPDIR=${folder} $kith quickstart --embedded --exit --port 0`);
  // A machine that is very busy stops the process for seconds, of which it tells.
  expect(err.replace(/^.*this process stood still.*\n/gm, "")).toBe("");
  expect(codes).toBe("0");
  expect(out).toMatch(/^started {2}127\.0\.0\.1:\d+$/m);
  const [, read = ""] = /^read {5}([\d,]+) passages from the documentation of \d+ installed packages/m.exec(out) ?? [];
  expect(Number(read.replaceAll(",", ""))).toBeGreaterThan(100);
  expect(out).toContain(`imported ${read} points into the collection "docs"`);
  // Every question has found something.
  const questions = out.split(/^(?=".*" {2}\d)/m).slice(1);
  expect(questions.length).toBeGreaterThan(1);
  for (const question of questions) expect(question).toMatch(/\n {2}[01]\.\d{3} {2}\S/);
  expect(out).toMatch(/stopped\n$/);
  expect(readdirSync(folder).filter((name) => name.startsWith("kith-quickstart"))).toEqual([]);
});
