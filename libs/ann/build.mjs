// Compiles libs/ann/native into libs/ann/build/kith_ann.node with the machine's C++ compiler alone: no node-gyp, no
// download. Every kernel unit is compiled for its own instruction set, the rest for the base one; which kernels run is
// decided at run time, so one binary serves every CPU of an architecture.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const sources = join(here, "native");
const output = join(here, "build");
const addon = join(output, "kith_ann.node");
const stamp = join(output, "stamp");

const avx512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c", "-mbmi2"];
// GCC 12 takes the "undefined" intrinsics of its own headers for uninitialised variables. Clang does not, and knows the second warning by no name.
const quiet = ["-Wno-uninitialized", "-Wno-maybe-uninitialized", "-Wno-unknown-warning-option"];
const kernelUnits = {
  x64: {
    "kernels_portable.cpp": ["-O3"],
    "kernels_avx2.cpp": ["-O3", "-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "kernels_avx512.cpp": ["-O3", ...avx512, ...quiet],
    "kernels_avx512_vnni.cpp": ["-O3", ...avx512, "-mavx512vnni", ...quiet],
    "kernels_avx512_popcnt.cpp": ["-O3", ...avx512, "-mavx512vpopcntdq", ...quiet],
    "kernels_avx512_bf16.cpp": ["-O3", ...avx512, "-mavx512bf16", ...quiet],
  },
  arm64: { "kernels_portable.cpp": ["-O3"], "kernels_neon.cpp": ["-O3"] },
};

function fail(message) {
  console.error(`libs/ann: ${message}`);
  process.exit(1);
}

function findCompiler() {
  const wanted = process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"];
  for (const name of wanted) {
    const answer = spawnSync(name, ["--version"], { encoding: "utf8" });
    if (answer.status === 0) return { name, version: answer.stdout.split("\n")[0] };
  }
  return fail(
    `no C++ compiler found (tried ${wanted.join(", ")}). The native index is compiled when the project is installed. ` +
      "Install one and run `npm run build:native`: Debian or Ubuntu `apt-get install g++`, Fedora `dnf install gcc-c++`, " +
      "Alpine `apk add g++`, macOS `xcode-select --install`.",
  );
}

/** The headers of two npm packages, in the nearest node_modules above this folder that holds them. */
function includeFolders() {
  return ["usearch", "node-api-headers"].map((name) => {
    for (let folder = here; ; folder = dirname(folder)) {
      const include = join(folder, "node_modules", name, "include");
      if (existsSync(include)) return include;
      if (folder === dirname(folder))
        return fail(`the headers of the package ${name} are missing; run \`npm ci\` first`);
    }
  });
}

function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.stderr.on("data", (chunk) => (text += chunk));
    child.on("error", (error) => resolve({ status: 1, text: String(error) }));
    child.on("close", (status) => resolve({ status, text }));
  });
}

/** Runs the jobs, as many at a time as there are cores. */
async function runAll(jobs) {
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      const { status, text } = await run(job.command, job.args);
      if (status !== 0) fail(`${job.command} ${job.args.join(" ")}\n${text}`);
      if (text) process.stderr.write(text);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

const started = performance.now();
const compiler = findCompiler();
const includes = includeFolders();
const perArchitecture = kernelUnits[process.arch] ?? { "kernels_portable.cpp": ["-O3"] };
const files = readdirSync(sources).sort();
const units = files.filter(
  (name) => name.endsWith(".cpp") && (!name.startsWith("kernels_") || name in perArchitecture),
);
const common = [
  "-std=c++17",
  "-fPIC",
  "-fvisibility=hidden",
  "-pthread",
  "-DNDEBUG",
  "-DNAPI_VERSION=8",
  "-Wall",
  "-Wextra",
];
const link = process.platform === "darwin" ? ["-bundle", "-undefined", "dynamic_lookup"] : ["-shared", "-pthread"];

const hash = createHash("sha256").update(
  JSON.stringify([compiler, common, link, perArchitecture, process.arch, process.platform]),
);
for (const name of files) hash.update(name).update(readFileSync(join(sources, name)));
hash.update(readFileSync(join(includes[0], "usearch", "index.hpp")));
const fingerprint = hash.digest("hex");
if (existsSync(addon) && existsSync(stamp) && readFileSync(stamp, "utf8") === fingerprint) {
  console.log("libs/ann: native index is up to date");
  process.exit(0);
}

// Two builds at once (two checkouts of the same folder, say) must not mix their objects.
const objects = join(output, `objects-${process.pid}`);
mkdirSync(objects, { recursive: true });
try {
  const includeFlags = includes.flatMap((folder) => ["-isystem", folder]);
  await runAll(
    units.map((name) => ({
      command: compiler.name,
      args: [
        ...common,
        ...(perArchitecture[name] ?? [["codec.cpp", "product.cpp", "rotation.cpp"].includes(name) ? "-O3" : "-O2"]),
        ...includeFlags,
        "-c",
        join(sources, name),
        "-o",
        join(objects, `${name}.o`),
      ],
    })),
  );
  const built = join(objects, "kith_ann.node");
  await runAll([
    { command: compiler.name, args: [...link, ...units.map((name) => join(objects, `${name}.o`)), "-o", built] },
  ]);
  // By rename: a process that has the old file open keeps it.
  renameSync(built, addon);
  writeFileSync(stamp, fingerprint);
} finally {
  rmSync(objects, { recursive: true, force: true });
}
console.log(
  `libs/ann: built the native index with ${compiler.version} in ${((performance.now() - started) / 1000).toFixed(1)} s`,
);
