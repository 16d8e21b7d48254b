import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
/** Kept between runs and ignored by git. */
const cache = join(root, ".kith", "cache");

/** The newest release whose sources Go 1.19 builds, which is what Debian 12 has. */
const grpcurlVersion = "1.9.1";
const requirements = join(root, "examples", "python", "requirements.txt");

/** Building grpcurl compiles a gRPC library: about a minute and a half of two cores (measured). */
const buildTimeoutMs = 8 * 60_000;
const checkTimeoutMs = 30_000;

type Log = (line: string) => void;

/** A Python with what the example in Python needs, in a virtual environment of the cache. Rejects with what is missing. */
export async function examplePython(log: Log): Promise<string> {
  const python = onPath("python3");
  if (python === undefined) {
    throw new Error("the example in Python needs python3 on the PATH, with its module venv (Debian: python3-venv)");
  }
  const { stdout: version } = await run(python, ["--version"], { timeout: checkTimeoutMs });
  const key = createHash("sha256").update(version).update(readFileSync(requirements)).digest("hex").slice(0, 16);
  return cached(`python-${key}`, join("bin", "python"), async (directory) => {
    log(`making a virtual environment for the example in Python with ${python}, some seconds`);
    try {
      await run(python, ["-m", "venv", directory], { timeout: buildTimeoutMs });
      const pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "-r", requirements];
      await run(join(directory, "bin", "python"), pip, { timeout: buildTimeoutMs });
    } catch (error) {
      throw new Error(
        `the example in Python needs a virtual environment with ${requirements}, and it cannot be made: ${reasonOf(error)}. ` +
          "Install the module venv (Debian: python3-venv), and let pip reach a package index",
        { cause: error },
      );
    }
  });
}

/** grpcurl from the search path or the cache, else built into the cache. Rejects with what is missing. */
export async function exampleGrpcurl(log: Log): Promise<string> {
  const installed = onPath("grpcurl");
  if (installed !== undefined) return installed;
  return cached(`grpcurl-${grpcurlVersion}`, "grpcurl", async (directory) => {
    const needed = `the example with grpcurl needs it on the PATH, or Go to build grpcurl ${grpcurlVersion} with`;
    const go = onPath("go");
    if (go === undefined) throw new Error(`${needed}, and neither is there: install one of them`);
    log(`building grpcurl ${grpcurlVersion} with ${go}, one or two minutes`);
    mkdirSync(directory);
    try {
      await run(go, ["install", `github.com/fullstorydev/grpcurl/cmd/grpcurl@v${grpcurlVersion}`], {
        cwd: directory,
        env: { ...process.env, GOBIN: directory, GOFLAGS: "-mod=mod" },
        timeout: buildTimeoutMs,
        maxBuffer: 16 * 1024 * 1024,
      });
    } catch (error) {
      throw new Error(`${needed}, and go install failed: ${reasonOf(error)}`, { cause: error });
    }
  });
}

/** The program in a folder of the cache, which `make` fills where it is not there. Others see all of the folder or nothing. */
async function cached(name: string, program: string, make: (directory: string) => Promise<void>): Promise<string> {
  const directory = join(cache, name);
  const path = join(directory, program);
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  const temporary = `${directory}.${randomBytes(6).toString("hex")}`;
  try {
    await make(temporary);
    // Another run may have been faster.
    if (!existsSync(path)) renameSync(temporary, directory);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return path;
}

function onPath(name: string): string | undefined {
  const paths = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return paths.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What a program said last before it failed. */
function reasonOf(error: unknown): string {
  const { stderr = "", message } = error as Error & { stderr?: string };
  return stderr.trim().split("\n").at(-1) || message;
}
