/**
 * Loaded into a node before its program (node --import). A scenario asks for something by a file in the folder that CHAOS_FOLDER names: `NODE.crash` (a
 * CrashOrder) ends the process with SIGKILL when its code comes to a named point, and `NODE.clock` (milliseconds) moves its wall clock. The program knows
 * nothing of it: what it calls at these points is replaced.
 */
import promises from "node:fs/promises";
import { readFileSync, rmSync } from "node:fs";
import { createRequire, syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import type { CrashOrder, CrashPoint } from "./crash-points.js";

const pollMs = 20;
const require = createRequire(import.meta.url);
const folder = process.env["CHAOS_FOLDER"] ?? "";
const node = process.argv[process.argv.indexOf("--node-id") + 1] ?? "";

let order: CrashOrder | undefined;
let clockOffsetMs = 0;

function reach(point: CrashPoint): void {
  if (order?.point !== point || --order.after > 0) return;
  process.kill(process.pid, "SIGKILL");
  // Nothing of what follows is done.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

/** What a file says, taken away; undefined where there is none. */
function take(file: string): string | undefined {
  try {
    const text = readFileSync(file, "utf8");
    rmSync(file);
    return text;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return undefined;
  }
}

function look(): void {
  const crash = take(join(folder, `${node}.crash`));
  if (crash !== undefined) order = JSON.parse(crash) as CrashOrder;
  const clock = take(join(folder, `${node}.clock`));
  if (clock !== undefined) clockOffsetMs = Number(clock);
}

type Call<T> = (this: unknown, ...args: never[]) => T;

/** Calls `before` before a method, and `after` when what it promises has come. */
function around(
  owner: object,
  name: string,
  before: (...args: unknown[]) => void,
  after?: (...args: unknown[]) => void,
): void {
  const own = Reflect.get(owner, name) as Call<unknown>;
  Reflect.set(owner, name, async function (this: unknown, ...args: never[]): Promise<unknown> {
    before(...args);
    const result = await own.apply(this, args);
    after?.(...args);
    return result;
  });
}

around(
  promises,
  "rename",
  () => reach("before-rename"),
  () => reach("after-rename"),
);
syncBuiltinESMExports();

// Those that the program's packages have, whichever they are.
const ofLevel = createRequire(require.resolve("classic-level"));
const ofNats = createRequire(require.resolve("@nats-io/jetstream"));

const level = ofLevel("abstract-level") as { AbstractChainedBatch: { prototype: object } };
around(
  level.AbstractChainedBatch.prototype,
  "write",
  () => reach("before-batch"),
  () => reach("after-batch"),
);

const nats = ofNats("@nats-io/nats-core/internal") as { NatsConnectionImpl: { prototype: object } };
const isOfLog = (subject: unknown): boolean => /^[^$_].*\.log\./.test(String(subject));
around(
  nats.NatsConnectionImpl.prototype,
  "request",
  (subject) => {
    if (String(subject).includes(".STREAM.PURGE.")) reach("before-trim");
  },
  (subject) => {
    if (isOfLog(subject)) reach("log-acknowledged");
  },
);

const ownNow = Date.now;
Date.now = () => ownNow() + clockOffsetMs;
look();
setInterval(look, pollMs).unref();
