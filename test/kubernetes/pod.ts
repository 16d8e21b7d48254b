import { spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client, credentials } from "@grpc/grpc-js";
import { sleep, systemClock } from "../../libs/base/index.js";
import { NodeProcess } from "../cluster/child.js";
import { healthOf } from "../cluster/health.js";
import type { PodTemplate, Probe } from "./manifests.js";
import type { PodNetwork } from "./network.js";

/** What a pod finds on its machine and in its cluster. */
export interface Kubelet {
  network: PodNetwork;
  /** Folder of volumes, logs and configurations. */
  folder: string;
  /** The command of an image, without arguments. */
  commandOf: (image: string) => readonly string[];
  /** Programs of images that hooks run, by name. */
  programs: Record<string, string>;
  secretOf: (name: string, key: string) => string;
  configMap: (name: string) => Record<string, string>;
  /** What Kubernetes puts into each container, and where the token of the service account is. */
  env: Record<string, string>;
  /** Periods of probes and pauses are so many times shorter. */
  hurry: number;
}

/** Periods and thresholds that Kubernetes takes where none are given. */
const defaults = { periodSeconds: 10, failureThreshold: 3, timeoutSeconds: 1 };
const namespace = "kith";

/** One pod, from its creation to its end: what the kubelet does with the one container of its template. */
export class Pod {
  readonly #process: NodeProcess;
  readonly #kubelet: Kubelet;
  readonly #volumes = new Map<string, string>();
  #isReady = false;
  #readySinceMs = 0;
  #isDeleted = false;
  /** Monotonic milliseconds when its deletion was asked for. */
  deletedMs = 0;
  /** How it ended: the exit code, or undefined where it was killed. */
  exitCode: number | undefined;
  wasKilled = false;
  readonly gone: Promise<void>;
  #finish: () => void = () => undefined;

  constructor(
    readonly name: string,
    /** Which template it was made of. */
    readonly revision: string,
    readonly template: PodTemplate,
    readonly machine: string,
    kubelet: Kubelet,
    claims: readonly string[] = [],
  ) {
    this.#kubelet = kubelet;
    this.gone = new Promise((resolve) => (this.#finish = resolve));
    this.#mount(claims);
    const [container] = template.spec.containers;
    if (container === undefined) throw new Error(`${name} has no container`);
    const env: Record<string, string> = { PATH: "/usr/bin:/bin", ...kubelet.env };
    for (const { name: variable, value, valueFrom } of container.env) {
      env[variable] = this.#local(expand(value ?? this.#valueFrom(valueFrom), env));
    }
    const args = container.args.map((arg) => this.#local(expand(arg, env)));
    const command = [...kubelet.commandOf(container.image), ...args];
    this.#process = new NodeProcess(name, command, env, join(kubelet.folder, `${name}.log`));
    this.#process.start();
    void this.#live();
  }

  get address(): string {
    return this.#kubelet.network.addressOf(this.name);
  }

  get isReady(): boolean {
    return this.#isReady && !this.#isDeleted;
  }

  get isTerminating(): boolean {
    return this.#isDeleted;
  }

  /** Ready for so long without a break. */
  isAvailable(minReadySeconds: number): boolean {
    const minMs = (minReadySeconds * 1_000) / this.#kubelet.hurry;
    return this.isReady && systemClock.monotonicMs() - this.#readySinceMs >= minMs;
  }

  /** As the kubelet ends a pod: preStop, SIGTERM, and SIGKILL when the grace period is over, which counts from the beginning. */
  delete(): void {
    if (this.#isDeleted) return;
    this.#isDeleted = true;
    this.deletedMs = systemClock.monotonicMs();
    void this.#end();
  }

  /** Ends it without a word. */
  kill(): void {
    this.wasKilled = true;
    this.#isDeleted = true;
    this.#process.signal("SIGKILL");
    void this.#process.exited.then(() => this.#finish());
  }

  async #end(): Promise<void> {
    const graceMs = this.template.spec.terminationGracePeriodSeconds * 1_000;
    const ended = new AbortController();
    const killing = sleep(systemClock, graceMs, ended.signal).then(
      () => {
        this.wasKilled = true;
        this.#process.signal("SIGKILL");
      },
      () => undefined,
    );
    const command = this.template.spec.containers[0]?.lifecycle?.preStop?.exec.command;
    if (command !== undefined) await this.#run(command);
    this.#process.signal("SIGTERM");
    this.exitCode = await this.#process.exited;
    ended.abort();
    await killing;
    this.#finish();
  }

  /** A hook, with the programs and folders that the container has. */
  #run([program = "", ...args]: readonly string[]): Promise<void> {
    const { programs, hurry } = this.#kubelet;
    const given = program === "sleep" ? [String(Number(args[0]) / hurry)] : args.map((arg) => this.#local(arg));
    return new Promise((resolve, reject) => {
      const child = spawn(programs[program] ?? program, given, { stdio: "ignore" });
      child.once("error", reject);
      child.once("exit", () => resolve());
    });
  }

  /** Startup probe, then readiness and liveness side by side. A container that ends, or is not alive, is started again. */
  async #live(): Promise<void> {
    const [container] = this.template.spec.containers;
    while (!this.#isDeleted) {
      const exited = this.#process.exited.then(() => "exited" as const);
      const over = new AbortController();
      const watched = this.#watch(container?.startupProbe, over.signal, "alive").then(async (why) => {
        if (why !== "ok") return why;
        return Promise.race([
          this.#watch(container?.readinessProbe, over.signal, "ready"),
          this.#watch(container?.livenessProbe, over.signal, "dead"),
        ]);
      });
      const why = await Promise.race([exited, watched]);
      over.abort();
      this.#isReady = false;
      if (this.#isDeleted) return;
      if (why !== "exited") await this.#process.end("SIGKILL");
      await sleep(systemClock, 200);
      if (!this.#isDeleted) this.#process.start();
    }
  }

  /** Asks until the answer is what it is waited for: `alive` ends with the first success, `dead` with too many failures, `ready` never. */
  async #watch(probe: Probe | undefined, over: AbortSignal, until: "alive" | "ready" | "dead"): Promise<string> {
    if (probe === undefined) {
      if (until === "ready") this.#setReady(true);
      return until === "alive" ? "ok" : new Promise(() => undefined);
    }
    const { periodSeconds, failureThreshold } = { ...defaults, ...probe };
    let failures = 0;
    for (;;) {
      const isOk = await this.#ask(probe);
      if (over.aborted) return "over";
      failures = isOk ? 0 : failures + 1;
      if (until === "alive" && isOk) return "ok";
      if (until === "ready" && (isOk || failures >= failureThreshold)) this.#setReady(isOk);
      if (until !== "ready" && failures >= failureThreshold) return "failed";
      await sleep(systemClock, (periodSeconds * 1_000) / this.#kubelet.hurry);
    }
  }

  #setReady(isReady: boolean): void {
    if (isReady && !this.#isReady) this.#readySinceMs = systemClock.monotonicMs();
    this.#isReady = isReady;
  }

  async #ask({ grpc, httpGet, timeoutSeconds = defaults.timeoutSeconds }: Probe): Promise<boolean> {
    // On a busy machine an answer may take longer than it would on one of its own.
    const timeoutMs = timeoutSeconds * 1_000 * 3;
    if (grpc !== undefined) {
      const client = new Client(`${this.address}:${grpc.port}`, credentials.createInsecure());
      try {
        const late = sleep(systemClock, timeoutMs).then(() => "late");
        return (await Promise.race([healthOf(client, grpc.service ?? ""), late])) === "SERVING";
      } catch {
        // Nobody listens, or not yet: a probe that fails.
        return false;
      } finally {
        client.close();
      }
    }
    if (httpGet === undefined) return true;
    const port = this.template.spec.containers[0]?.ports.find(({ name }) => name === httpGet.port)?.containerPort;
    try {
      const url = `http://${this.address}:${port}${httpGet.path}`;
      return (await fetch(url, { signal: AbortSignal.timeout(timeoutMs) })).ok;
    } catch {
      return false;
    }
  }

  #valueFrom(from: { fieldRef?: { fieldPath: string }; secretKeyRef?: { name: string; key: string } } = {}): string {
    if (from.secretKeyRef !== undefined) return this.#kubelet.secretOf(from.secretKeyRef.name, from.secretKeyRef.key);
    const fields: Record<string, string> = {
      "metadata.name": this.name,
      "metadata.namespace": namespace,
      "spec.nodeName": this.machine,
    };
    const value = fields[from.fieldRef?.fieldPath ?? ""];
    if (value === undefined) throw new Error(`${this.name}: the rehearsal does not know ${JSON.stringify(from)}`);
    return value;
  }

  /** The container's volumes as folders of this machine: claims stay when the pod goes, everything else goes with it. */
  #mount(claims: readonly string[]): void {
    const { spec } = this.template;
    for (const { name, mountPath } of spec.containers[0]?.volumeMounts ?? []) {
      const isClaim = claims.includes(name);
      const folder = join(this.#kubelet.folder, isClaim ? "claims" : "volumes", `${name}-${this.name}`);
      if (!isClaim) rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true });
      this.#volumes.set(mountPath, folder);
    }
    // When all folders are known: a file may name another volume.
    for (const { name, mountPath } of spec.containers[0]?.volumeMounts ?? []) {
      const configMap = spec.volumes?.find((volume) => volume.name === name)?.configMap?.name;
      const files = configMap === undefined ? {} : this.#kubelet.configMap(configMap);
      for (const [file, text] of Object.entries(files)) {
        writeFileSync(join(this.#volumes.get(mountPath) ?? "", file), this.#local(this.#bound(text)));
      }
    }
  }

  /** NATS is given ports alone, and listens on all addresses: here each pod has its own. */
  #bound(text: string): string {
    return text
      .replace(/^(\s*)port: (\d+)$/gm, `$1listen: "${this.address}:$2"`)
      .replace(/^(\s*)http: (\d+)$/gm, `$1http: "${this.address}:$2"`);
  }

  /** With addresses instead of names, and this machine's folders instead of those of the container. */
  #local(text: string): string {
    let local = this.#kubelet.network.resolve(text, this.name);
    for (const [path, folder] of this.#volumes) {
      // A whole path, not a part of a longer one.
      local = local.replace(new RegExp(`(?<![\\w/.-])${path}(?![\\w-])`, "g"), folder);
    }
    return local;
  }
}

/** $(NAME) as Kubernetes replaces it: by variables that were given before. */
function expand(text: string, env: Record<string, string>): string {
  return text.replace(/\$\((\w+)\)/g, (whole, name: string) => env[name] ?? whole);
}
