/**
 * What `npm pack` gives, installed by npm from a registry into an empty project, with all that it depends on: it is used from ESM, CommonJS and TypeScript, its client
 * loads nothing of the server, and its program serves. Skipped where no registry answers.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
const { dependencies, devDependencies, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  version: string;
};
/** Packages that the client may load, with what belongs to them. */
const ofClient = [
  "@bufbuild/protobuf",
  "@grpc/grpc-js",
  "@grpc/proto-loader",
  "@opentelemetry/api",
  "@opentelemetry/api-logs",
];
const installTimeoutMs = 300_000;

const asked = spawnSync("npm", ["view", `csv-parse@${dependencies["csv-parse"]}`, "version"], { timeout: 30_000 });
const isReachable = asked.status === 0;
if (!isReachable)
  console.log(`no registry answers, so that nothing is installed: ${String(asked.stderr).slice(0, 200)}`);

let folder: string;
let project: string;

beforeAll(() => {
  if (!isReachable) return;
  folder = mkdtempSync(join(tmpdir(), "kith-installed-"));
  const packed = execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], {
    cwd: root,
  });
  project = join(folder, "project");
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{ "name": "empty", "private": true }');
  const tools = ["typescript", "@types/node"].map((name) => `${name}@${devDependencies[name]}`);
  const names = [join(folder, packed.toString().trim()), ...tools];
  execFileSync("npm", ["install", "--no-fund", "--no-audit", "--loglevel", "error", ...names], {
    cwd: project,
    timeout: installTimeoutMs,
  });
}, installTimeoutMs);
afterAll(() => {
  if (isReachable) rmSync(folder, { recursive: true, force: true });
});

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd: project, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

test.skipIf(!isReachable)("the dependency tree is whole, and nothing of the tests comes along", () => {
  run("npm", "ls", "--omit=dev");
  const installed = join(project, "node_modules", "kith");
  for (const path of ["docs", "proto/kith/v1/points.proto", "dist/services/cli/main.js", "client/index.cjs"]) {
    expect(existsSync(join(installed, path)), path).toBe(true);
  }
  for (const path of ["test", "bench", "dist/bench", "dist/libs/client/testing"]) {
    expect(existsSync(join(installed, path)), path).toBe(false);
  }
  expect(existsSync(join(project, "node_modules", "vitest"))).toBe(false);
});

test.skipIf(!isReachable)("the client works from ESM and CommonJS, and loads nothing of the server", () => {
  const use = 'connect("127.0.0.1:1").catch((error) => console.log(error instanceof KithError, error.code));';
  writeFileSync(join(project, "a.mjs"), `import { connect, KithError } from "kith";\n${use}`);
  writeFileSync(join(project, "a.cjs"), `const { connect, KithError } = require("kith");\n${use}`);
  for (const file of ["a.mjs", "a.cjs"]) {
    expect(run(process.execPath, file), file).toBe("true SERVER_UNREACHABLE\n");
  }
  // With the server's packages gone it works all the same.
  for (const name of Object.keys(dependencies)) {
    if (ofClient.includes(name) || name === "robust-predicates") continue;
    run("mv", join("node_modules", name), `${join("node_modules", name)}.away`);
  }
  try {
    for (const file of ["a.mjs", "a.cjs"]) expect(run(process.execPath, file), file).toBe("true SERVER_UNREACHABLE\n");
  } finally {
    for (const name of Object.keys(dependencies)) {
      const away = join(project, "node_modules", `${name}.away`);
      if (existsSync(away)) run("mv", away, join("node_modules", name));
    }
  }
});

test.skipIf(!isReachable)(
  "TypeScript reads its types, in the ways of Node and of bundlers",
  {
    timeout: installTimeoutMs,
  },
  () => {
    const text = `import { connect, type CollectionHandle, type Id, KithError, type Point, where } from "kith";
    interface Film { title: string; year: number }
    const film = where<Film>();
    export async function late(handle: CollectionHandle<Film>): Promise<(Film | undefined)[]> {
      const { points } = await handle.query({ vector: [1, 2], filter: film.range("year", { gte: 1990 }), limit: 3 });
      return points.map((point: Point<Film>) => point.payload);
    }
    export const idOf = (point: Point): Id => point.id;
    export const isGone = (error: unknown): boolean => error instanceof KithError && error.code === "COLLECTION_NOT_FOUND";
    export const none = async () => (await connect()).collection("c").upsertMany([{ id: 1, vector: [1] }]);
    // @ts-expect-error there is no such option
    export const wrong = async () => (await connect()).collection("c").query({ vectr: [1] });
    // @ts-expect-error there is no such field
    export const typo = film.equals("yaer", 1);`;
    for (const file of ["b.mts", "b.cts", "b.ts"]) writeFileSync(join(project, file), text);
    const check = (...args: string[]): void => {
      const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--types", "node"];
      run(process.execPath, join("node_modules", "typescript", "bin", "tsc"), ...options, ...args);
    };
    check("--module", "node16", "b.mts", "b.cts", "b.ts");
    check("--module", "esnext", "--moduleResolution", "bundler", "b.mts", "b.ts");
    check("--module", "nodenext", "--exactOptionalPropertyTypes", "b.mts");
  },
);

test.skipIf(!isReachable)(
  "the program serves, with the native index that came along",
  { timeout: 60_000 },
  async () => {
    expect(run("npx", "--no-install", "kith", "--version")).toBe(`${version}\n`);
    const program = join(project, "node_modules", ".bin", "kith");
    const server = spawn(program, ["dev", "--port", "0", "-o", "json"], { cwd: project });
    try {
      const line = await new Promise<string>((resolve, reject) => {
        server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
        server.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
      });
      const { target } = JSON.parse(line) as { target: string };
      writeFileSync(join(project, "rows.csv"), 'id,vector,title\n1,"[1,2]",a\n2,"[5,5]",b\n');
      expect(run(program, "import", "rows.csv", "-c", "films", "--create", "-m", "l2", "--target", target)).toContain(
        "imported 2 points",
      );
      expect(run(program, "search", "films", "--vector", "5,4", "-n", "1", "-o", "json", "--target", target)).toContain(
        '"id":2',
      );
    } finally {
      server.removeAllListeners("exit");
      server.kill("SIGTERM");
    }
  },
);
