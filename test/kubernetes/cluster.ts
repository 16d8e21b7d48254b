import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock, type Timer } from "../../libs/base/index.js";
import { eventually, makeAuthority, makeCertificate } from "../../libs/base/testing.js";
import { Deployment, StatefulSet } from "./controllers.js";
import { Manifests } from "./manifests.js";
import { PodNetwork, Service } from "./network.js";
import type { Kubelet } from "./pod.js";

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
const stepMs = 50;
const token = "of-the-rehearsal";
const zones: Record<string, string> = { "machine-a": "zone-a", "machine-b": "zone-b", "machine-c": "zone-c" };

export interface KubernetesOptions {
  /** The plain manifests, or those with a single NATS server. */
  manifests: "plain" | "one-nats";
  natsBinary: string;
  /** Periods of probes and pauses are so many times shorter than the manifests say; default: 1. */
  hurry?: number;
  shards?: number;
  routers?: number;
}

/** The manifests at work: their commands, environment, probes and signals, as processes of this machine, in the order of the controllers. */
export class KubernetesCluster {
  readonly folder: string;
  readonly shards: StatefulSet;
  readonly routers: Deployment;
  readonly nats: StatefulSet;
  readonly service: Service;
  /** What asked the API, by path. */
  readonly asked: string[] = [];
  readonly #api: Server;
  readonly #images = new Map<string, string>();
  #timer: Timer | undefined;
  #target = "";
  #isKept = false;

  constructor({ manifests: source, natsBinary, hurry = 1, shards, routers }: KubernetesOptions) {
    this.folder = mkdtempSync(join(tmpdir(), "kith-kubernetes-"));
    const manifests = Manifests.read(source);
    const account = join(this.folder, "account");
    mkdirSync(account);
    const authority = makeAuthority(this.folder, "authority");
    const { certificate, key } = makeCertificate(this.folder, "api", authority);
    writeFileSync(join(account, "token"), token);
    writeFileSync(join(account, "namespace"), "kith");
    writeFileSync(join(account, "ca.crt"), authority.certificate);
    this.#api = createServer({ cert: certificate, key }, (request, response) => {
      const answer = request.headers.authorization === `Bearer ${token}` ? this.#answer(request.url ?? "") : 401;
      response.statusCode = typeof answer === "number" ? answer : 200;
      response.end(typeof answer === "number" ? "{}" : JSON.stringify(answer));
    });
    const kubelet: Kubelet = {
      network: new PodNetwork(),
      folder: this.folder,
      hurry,
      commandOf: (image) =>
        image.startsWith("nats:")
          ? [natsBinary]
          : [process.execPath, join(this.#imageOf(image), "dist", "services", "cli", "main.js")],
      programs: { "nats-server": natsBinary },
      secretOf: (_, name) => `p-${name}`,
      configMap: (name) => manifests.configMap(name),
      // The folder of the account is at its usual place in a container; here there is one for all.
      env: { KITH_KUBERNETES_SERVICE_ACCOUNT: account },
    };
    const statefulSet = (suffix: string): StatefulSet => {
      const { name, spec } = manifests.workload("StatefulSet", suffix);
      return new StatefulSet(name, spec, kubelet);
    };
    this.nats = statefulSet("nats");
    this.shards = statefulSet("shard");
    const router = manifests.workload("Deployment", "router");
    this.routers = new Deployment(router.name, router.spec, kubelet);
    if (shards !== undefined) this.shards.spec.replicas = shards;
    if (routers !== undefined) this.routers.spec.replicas = routers;
    this.service = new Service(() =>
      this.routers.pods.filter(({ isReady }) => isReady).map(({ address }) => ({ host: address, port: 7700 })),
    );
    kubelet.env["KUBERNETES_SERVICE_HOST"] = "127.0.0.1";
    this.#kubeletEnv = kubelet.env;
  }

  readonly #kubeletEnv: Record<string, string>;

  /** host:port of the routers' service. */
  get target(): string {
    return this.#target;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#api.listen(0, "127.0.0.1", resolve));
    this.#kubeletEnv["KUBERNETES_SERVICE_PORT"] = String((this.#api.address() as AddressInfo).port);
    this.#target = await this.service.listen();
    process.on("exit", this.#onExit);
    this.#timer = systemClock.every(() => {
      for (const controller of [this.nats, this.shards, this.routers]) controller.step();
    }, stepMs);
    await this.settled();
  }

  /** All workloads are as their specs say. */
  async settled(withinMs = 180_000): Promise<void> {
    await eventually(() => {
      for (const controller of [this.nats, this.shards, this.routers]) {
        if (controller.isSettled) continue;
        const states = controller.pods.map(
          (pod) => `${pod.name}: ${pod.isTerminating ? "ends" : pod.isReady ? "ready" : "not ready"} (${pod.revision})`,
        );
        throw new Error(`${controller.name} is not settled: ${states.join(", ")}`);
      }
    }, withinMs);
  }

  /** As kubectl scale. */
  scale(shards: number): void {
    this.shards.spec = { ...this.shards.spec, replicas: shards };
  }

  /** As an update of everything at once to another image, made of this one with another release. */
  update(release: string): void {
    const image = `kith:${release}`;
    if (!this.#images.has(image)) this.#images.set(image, this.#makeImage(release));
    for (const controller of [this.shards, this.routers]) {
      const spec = structuredClone(controller.spec);
      for (const container of spec.template.spec.containers) container.image = image;
      controller.spec = spec;
    }
  }

  /** Everything anew, with the same image: as kubectl rollout restart. */
  restart(stamp: string): void {
    for (const controller of [this.shards, this.routers]) {
      const spec = structuredClone(controller.spec);
      spec.template.metadata.labels["restarted-at"] = stamp;
      controller.spec = spec;
    }
  }

  logOf(pod: string): string {
    return readFileSync(join(this.folder, `${pod}.log`), "utf8");
  }

  keep(): void {
    if (this.#isKept) return;
    this.#isKept = true;
    process.stderr.write(`logs and volumes of the rehearsal are kept in ${this.folder}\n`);
  }

  async close(): Promise<void> {
    this.#timer?.close();
    const pods = [...this.routers.pods, ...this.shards.pods, ...this.nats.pods];
    for (const pod of pods) pod.kill();
    await Promise.all(pods.map((pod) => pod.gone));
    await this.service.close();
    await new Promise((resolve) => this.#api.close(resolve));
    process.off("exit", this.#onExit);
    if (!this.#isKept) rmSync(this.folder, { recursive: true, force: true });
  }

  readonly #onExit = (): void => {
    for (const pod of [...this.routers.pods, ...this.shards.pods, ...this.nats.pods]) pod.kill();
  };

  #answer(url: string): object | number {
    this.asked.push(url);
    const machine = /^\/api\/v1\/nodes\/(.+)$/.exec(url)?.[1];
    if (machine !== undefined) {
      const zone = zones[machine];
      return zone === undefined ? 404 : { metadata: { labels: { "topology.kubernetes.io/zone": zone } } };
    }
    const { name, spec } = this.shards;
    if (url !== `/apis/apps/v1/namespaces/kith/statefulsets/${name}`) return 403;
    return { metadata: { name }, spec: { replicas: spec.replicas } };
  }

  #imageOf(image: string): string {
    return this.#images.get(image) ?? root;
  }

  /** The program as it is, calling itself by another release. */
  #makeImage(release: string): string {
    const folder = join(this.folder, `image-${release}`);
    mkdirSync(folder);
    cpSync(join(root, "dist"), join(folder, "dist"), {
      recursive: true,
      filter: (path) => !path.includes("simulation") && !path.endsWith(".map") && !path.endsWith(".d.ts"),
    });
    const meta = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as object;
    writeFileSync(join(folder, "package.json"), JSON.stringify({ ...meta, version: release }));
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    for (const built of ["libs/ann/build", "libs/wire/gen"]) {
      mkdirSync(dirname(join(folder, built)), { recursive: true });
      symlinkSync(join(root, built), join(folder, built));
    }
    return folder;
  }
}
