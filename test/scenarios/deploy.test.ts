/** What deploy/ says to Kubernetes and Docker exists: flags, variables, ports, files; and its times fit together. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { openNatsCatalog } from "../../libs/catalog/index.js";
import { NodesView } from "../../libs/cluster/index.js";
import { describeSettings, loadNodeConfig } from "../../libs/config/index.js";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually, freePort } from "../../libs/base/testing.js";
import { connect } from "../../libs/client/index.js";
import { connectNats } from "../../libs/nats/index.js";
import { testNatsBinary } from "../../libs/nats-server/testing.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";
import { program } from "../cluster/processes.js";

interface Probe {
  grpc?: { port: number; service?: string };
  tcpSocket?: { port: string };
  httpGet?: { port: string };
}
interface Container {
  name: string;
  image: string;
  args: string[];
  env: { name: string; value?: string; valueFrom?: object }[];
  ports: { name: string; containerPort: number }[];
  startupProbe?: Probe;
  lifecycle?: { preStop: { exec: { command: string[] } } };
  readinessProbe?: Probe;
  livenessProbe?: Probe;
  resources?: { limits?: { memory?: string } };
}
interface Manifest {
  kind: string;
  metadata: { name: string };
  spec?: {
    replicas?: number;
    serviceName?: string;
    selector?: { matchLabels?: object };
    template?: {
      metadata: { labels: Record<string, string> };
      spec: { terminationGracePeriodSeconds: number; containers: Container[] };
    };
    volumeClaimTemplates?: object[];
  };
  data?: Record<string, string>;
}

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
const folder = join(root, "deploy", "kubernetes");
const { resources } = parse(readFileSync(join(folder, "kustomization.yaml"), "utf8")) as { resources: string[] };
const manifests = resources.flatMap((file) =>
  parseAllDocuments(readFileSync(join(folder, file), "utf8")).map((document) => document.toJS() as Manifest),
);
const workloads = manifests.filter((manifest) => manifest.spec?.template !== undefined);
const containers = workloads.flatMap((workload) => workload.spec?.template?.spec.containers ?? []);
const ours = containers.filter(({ image }) => /^kith(:|$)/.test(image));
/** A file of the configuration of NATS, as its ConfigMap has it. */
function natsFile(name: string): string {
  const text = manifests.find(({ kind }) => kind === "ConfigMap")?.data?.[name];
  if (text === undefined) throw new Error(`there is no ${name}`);
  return text;
}

function workload(name: string): NonNullable<Manifest["spec"]> {
  const found = workloads.find((each) => each.metadata.name === name)?.spec;
  if (found === undefined) throw new Error(`there is no workload ${name}`);
  return found;
}

test("every manifest is listed, and kustomize can put them together", () => {
  const files = readdirSync(folder).filter((file) => file.endsWith(".yaml") && file !== "kustomization.yaml");
  expect([...resources].sort()).toEqual(files.sort());
  expect(ours).toHaveLength(2);
  // Those with TLS are as many; only what they say differs.
  expect(parse(readFileSync(join(`${folder}-tls`, "kustomization.yaml"), "utf8"))).toEqual(
    parse(readFileSync(join(folder, "kustomization.yaml"), "utf8")),
  );
  if (spawnSync("kubectl", ["version", "--client"]).status !== 0) return;
  for (const each of [folder, `${folder}-tls`]) {
    const built = execFileSync("kubectl", ["kustomize", each], { encoding: "utf8" });
    expect(parseAllDocuments(built)).toHaveLength(manifests.length);
    expect(built).toMatch(/image: kith:\d/);
  }
});

test("every flag and variable exists in the program", { timeout: 30_000 }, () => {
  const help = execFileSync(process.execPath, [program, "start", "--help"], { encoding: "utf8" });
  const variables = new Set(describeSettings().map((setting) => setting.variable));
  for (const { args, env } of ours) {
    expect(args[0]).toBe("start");
    for (const flag of args.filter((arg) => arg.startsWith("--"))) expect(help).toMatch(new RegExp(`${flag}[ ,]`));
    for (const { name } of env.filter((each) => each.name.startsWith("KITH_"))) {
      expect(variables.has(name), name).toBe(true);
    }
    const used = args.flatMap((arg) => [...arg.matchAll(/\$\((\w+)\)/g)].map((match) => match[1]));
    for (const name of used) expect(env.map((each) => each.name)).toContain(name);
  }
});

test("the variables of each container make a valid configuration with its roles", () => {
  for (const { args, env } of ours) {
    const roles = args[args.indexOf("--roles") + 1]?.split(",");
    const pod = roles?.includes("shard") === true ? "kith-shard-0" : "kith-router-0";
    const values = Object.fromEntries(env.map(({ name, value }) => [name, value ?? pod]));
    const config = loadNodeConfig({ env: values, flags: { roles, data: "/var/lib/kith", allowInsecure: true } });
    expect(config.log).toMatchObject({ kind: "jetstream", replicas: 3 });
    // As many servers as copies, each named in the URL by the StatefulSet's own names.
    const urls = config.log.kind === "jetstream" ? config.log.url.split(",") : [];
    const user = roles?.includes("router") === true ? "router" : "shard";
    expect(urls).toEqual([0, 1, 2].map((i) => `nats://${user}:$(NATS_PASSWORD)@nats-${i}.nats:4222`));
    expect(workload("nats").replicas).toBe(3);
  }
});

test("probes and services point at ports that are listened on, and the end is given enough time", () => {
  for (const container of containers) {
    const numbers = container.ports.map((port) => port.containerPort);
    const names = container.ports.map((port) => port.name);
    for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe]) {
      expect(probe, `probes of ${container.name}`).toBeDefined();
      if (probe?.grpc) expect(numbers).toContain(probe.grpc.port);
      const named = probe?.tcpSocket?.port ?? probe?.httpGet?.port;
      if (named !== undefined) expect(names).toContain(named);
    }
  }
  for (const { args, ports } of ours) {
    const listen = args[Math.max(args.indexOf("--listen"), args.indexOf("--link-listen")) + 1];
    expect(ports.map((port) => `0.0.0.0:${port.containerPort}`)).toContain(listen);
  }
  for (const name of ["kith-router", "kith-shard"]) {
    const { terminationGracePeriodSeconds, containers: own } = workload(name).template?.spec ?? {
      terminationGracePeriodSeconds: 0,
      containers: [],
    };
    const setting = (variable: string): number =>
      Number(own[0]?.env.find((each) => each.name === variable)?.value ?? Number.NaN);
    const preStopSeconds = Number(own[0]?.lifecycle?.preStop.exec.command[1] ?? 0);
    // A pod that is scaled in gives its replicas away first.
    const giveAwayMs = name === "kith-shard" ? setting("KITH_DRAIN_ON_STOP_MS") : preStopSeconds * 1_000;
    expect(terminationGracePeriodSeconds * 1_000).toBeGreaterThanOrEqual(
      giveAwayMs + setting("KITH_DRAIN_TIMEOUT_MS") + 10_000,
    );
  }
});

test("selectors fit the pods, and what keeps data has a volume", () => {
  for (const { metadata, spec } of workloads) {
    expect(spec?.template?.metadata.labels, metadata.name).toMatchObject(spec?.selector?.matchLabels ?? { none: "" });
  }
  for (const name of ["nats", "kith-shard"]) {
    expect(workload(name).volumeClaimTemplates).toHaveLength(1);
    const service = manifests.find(
      (each) => each.kind === "Service" && each.metadata.name === workload(name).serviceName,
    );
    expect(service, `the headless service of ${name}`).toBeDefined();
  }
  expect(natsFile("nats.conf")).toMatch(/sync_interval: always/);
});

test("the event loop alone decides about life, and limits of memory have room beside the heap", () => {
  for (const { livenessProbe, env, resources: { limits } = {} } of ours) {
    expect(livenessProbe?.grpc?.service).toBe("live");
    const limitMiB = Number(/^(\d+)Gi$/.exec(limits?.memory ?? "")?.[1]) * 1024;
    const options = env.find(({ name }) => name === "NODE_OPTIONS")?.value ?? "";
    const heapMiB = Number(/--max-old-space-size=(\d+)/.exec(options)?.[1]);
    expect(heapMiB).toBeGreaterThan(0);
    expect(heapMiB).toBeLessThan(0.75 * limitMiB);
  }
});

test("NATS is the pinned release everywhere, and the compose file says what the program knows", () => {
  const pinned = /pinnedVersion = "([\d.]+)"/.exec(
    readFileSync(join(root, "libs", "nats-server", "releases.ts"), "utf8"),
  );
  const compose = parse(readFileSync(join(root, "deploy", "compose.yaml"), "utf8"), { merge: true }) as {
    services: Record<string, { image: string; command: string[]; environment?: Record<string, string> }>;
  };
  const images = [...containers, ...Object.values(compose.services)].map(({ image }) => image);
  expect(new Set(images.filter((image) => image.startsWith("nats:")))).toEqual(new Set([`nats:${pinned?.[1]}-alpine`]));
  for (const [name, { image, command, environment = {} }] of Object.entries(compose.services)) {
    if (!image.startsWith("kith:")) continue;
    const roles = command[command.indexOf("--roles") + 1]?.split(",");
    const listen = { host: "0.0.0.0", port: 7700 };
    const flags = {
      roles,
      data: "/var/lib/kith",
      allowInsecure: true,
      ...(name === "router" ? { listen } : { link: { host: "0.0.0.0" } }),
    };
    expect(loadNodeConfig({ env: environment, flags }).nodeId).toBe(environment["KITH_NODE_ID"]);
  }
});

/** nats.conf as it is, for one server on this machine. */
function natsConfigFor(folder: string, port: number): string {
  return natsFile("nats.conf")
    .replace(/^cluster \{[^]*^\}$/m, "")
    .replace("/var/run/nats/nats.pid", join(folder, "nats.pid"))
    .replace("/data", join(folder, "data"))
    .replace(/^port: 4222$/m, `listen: 127.0.0.1:${port}`)
    .replace(/^http: 8222$/m, "");
}

test("NATS lets routers and shard nodes do what they need, shard nodes no more, and others nothing", {
  timeout: 60_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "kith-users-"));
  const port = await freePort();
  writeFileSync(join(folder, "nats.conf"), natsConfigFor(folder, port));
  // What the compose file mounts is the same.
  expect(readFileSync(join(root, "deploy", "nats-users.conf"), "utf8")).toContain(natsFile("nats-users.conf"));
  writeFileSync(join(folder, "nats-users.conf"), natsFile("nats-users.conf"));
  const env = { POD_NAME: "nats-0", NATS_ROUTER_PASSWORD: "of-the-router", NATS_SHARD_PASSWORD: "of-the-shards" };
  const nats = spawn(testNatsBinary(), ["--config", join(folder, "nats.conf")], { env, stdio: "ignore" });
  const closers: (() => Promise<void> | void)[] = [];
  const urlOf = (user: string, password: string): string => `nats://${user}:${password}@127.0.0.1:${port}`;
  const warnings: string[] = [];
  const start = async (id: string, roles: string[], url: string): Promise<RunningNode> => {
    const listen = { host: "127.0.0.1", port: 0 };
    const flags = { nodeId: id, roles, listen, link: listen, log: { kind: "jetstream", url }, data: join(folder, id) };
    const logger = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
    const node = await startNode(loadNodeConfig({ flags }), { version: "test", logger: () => logger });
    closers.push(() => node.close());
    return node;
  };
  try {
    const { address } = await start("router", ["router", "coordinator"], urlOf("router", "of-the-router"));
    await start("shard", ["shard"], urlOf("shard", "of-the-shards"));
    const client = await connect(address);
    closers.push(() => client.close());
    const handle = client.collection("guarded");
    await handle.create({ vectors: { dimension: 2, metric: "l2" } });
    await handle.createPayloadIndex("a", "keyword", { wait: true });
    // What expires is removed by the shard node, through the log.
    await handle.upsert([{ id: 1, vector: [1, 2], payload: { a: "b" } }]);
    await handle.setExpiry([1], Date.now() + 200);
    await handle.upsert({ id: 2, vector: [3, 4] });
    await eventually(async () => expect((await handle.stats()).pointCount).toBe(1), 20_000);
    // A shard node that is scaled in asks for its replicas to be moved.
    const drained = await connectNats({ ...systemRuntime, servers: urlOf("shard", "of-the-shards") });
    closers.push(() => drained.close());
    const catalog = await openNatsCatalog({ ...systemRuntime, nats: drained, cluster: "kith", replicas: 1 });
    closers.push(() => catalog.close());
    const nodes = new NodesView(catalog, systemRuntime.clock);
    closers.push(() => nodes.close());
    await nodes.start();
    await nodes.drain("shard", { isOwn: true });
    await nodes.undrain("shard");
    await handle.drop();
    expect(warnings.filter((each) => /permission/i.test(each))).toEqual([]);
    const link = await connectNats({ ...systemRuntime, servers: urlOf("shard", "of-the-shards") });
    closers.push(() => link.close());
    const stream = { name: "KITH_kith_other-0", subjects: ["kith.kith.log.other-0"] };
    await expect(link.request(() => link.manager.streams.add(stream))).rejects.toThrow();
    await expect(link.request(() => link.manager.streams.delete("KV_KITH_kith"))).rejects.toThrow();
    expect(await link.request(() => link.manager.streams.info("KV_KITH_kith"))).toBeDefined();
    // Nothing of it arrives: not the end of a log, not a key of an administrator, not the log of another cluster.
    const router = await connectNats({ ...systemRuntime, servers: urlOf("router", "of-the-router") });
    closers.push(() => router.close());
    await router.request(() => router.manager.streams.add(stream));
    await router.request(() => router.jetstream.publish("kith.kith.log.other-0", "first"));
    const tries = [
      [link, "kith.kith.log.other-0.seal"],
      [link, "$KV.KITH_kith.keys.0a1b2c3d4e5f6071"],
      [link, "$KV.KITH_kith.collections.guarded"],
      [link, "$JS.API.STREAM.PURGE.KITH_kith_other-0"],
      [router, "kith.other.log.other-0"],
      [router, "$KV.KITH_other.keys.0a1b2c3d4e5f6071"],
      [router, "$JS.API.ACCOUNT.PURGE.KITH"],
    ] as const;
    for (const [from, subject] of tries) {
      const sent = from.connection.request(subject, "{}", { timeout: 500 });
      await expect(sent, subject).rejects.toThrow(/[Pp]ermissions [Vv]iolation/);
    }
    await link.request(() => link.jetstream.publish("kith.kith.log.other-0", "second"));
    const { state } = await router.request(() => router.manager.streams.info(stream.name));
    expect(state.messages).toBe(2);
    const refused = { code: "UNAUTHENTICATED" };
    const wrong = { ...systemRuntime, connectTimeoutMs: 3_000, servers: urlOf("shard", "guessed") };
    await expect(connectNats(wrong)).rejects.toMatchObject(refused);
    await expect(connectNats({ ...wrong, servers: `nats://127.0.0.1:${port}` })).rejects.toMatchObject(refused);
  } finally {
    for (const close of closers.reverse()) await close();
    nats.kill("SIGKILL");
    await once(nats, "exit");
    rmSync(folder, { recursive: true, force: true });
  }
});

test("the image holds what the program reads, and runs as nobody", () => {
  const lines = readFileSync(join(root, "deploy", "Dockerfile"), "utf8").split("\n");
  const copied = lines.flatMap((line) => /^COPY --from=build (.+) \S+$/.exec(line)?.[1]?.split(" ") ?? []);
  expect(copied.length).toBeGreaterThan(4);
  for (const path of copied) expect(existsSync(join(root, path.replace("/src/", ""))), path).toBe(true);
  expect(copied).toEqual(
    expect.arrayContaining([
      "/src/dist",
      "/src/node_modules",
      "/src/libs/ann/build/kith_ann.node",
      "/src/package.json",
    ]),
  );
  // What the package has beside the program, the image has too: files that are made, and read when the program runs.
  const { files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { files: string[] };
  const made = files.filter((file) => /\.(binpb|node)$/.test(file));
  expect(made.length).toBeGreaterThan(2);
  for (const file of made) expect(copied, file).toContain(`/src/${file}`);
  expect(lines.some((line) => /^USER [1-9]\d*/.test(line))).toBe(true);
  const ignored = readFileSync(join(root, "deploy", "Dockerfile.dockerignore"), "utf8").split("\n");
  for (const kept of ignored.filter((line) => line.startsWith("!"))) {
    expect(existsSync(join(root, kept.slice(1))), kept).toBe(true);
  }
});
