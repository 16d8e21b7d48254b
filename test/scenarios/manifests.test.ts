/**
 * The Helm chart and what is rendered from it: each manifest is valid by the types of Kubernetes, with no key that they do not know, keeps the
 * restricted pod security standard, and is that of the chart as it is now. The rendering itself, with helm: npm run test:helm.
 */
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
type Tree = { [key: string]: Json };
/** What every manifest has. */
interface Manifest extends Tree {
  apiVersion: string;
  kind: string;
  metadata: { name: string };
}

const require = createRequire(import.meta.url);
const deploy = join(fileURLToPath(import.meta.url), "..", "..", "..", "deploy");
const chart = join(deploy, "helm", "kith");
const read = (...path: string[]): string => readFileSync(join(deploy, ...path), "utf8");

/** Every manifest of a folder, by its file. */
function manifestsOf(folder: string): [string, Manifest][] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".yaml") && file !== "kustomization.yaml")
    .flatMap((file) =>
      parseAllDocuments(readFileSync(join(folder, file), "utf8")).map((document): [string, Manifest] => {
        const manifest = document.toJS() as Manifest;
        return [`${file}: ${manifest.kind} ${manifest.metadata.name}`, manifest];
      }),
    );
}

const manifests = [
  ...manifestsOf(join(deploy, "kubernetes")),
  ...manifestsOf(join(deploy, "kubernetes-tls")),
  ...manifestsOf(join(deploy, "helm", "rendered")),
];

/** A model of a Kubernetes type, which checks what it is given by the type's OpenAPI schema. */
type Model = new (manifest: unknown) => { validate(): void };

/** The module of a type. */
function typeOf({ apiVersion, kind }: Manifest): string {
  const isOperator = apiVersion.startsWith("monitoring.coreos.com/");
  return `${isOperator ? "@kubernetes-models/prometheus-operator" : "kubernetes-models"}/${apiVersion}/${kind}`;
}

/** What was read of a tree, by path: a schema reads each key that it knows. */
function recording(tree: Json, path: string, seen: Set<string>): unknown {
  if (typeof tree !== "object" || tree === null) return tree;
  return new Proxy(tree, {
    get(target, key) {
      const value = Reflect.get(target, key) as Json;
      if (typeof key === "symbol") return value;
      seen.add(`${path}/${key}`);
      return typeof value === "function" ? value : recording(value, `${path}/${key}`, seen);
    },
  });
}

function pathsOf(tree: Json, path = ""): string[] {
  if (typeof tree !== "object" || tree === null) return [];
  return Object.entries(tree).flatMap(([key, value]) => [`${path}/${key}`, ...pathsOf(value, `${path}/${key}`)]);
}

/** The keys of a manifest that its type does not know. */
function unknownKeys(manifest: Manifest): string[] {
  const schema = require(schemaOf(typeOf(manifest))) as { validate(data: unknown): boolean };
  const seen = new Set<string>();
  schema.validate(recording(manifest, "", seen));
  return pathsOf(manifest).filter((path) => !seen.has(path));
}

/** The file of a type's schema, which its model loads. */
function schemaOf(type: string): string {
  const file = require.resolve(type);
  const [, schema] = /require\("([^"]*_schemas\/[^"]*)"\)/.exec(readFileSync(file, "utf8")) ?? [];
  if (schema === undefined) throw new Error(`${file} loads no schema`);
  return schema.startsWith(".") ? join(file, "..", schema) : schema;
}

/** Throws where the manifest is not of its type; gives the keys that the type does not know. */
function judge(manifest: Manifest): string[] {
  const model = (require(typeOf(manifest)) as Record<string, Model>)[manifest.kind] as Model;
  new model(structuredClone(manifest)).validate();
  return unknownKeys(manifest);
}

test.each(manifests)("%s is valid by its type, with no key that it does not know", (_, manifest) => {
  expect(judge(manifest)).toEqual([]);
});

test("a wrong manifest is found", () => {
  const [, good] = manifests.find(([name]) => name === "shard.yaml: StatefulSet kith-shard") ?? [];
  const changed = (change: (spec: Record<string, Json>, pod: Record<string, Json>) => void): Manifest => {
    const copy = structuredClone(good) as Manifest;
    const spec = copy["spec"] as Tree;
    change(spec, (spec["template"] as Tree)["spec"] as Tree);
    return copy;
  };
  expect(judge(changed((spec) => (spec["replicaz"] = 1)))).toEqual(["/spec/replicaz"]);
  expect(judge(changed((_, pod) => (((pod["containers"] as Tree[])[0] as Tree)["imag"] = "x")))).toEqual([
    "/spec/template/spec/containers/0/imag",
  ]);
  expect(() => judge(changed((spec) => (spec["replicas"] = "3")))).toThrow(/must be integer/);
  expect(() => judge(changed((spec) => delete spec["selector"]))).toThrow(/required property selector/);
});

interface PodSpec {
  automountServiceAccountToken?: boolean;
  securityContext?: { runAsNonRoot?: boolean; seccompProfile?: { type?: string } };
  volumes?: Tree[];
  containers: {
    securityContext?: { allowPrivilegeEscalation?: boolean; capabilities?: { drop?: string[]; add?: string[] } };
    volumeMounts?: { name: string }[];
  }[];
}

function podsOf(manifest: Manifest): PodSpec[] {
  if (manifest.kind === "Pod") return [manifest["spec"] as unknown as PodSpec];
  const template = (manifest["spec"] as { template?: { spec: PodSpec } } | undefined)?.template;
  return template === undefined ? [] : [template.spec];
}

test("every pod keeps the restricted pod security standard", () => {
  const pods = manifests.flatMap(([name, manifest]) => podsOf(manifest).map((pod): [string, PodSpec] => [name, pod]));
  expect(pods.length).toBeGreaterThan(8);
  const volumes = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
  ];
  for (const [name, { securityContext, containers, volumes: own = [] }] of pods) {
    expect(securityContext, name).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    for (const { securityContext: inner } of containers) {
      expect(inner, name).toMatchObject({ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } });
      expect(inner?.capabilities?.add, name).toBeUndefined();
    }
    for (const volume of own) expect(volumes, name).toContain(Object.keys(volume).find((key) => key !== "name"));
  }
});

test("the manifests are rendered from the chart as it is", async () => {
  const render = (await import(join(deploy, "helm", "render.mjs"))) as { chartDigest(): string };
  expect(read("helm", "rendered", "chart.sha256").trim(), "run npm run render:manifests").toBe(render.chartDigest());
  expect(read("helm", "kith", "files", "alerts.yaml"), "run npm run render:manifests").toBe(
    read("prometheus", "alerts.yaml"),
  );
});

interface Schema {
  type?: string;
  description?: string;
  additionalProperties?: boolean | object;
  properties?: Record<string, Schema>;
}

/** Values without a schema, and objects of the schema that let through what they do not name. */
function undescribed(values: Json, schema: Schema | undefined, path: string): string[] {
  if (schema === undefined) return [path];
  const { properties, description = "", additionalProperties } = schema;
  const faults = path === "" || description !== "" ? [] : [path];
  if (properties === undefined || typeof values !== "object" || values === null) return faults;
  if (additionalProperties !== false && path !== ".global") faults.push(`${path} is open`);
  const of = (key: string): string[] => undescribed((values as Tree)[key] ?? null, properties[key], `${path}.${key}`);
  return [...faults, ...[...new Set([...Object.keys(values), ...Object.keys(properties)])].flatMap(of)];
}

test("each value of the chart has a schema with its description, and no other value is taken", () => {
  for (const folder of [chart, join(chart, "charts", "nats")]) {
    const values = parse(readFileSync(join(folder, "values.yaml"), "utf8")) as Tree;
    const schema = JSON.parse(readFileSync(join(folder, "values.schema.json"), "utf8")) as Schema;
    expect(undescribed(values, schema, "")).toEqual([]);
  }
});

test("the chart has the release of the program and the pinned NATS", () => {
  const { version } = JSON.parse(readFileSync(join(deploy, "..", "package.json"), "utf8")) as { version: string };
  const {
    appVersion,
    version: own,
    dependencies,
  } = parse(read("helm", "kith", "Chart.yaml")) as Record<string, unknown>;
  expect([appVersion, own]).toEqual([version, version]);
  const nats = parse(read("helm", "kith", "charts", "nats", "Chart.yaml")) as Record<string, string>;
  expect(dependencies).toMatchObject([{ name: "nats", version: nats["version"], condition: "nats.enabled" }]);
  const { image } = parse(read("helm", "kith", "charts", "nats", "values.yaml")) as { image: { tag: string } };
  expect(image.tag).toBe(`${nats["appVersion"]}-alpine`);
});
