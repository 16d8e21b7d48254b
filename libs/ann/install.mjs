// After an installation from a package: the native index that came with it, where this machine loads it, else one that is compiled here.
// Without a compiler the client works all the same, and a server says what is missing; so this never fails an installation.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

function loads() {
  try {
    createRequire(import.meta.url)(join(here, "build", "kith_ann.node"));
    return true;
  } catch {
    return false;
  }
}

if (!loads()) {
  const { status } = spawnSync(process.execPath, [join(here, "build.mjs")], { stdio: "inherit" });
  if (status !== 0)
    console.error("kith: the client works; for a server, run `npm rebuild kith` once there is a C++ compiler");
}
