// npm run audit:packages: writes dist/sbom.json (CycloneDX), what the program is made of, and asks the registry for known faults of it.
// Ends with 1 where a fault is high or critical, or a package has no checksum in the lock file. Without a registry it says that nobody was
// asked; with --required that is a failure, too.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const npm = (...args) => spawnSync("npm", args, { cwd: root, encoding: "utf8", maxBuffer: 256 << 20 });
const failures = [];

const sbom = npm("sbom", "--sbom-format", "cyclonedx", "--omit", "dev", "--package-lock-only");
if (sbom.status !== 0) throw new Error(`npm sbom: ${sbom.stderr}`);
const { components } = JSON.parse(sbom.stdout);
mkdirSync(join(root, "dist"), { recursive: true });
writeFileSync(join(root, "dist", "sbom.json"), sbom.stdout);
console.log(`dist/sbom.json: ${components.length} packages`);

const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
const unchecked = Object.entries(packages).filter(([path, { integrity, link }]) => path !== "" && !integrity && !link);
if (unchecked.length > 0) failures.push(`without a checksum: ${unchecked.map(([path]) => path).join(", ")}`);

const audit = npm("audit", "--omit", "dev", "--json");
const answer = audit.stdout.trim() === "" ? {} : JSON.parse(audit.stdout);
if (answer.metadata === undefined) {
  const why = answer.message ?? answer.error?.summary ?? audit.stderr.trim().split("\n").at(-1);
  console.log(`known faults: not asked, because the registry does not answer (${why})`);
  if (process.argv.includes("--required")) failures.push("the registry was not asked for known faults");
} else {
  const { high = 0, critical = 0, ...rest } = answer.metadata.vulnerabilities;
  console.log(`known faults: ${critical} critical, ${high} high, ${rest.moderate ?? 0} moderate, ${rest.low ?? 0} low`);
  if (high + critical > 0) failures.push(`known faults in ${Object.keys(answer.vulnerabilities).join(", ")}`);
}
for (const failure of failures) console.error(failure);
process.exitCode = failures.length === 0 ? 0 : 1;
