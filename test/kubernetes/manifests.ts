/** The parts of the manifests that the rehearsal carries out. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";

export interface EnvVar {
  name: string;
  value?: string;
  valueFrom?: { fieldRef?: { fieldPath: string }; secretKeyRef?: { name: string; key: string } };
}

export interface Probe {
  grpc?: { port: number; service?: string };
  httpGet?: { path: string; port: string };
  periodSeconds?: number;
  failureThreshold?: number;
  timeoutSeconds?: number;
}

export interface Container {
  name: string;
  image: string;
  args: string[];
  env: EnvVar[];
  ports: { name: string; containerPort: number }[];
  startupProbe?: Probe;
  readinessProbe?: Probe;
  livenessProbe?: Probe;
  lifecycle?: { preStop?: { exec: { command: string[] } } };
  volumeMounts?: { name: string; mountPath: string }[];
}

export interface PodTemplate {
  metadata: { labels: Record<string, string> };
  spec: {
    terminationGracePeriodSeconds: number;
    containers: Container[];
    volumes?: { name: string; emptyDir?: object; configMap?: { name: string } }[];
  };
}

export interface WorkloadSpec {
  replicas: number;
  minReadySeconds?: number;
  podManagementPolicy?: "OrderedReady" | "Parallel";
  strategy?: { rollingUpdate: { maxSurge: number; maxUnavailable: number } };
  template: PodTemplate;
  volumeClaimTemplates?: { metadata: { name: string } }[];
}

interface Manifest {
  kind: string;
  metadata: { name: string };
  spec?: WorkloadSpec;
  data?: Record<string, string>;
}

/** Rendered manifests, by kind and name. */
export class Manifests {
  readonly #all: Manifest[];

  private constructor(all: Manifest[]) {
    this.#all = all;
  }

  /** The plain manifests, without or with TLS, or those of a case of the chart. */
  static read(source: "plain" | "plain-tls" | "one-nats"): Manifests {
    const deploy = join(fileURLToPath(import.meta.url), "..", "..", "..", "deploy");
    const folder = join(deploy, source === "plain-tls" ? "kubernetes-tls" : "kubernetes");
    const files =
      source === "one-nats"
        ? [join(deploy, "helm", "rendered", `${source}.yaml`)]
        : readdirSync(folder)
            .filter((file) => file.endsWith(".yaml") && file !== "kustomization.yaml")
            .map((file) => join(folder, file));
    return new Manifests(
      files.flatMap((file) =>
        parseAllDocuments(readFileSync(file, "utf8")).map((document) => document.toJS() as Manifest),
      ),
    );
  }

  /** The only workload of a kind whose name ends so. */
  workload(kind: "StatefulSet" | "Deployment", suffix: string): { name: string; spec: WorkloadSpec } {
    const found = this.#all.filter((each) => each.kind === kind && each.metadata.name.endsWith(suffix));
    const [{ metadata, spec } = { metadata: { name: "" }, spec: undefined }] = found;
    if (found.length !== 1 || spec === undefined) throw new Error(`there is no single ${kind} …${suffix}`);
    return { name: metadata.name, spec: structuredClone(spec) };
  }

  configMap(name: string): Record<string, string> {
    const found = this.#all.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === name);
    if (found?.data === undefined) throw new Error(`there is no ConfigMap ${name}`);
    return found.data;
  }
}
