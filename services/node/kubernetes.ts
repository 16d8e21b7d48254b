import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { type Clock, KithError, sleep, toKithError } from "../../libs/base/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

export interface KubernetesOptions {
  /** The process's environment: Kubernetes tells every pod where its API is. */
  env: Record<string, string | undefined>;
  /** Folder with `token`, `namespace` and `ca.crt`. */
  serviceAccount: string;
  clock: Clock;
}

/** One request to the API, and how long it is tried again where Kubernetes does not answer, in milliseconds. */
const requestMs = 2_000;
const retryEveryMs = 500;
/** An object of the API without its list of managed fields has a few KiB. */
const answerBytes = 4 * 1024 * 1024;

const zoneLabel = "topology.kubernetes.io/zone";

interface StatefulSet {
  metadata: { deletionTimestamp?: string };
  spec: { replicas?: number; ordinals?: { start?: number } };
}

interface Machine {
  metadata: { labels?: Record<string, string> };
}

/**
 * Whether the pod is to go because its StatefulSet is to have fewer pods. Not where it is replaced by another one of its name (an update,
 * an eviction), nor where the whole StatefulSet goes: there is nobody then to take its replicas.
 */
export function isScaledIn({ metadata, spec }: StatefulSet, pod: string): boolean {
  const wanted = spec.replicas ?? 1;
  if (metadata.deletionTimestamp !== undefined || wanted === 0) return false;
  const ordinal = Number(/\d+$/.exec(pod)?.[0]);
  return ordinal >= (spec.ordinals?.start ?? 0) + wanted;
}

/** What a pod asks the API of Kubernetes with its service account. */
export class Kubernetes {
  readonly #options: KubernetesOptions;

  constructor(options: KubernetesOptions) {
    this.#options = options;
  }

  /** The zone of a machine by its label; "" where it has none. UNAVAILABLE-like errors are tried again for `withinMs`. */
  async zoneOf(machine: string, withinMs: number, signal?: AbortSignal): Promise<string> {
    const found = (await this.#retried(withinMs, signal, () => this.#get(`/api/v1/nodes/${machine}`))) as Machine;
    return found.metadata.labels?.[zoneLabel] ?? "";
  }

  /** Whether a pod goes because its StatefulSet is scaled in; false, with a warning, where that cannot be known within `withinMs`. */
  async isScaledIn(statefulSet: string, pod: string, withinMs: number, logger: Logger): Promise<boolean> {
    try {
      const namespace = (await this.#read("namespace")).trim();
      const path = `/apis/apps/v1/namespaces/${namespace}/statefulsets/${statefulSet}`;
      return isScaledIn((await this.#retried(withinMs, undefined, () => this.#get(path))) as StatefulSet, pod);
    } catch (error) {
      const { message, details } = toKithError(error);
      // It has been deleted.
      if (details["status"] === 404) return false;
      logger.warn(`this node ends without being drained: whether it is scaled in is not known: ${message}`, {});
      return false;
    }
  }

  /** Again where nobody answers, or with an error of the server; what is refused is refused. */
  async #retried<T>(withinMs: number, signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T> {
    const { clock } = this.#options;
    const endMs = clock.monotonicMs() + withinMs;
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (toKithError(error).code !== "DEADLINE_EXCEEDED" || clock.monotonicMs() > endMs) throw error;
        await sleep(clock, retryEveryMs, signal);
      }
    }
  }

  async #read(name: string): Promise<string> {
    const file = join(this.#options.serviceAccount, name);
    try {
      return await readFile(file, "utf8");
    } catch (cause) {
      throw new KithError(
        "INVALID_CONFIG",
        `Kubernetes cannot be asked: ${(cause as Error).message}; give the pod the token of its service account, or set kubernetes.serviceAccount (KITH_KUBERNETES_SERVICE_ACCOUNT)`,
        { cause },
      );
    }
  }

  async #get(path: string): Promise<unknown> {
    const host = this.#options.env["KUBERNETES_SERVICE_HOST"] ?? "";
    const port = this.#options.env["KUBERNETES_SERVICE_PORT"] ?? "443";
    if (host === "")
      throw new KithError(
        "INVALID_CONFIG",
        "Kubernetes cannot be asked: KUBERNETES_SERVICE_HOST is not set, so this is no pod",
      );
    // Read anew each time: tokens are renewed.
    const [token, ca] = await Promise.all([this.#read("token"), this.#read("ca.crt")]);
    return new Promise((resolve, reject) => {
      const failed = (cause: Error): void =>
        reject(
          new KithError("DEADLINE_EXCEEDED", `Kubernetes at ${host}:${port} does not answer: ${cause.message}`, {
            cause,
          }),
        );
      const headers = { authorization: `Bearer ${token.trim()}`, accept: "application/json" };
      const call = request({ host, port, path, ca, headers, timeout: requestMs }, (response) => {
        const parts: Buffer[] = [];
        let size = 0;
        response.on("data", (part: Buffer) => {
          size += part.length;
          if (size > answerBytes) call.destroy(new Error(`its answer is longer than ${answerBytes} bytes`));
          else parts.push(part);
        });
        response.on("error", failed);
        response.on("end", () => {
          const status = response.statusCode ?? 0;
          if (status >= 500) failed(new Error(`it says ${status}`));
          else if (status !== 200) reject(refused(path, status));
          else resolve(JSON.parse(Buffer.concat(parts).toString()));
        });
      });
      call.on("timeout", () => call.destroy(new Error(`${requestMs} ms are over`)));
      call.on("error", failed);
      call.end();
    });
  }
}

function refused(path: string, status: number): KithError {
  const what =
    status === 404 ? "there is no such object" : "the pod's service account may not get it: its role must allow that";
  return new KithError(
    status === 404 ? "NOT_FOUND" : "FAILED_PRECONDITION",
    `Kubernetes says ${status} to ${path}: ${what}`,
    {
      details: { path, status },
    },
  );
}
