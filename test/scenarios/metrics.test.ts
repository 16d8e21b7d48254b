/** docs/metrics.md is true: its rows are the code's, and a cluster at work shows these metrics with these attributes, and no others. */
import { readFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { eventually, freePort } from "../../libs/base/testing.js";
import { describeMetrics } from "../../libs/telemetry/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";

/** A row of the page. */
interface Documented {
  name: string;
  kind: string;
  unit: string;
  attributes: string[];
  meaning: string;
  /** It counts events, and is not there before the first. */
  isEvent: boolean;
}

/** What only a cluster that follows another one has. */
const ofStandbys = /^kith\.standby\./;

const page = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");
const [metricsPart = "", eventsPart = "", attributesPart = ""] = page.split(/^## .*$/m);
const rowsOf = (text: string): string[][] =>
  text
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.slice(2, -2).split(" | "));
const namesIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name as string);
const documentedIn = (text: string, isEvent: boolean): Documented[] =>
  rowsOf(text).map(([name = "", kind = "", unit = "", attributes = "", meaning = ""]) => ({
    name: namesIn(name).join(),
    kind,
    unit: namesIn(unit).join(),
    attributes: namesIn(attributes).sort(),
    meaning,
    isEvent,
  }));
const documented = [...documentedIn(metricsPart, false), ...documentedIn(eventsPart, true)];

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);

const underscored = (name: string): string => name.replaceAll(".", "_");

/** As the page says that Prometheus calls it. */
function prometheusNameOf({ name, unit, kind }: Documented): string {
  const suffixes: Record<string, string> = { s: "_seconds", By: "_bytes", "1": "_ratio" };
  return underscored(name) + (suffixes[unit] ?? "") + (kind === "counter" ? "_total" : "");
}

interface Shown {
  type: string;
  help: string;
  labels: Set<string>;
}

/** The metrics of a page for Prometheus, by the name of the documentation where one of it is meant. */
function parsePage(text: string): Map<string, Shown> {
  const shown = new Map<string, Shown>();
  for (const [, name, help] of text.matchAll(/^# HELP (\S+) (.*)$/gm)) {
    shown.set(name as string, { type: "", help: help as string, labels: new Set() });
  }
  for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    const metric = shown.get(name as string);
    if (metric !== undefined) metric.type = type as string;
  }
  for (const [, sample = "", labels = ""] of text.matchAll(/^([a-z]\w*)\{(.*)\} \S+/gm)) {
    const metric = shown.get(sample) ?? shown.get(sample.replace(/_(bucket|sum|count)$/, ""));
    for (const [, label] of labels.matchAll(/(\w+)="(?:[^"\\]|\\.)*"/g)) metric?.labels.add(label as string);
  }
  return shown;
}

/** What the exporter adds by itself. */
const ownNames = new Set(["target_info"]);
const ownLabels = /^(le|otel_scope_\w+)$/;

let url = "";
const cluster = useCluster(async () => {
  const port = await freePort();
  url = `http://127.0.0.1:${port}/metrics`;
  const env = {
    OTEL_METRICS_EXPORTER: "prometheus",
    OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
    OTEL_EXPORTER_PROMETHEUS_PORT: String(port),
    OTEL_TRACES_EXPORTER: "none",
    OTEL_LOGS_EXPORTER: "none",
  };
  return startInProcess({ shardNodes: 2, replicas: 2, env });
});

test("the page lists every metric as the code has it", () => {
  const listed = documented.map(({ name, kind, unit, meaning }) => ({ name, kind, unit, description: meaning }));
  const known = describeMetrics();
  expect(listed.sort(byName)).toEqual(known.sort(byName));
});

test("it explains every attribute", () => {
  const explained = new Set(rowsOf(attributesPart).flatMap(([names = ""]) => namesIn(names)));
  expect([...explained].sort()).toEqual([...new Set(documented.flatMap(({ attributes }) => attributes))].sort());
});

test("a cluster at work shows all of them, with these attributes, and no others", async () => {
  const client = await cluster().connect();
  const films = client.collection("films");
  await films.create({ vectors: { dimension: 2, metric: "l2" }, shards: 2 });
  await films.upsert(
    [1, 2, 3, 4].map((id) => ({ id, vector: [id, 1], payload: { year: 1990 + id } })),
    { ack: "all" },
  );
  await films.query({ vector: [1, 1], withPayload: true });
  // Failures have an attribute of their own: of a query, and of a call.
  await expect(films.query({ vector: [1] })).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
  await expect(client.collection("none").info()).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
  await eventually(async () => {
    const response = await fetch(url);
    const shown = parsePage(await response.text());
    for (const name of ownNames) shown.delete(name);
    const names = new Map(documented.map((each) => [prometheusNameOf(each), each]));
    const unknown = [...shown.keys()].filter((name) => !names.has(name));
    const missing = [...names]
      .filter(([name, each]) => !each.isEvent && !ofStandbys.test(each.name) && !shown.has(name))
      .map(([name]) => name);
    expect({ unknown, missing }).toEqual({ unknown: [], missing: [] });
    const found = [...shown].map(([name, { type, help, labels }]) => {
      const own = [...labels].filter((label) => !ownLabels.test(label));
      return { name, type, help, labels: own.sort() };
    });
    const listed = [...names].flatMap(([name, { kind, meaning, attributes }]) =>
      shown.has(name) ? [{ name, type: kind, help: meaning, labels: attributes.map(underscored) }] : [],
    );
    expect(found.sort(byName)).toEqual(listed.sort(byName));
  }, 30_000);
});

test("a collection that is renamed is measured under its new name in all gauges", async () => {
  const client = await cluster().connect();
  const before = client.collection("before");
  await before.create({ vectors: { dimension: 2, metric: "l2" }, shards: 2 });
  const after = client.collection("after");
  const namesIn = (text: string, gauge: string): Set<string> =>
    new Set(
      Array.from(text.matchAll(new RegExp(`^${gauge}\\{.*kith_collection="([^"]+)"`, "gm")), ([, name]) => name ?? ""),
    );
  const gauges = documented.filter(
    ({ name, kind, attributes, isEvent }) =>
      kind === "gauge" && attributes.includes("kith.collection") && !isEvent && !ofStandbys.test(name),
  );
  expect(gauges.length).toBeGreaterThan(5);
  const shows = (name: string): Promise<void> =>
    eventually(async () => {
      const text = await (await fetch(url)).text();
      for (const gauge of gauges) {
        const names = namesIn(text, prometheusNameOf(gauge));
        expect([gauge.name, names.has(name)]).toEqual([gauge.name, true]);
      }
    }, 30_000);
  await before.upsert({ id: 1, vector: [1, 1] }, { ack: "all" });
  await shows("before");
  await before.rename("after");
  await after.upsert({ id: 2, vector: [1, 1] }, { ack: "all" });
  await shows("after");
  await after.drop();
});

interface Rule {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: { summary: string; runbook_url: string };
}

const alertsFile = new URL("../../deploy/prometheus/alerts.yaml", import.meta.url);
const { groups } = parse(readFileSync(alertsFile, "utf8")) as { groups: { name: string; rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

test("alerts use metrics and labels that a cluster at work shows, or that count events", async () => {
  const shown = parsePage(await (await fetch(url)).text());
  const events = new Set(
    documented.filter(({ isEvent, name }) => isEvent || ofStandbys.test(name)).map(prometheusNameOf),
  );
  const used = rules.flatMap(({ alert, expr }) =>
    [...expr.matchAll(/\b((?:kith|rpc)_\w+)(?:\{([^}]*)\})?/g)]
      // Labels that a sum is made by look like metrics.
      .filter(([, name]) => !Object.values(attributesOfAll).includes(name as string))
      .map(([, name = "", labels = ""]) => ({ alert, name, labels })),
  );
  expect(new Set(used.map(({ alert }) => alert)).size).toBe(rules.length);
  for (const { alert, name, labels } of used) {
    const metric = shown.get(name) ?? shown.get(name.replace(/_(bucket|sum|count)$/, ""));
    if (metric === undefined) expect(events, `${alert} uses ${name}`).toContain(name);
    else
      for (const [, label] of labels.matchAll(/(\w+)\s*[=!]/g)) {
        expect([...metric.labels, "error_type"], `${alert}: a label of ${name}`).toContain(label);
      }
  }
  const values = { kith_replica_state: "stale", kith_node_state: "down", kith_memory_kind: "heap" };
  for (const [label, value] of Object.entries(values)) {
    expect(rules.some(({ expr }) => expr.includes(`${label}="${value}"`))).toBe(true);
    expect(attributesPart).toMatch(new RegExp(`\`${value}\``));
  }
});

const attributesOfAll = Object.fromEntries(
  documented.flatMap(({ attributes }) => attributes.map((name) => [name, underscored(name)])),
);

test("each alert says how bad it is, and has a section of the runbooks with what to look at and to do", () => {
  const runbooks = readFileSync(new URL("../../docs/runbooks.md", import.meta.url), "utf8");
  const sections = new Map(
    runbooks
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.slice(0, section.indexOf("\n")), section]),
  );
  expect([...sections.keys()]).toEqual(rules.map(({ alert }) => alert));
  for (const { alert, labels, annotations } of rules) {
    expect(["warning", "critical"]).toContain(labels.severity);
    expect(annotations.summary.length).toBeGreaterThan(10);
    expect(annotations.runbook_url).toBe(`docs/runbooks.md#${alert.toLowerCase()}`);
    expect(sections.get(alert)).toMatch(/\*\*Look\*\*[^]*\*\*Do\*\*/);
  }
});

test.skipIf(spawnSync("promtool", ["--version"]).status !== 0)("promtool takes the rules", () => {
  const { status, stdout, stderr } = spawnSync("promtool", ["check", "rules", fileURLToPath(alertsFile)], {
    encoding: "utf8",
  });
  expect(status, stdout + stderr).toBe(0);
});
