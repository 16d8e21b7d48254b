/**
 * npm run test:fuzz: mutated requests at all doors of a node: gRPC, REST, those for Qdrant's clients, the link, copies and work for backups.
 *
 *   --count N   requests; default 1000000
 *   --seed N    of chance; default: by the time
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { resolveNatsServer, startNatsServer } from "../../libs/nats-server/index.js";
import { fuzz } from "./run.js";
import { startTarget } from "./target.js";

const { values } = parseArgs({ options: { count: { type: "string" }, seed: { type: "string" } } });
/** This file is built into dist/fuzz/test/fuzz. */
const root = join(fileURLToPath(import.meta.url), "..", "..", "..", "..", "..");
const found = await resolveNatsServer({
  searchPath: process.env["PATH"] ?? "",
  cacheDirectory: join(root, ".kith", "cache"),
  log: console.log,
});
if (found.kind !== "binary") throw new Error("the target has a nats-server of its own");
const dataDirectory = mkdtempSync(join(tmpdir(), "kith-fuzz-nats-"));
const nats = await startNatsServer({ binary: found.path, dataDirectory, tied: true });
const seed = Number(values.seed ?? Math.floor(Date.now() / 1_000) % 1_000_000);
const target = await startTarget(nats.url);
console.log(
  `seed ${seed}; recorded: ${target.calls.length} calls, ${target.streams.length} messages of streams, ${target.qdrant.rest.length + target.qdrant.grpc.length} requests of Qdrant's clients, ${target.link.length} bytes of the link`,
);
const { requests, doors, faults, rssMaxBytes, rssEarlyBytes } = await fuzz(
  target,
  Number(values.count ?? 1_000_000),
  seed,
  console.log,
);
for (const [name, { requests: own, answers }] of doors) {
  const shown = [...answers].sort(([, a], [, b]) => b - a).map(([answer, times]) => `${answer} ${times}`);
  console.log(`${name}: ${own} requests: ${shown.join(", ")}`);
}
console.log(
  `${requests} requests, seed ${seed}; memory ${Math.round(rssEarlyBytes / 1024 ** 2)} MiB after a tenth, ${Math.round(rssMaxBytes / 1024 ** 2)} MiB at most`,
);
for (const line of new Set(target.errors.map((each) => each.slice(0, 600)))) console.log(`logged: ${line}`);
for (const fault of faults) console.error(fault);
await target.close();
await nats.stop();
rmSync(dataDirectory, { recursive: true, force: true });
process.exit(faults.length === 0 && target.errors.length === 0 ? 0 : 1);
