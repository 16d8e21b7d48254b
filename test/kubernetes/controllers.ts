/** What the StatefulSet and the Deployment controller of Kubernetes do, one step at a time, in their order. */
import { createHash } from "node:crypto";
import type { WorkloadSpec } from "./manifests.js";
import { type Kubelet, Pod } from "./pod.js";

/** Zones of the machines, in turns. */
const machines = ["machine-a", "machine-b", "machine-c"];

export function revisionOf({ template }: WorkloadSpec): string {
  return createHash("sha256").update(JSON.stringify(template)).digest("hex").slice(0, 8);
}

abstract class Controller {
  readonly events: string[] = [];
  /** Pods that were deleted and have ended, in that order. */
  readonly ended: Pod[] = [];

  constructor(
    readonly name: string,
    public spec: WorkloadSpec,
    protected readonly kubelet: Kubelet,
  ) {}

  abstract get pods(): Pod[];
  abstract step(): void;

  /** As many pods as there are to be, all of the newest template and available, and no other. */
  get isSettled(): boolean {
    const { replicas, minReadySeconds = 0 } = this.spec;
    const revision = revisionOf(this.spec);
    const all = this.pods;
    return all.length === replicas && all.every((pod) => pod.revision === revision && pod.isAvailable(minReadySeconds));
  }

  protected create(name: string, machine: number): Pod {
    const { template, volumeClaimTemplates = [] } = this.spec;
    const claims = volumeClaimTemplates.map(({ metadata }) => metadata.name);
    this.events.push(`create ${name}`);
    return new Pod(
      name,
      revisionOf(this.spec),
      structuredClone(template),
      machines[machine % machines.length] as string,
      this.kubelet,
      claims,
    );
  }

  protected delete(pod: Pod): void {
    this.events.push(`delete ${pod.name}`);
    pod.delete();
  }
}

export class StatefulSet extends Controller {
  readonly #pods = new Map<number, Pod>();

  get pods(): Pod[] {
    return [...this.#pods.values()];
  }

  /**
   * Missing pods first, from the lowest ordinal on; then those that are too many, from the highest on; then updates, from the highest on, one at
   * a time, the next when the one before is available. With OrderedReady the first two wait for each other too.
   */
  step(): void {
    const { replicas, podManagementPolicy = "OrderedReady", minReadySeconds = 0 } = this.spec;
    const isOrdered = podManagementPolicy === "OrderedReady";
    for (let ordinal = 0; ordinal < replicas; ordinal++) {
      const pod = this.#pods.get(ordinal);
      if (pod === undefined) this.#add(ordinal);
      if (isOrdered && this.#pods.get(ordinal)?.isAvailable(minReadySeconds) !== true) return;
    }
    const tooMany = [...this.#pods.keys()].filter((ordinal) => ordinal >= replicas).sort((a, b) => b - a);
    for (const ordinal of tooMany) {
      const pod = this.#pods.get(ordinal);
      if (pod !== undefined && !pod.isTerminating) this.delete(pod);
      if (isOrdered) return;
    }
    if (tooMany.length > 0 && isOrdered) return;
    const revision = revisionOf(this.spec);
    for (let ordinal = replicas - 1; ordinal >= 0; ordinal--) {
      const pod = this.#pods.get(ordinal);
      if (pod === undefined) return;
      if (pod.revision !== revision && !pod.isTerminating) {
        this.delete(pod);
        return;
      }
      if (!pod.isAvailable(minReadySeconds)) return;
    }
  }

  #add(ordinal: number): void {
    const pod = this.create(`${this.name}-${ordinal}`, ordinal);
    this.#pods.set(ordinal, pod);
    void pod.gone.then(() => {
      if (this.#pods.get(ordinal) === pod) this.#pods.delete(ordinal);
      this.ended.push(pod);
    });
  }
}

export class Deployment extends Controller {
  readonly #pods = new Set<Pod>();
  #count = 0;

  get pods(): Pod[] {
    return [...this.#pods];
  }

  /** New pods as far as the surge lets it, old ones as far as enough are available. */
  step(): void {
    const { replicas, strategy, minReadySeconds = 0 } = this.spec;
    const { maxSurge = 1, maxUnavailable = 0 } = strategy?.rollingUpdate ?? {};
    const revision = revisionOf(this.spec);
    const all = this.pods.filter((pod) => !pod.isTerminating);
    const fresh = all.filter((pod) => pod.revision === revision);
    const old = all.filter((pod) => pod.revision !== revision);
    const available = all.filter((pod) => pod.isAvailable(minReadySeconds)).length;
    if (fresh.length < replicas && all.length < replicas + (old.length === 0 ? 0 : maxSurge)) {
      // Ordinals in the names, so that the rehearsal's addresses can be told from them.
      const pod = this.create(`${this.name}-${this.#count}`, this.#count++);
      this.#pods.add(pod);
      void pod.gone.then(() => {
        this.#pods.delete(pod);
        this.ended.push(pod);
      });
      return;
    }
    const surplus = old[0] ?? (fresh.length > replicas ? fresh.at(-1) : undefined);
    if (surplus !== undefined && available - (surplus.isReady ? 1 : 0) >= replicas - maxUnavailable) {
      this.delete(surplus);
    }
  }
}
