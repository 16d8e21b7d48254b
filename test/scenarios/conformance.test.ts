/** The scenarios that every SDK passes (test/conformance/scenarios.json), here in TypeScript; libs/client-python/tests runs the same. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KithError, type KithClient } from "../../libs/client/index.js";
import { filterFromJson, parseFilter } from "../../libs/filter/index.js";
import { parseJson } from "../../libs/model/index.js";
import { filterToWire, pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";

interface Step {
  call: string;
  args?: unknown[];
  options?: Record<string, unknown>;
  /** What must be in the answer: objects may have more, lists may not. */
  expect?: unknown;
  /** Code of the error that must come instead. */
  error?: string;
}

function read(name: string): unknown {
  return JSON.parse(readFileSync(join(import.meta.dirname, "..", "conformance", name), "utf8"));
}

const { scenarios } = read("scenarios.json") as { scenarios: { name: string; steps: Step[] }[] };

let client: KithClient;
useCluster(startInProcess, async (started) => {
  client = await started.connect();
});

function named(value: unknown, name: string): unknown {
  return JSON.parse(JSON.stringify(value).replaceAll("$name", name)) as unknown;
}

async function answerOf({ call, args = [], options }: Step, name: string): Promise<unknown> {
  const [group, method = ""] = call.includes(".") ? call.split(".") : [undefined, call];
  const owner = (group === undefined ? client.collection(name) : client[group as "cluster"]) as unknown as Record<
    string,
    (...args: unknown[]) => unknown
  >;
  const given = [...args, ...(options === undefined ? [] : [options])];
  const answer = owner[method]?.(...given);
  if (answer !== null && typeof answer === "object" && Symbol.asyncIterator in answer) {
    const all: unknown[] = [];
    for await (const each of answer as AsyncIterable<unknown>) all.push(each);
    return all;
  }
  return answer;
}

/** Floats are those of f32. */
function check(found: unknown, expected: unknown, at: string): void {
  const value = found instanceof Float32Array || found instanceof Uint32Array ? [...found] : found;
  if (typeof expected === "number") expect(value, at).toBeCloseTo(expected, 4);
  else if (expected === null) expect(value ?? null, at).toBeNull();
  else if (typeof expected !== "object") expect(value, at).toBe(expected);
  else if (Array.isArray(expected)) {
    expect(Array.isArray(value), at).toBe(true);
    expect((value as unknown[]).length, `the length of ${at}`).toBe(expected.length);
    for (const [i, each] of expected.entries()) check((value as unknown[])[i], each, `${at}[${i}]`);
  } else {
    for (const [key, each] of Object.entries(expected)) {
      check((value as Record<string, unknown>)[key], each, `${at}.${key}`);
    }
  }
}

test.for(scenarios.map((each, i) => [each.name, i] as const))("%s", async ([, index]) => {
  const name = `conformance-${index}`;
  for (const [i, raw] of (scenarios[index]?.steps ?? []).entries()) {
    const step = named(raw, name) as Step;
    const at = `step ${i}, ${JSON.stringify(step).slice(0, 120)}`;
    let code = "OK";
    let answer: unknown;
    try {
      answer = await answerOf(step, name);
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      code = error.code;
      if (step.error === undefined) throw new Error(`${at}: ${error.message}`, { cause: error });
    }
    expect(code, at).toBe(step.error ?? "OK");
    if ("expect" in step) check(answer, step.expect, at);
  }
});

test("filters as text and as JSON are the same messages in every SDK", () => {
  const wireOf = (filter: ReturnType<typeof parseFilter>): string =>
    Buffer.from(pb.Filter.encode(filterToWire(filter)).finish()).toString("base64");
  const filters = read("filters.json") as { text: string; json: string; wire: string; jsonWire?: string }[];
  for (const { text, json, wire, jsonWire = wire } of filters) {
    expect(wireOf(parseFilter(text)), text).toBe(wire);
    expect(wireOf(filterFromJson(parseJson(json))), json).toBe(jsonWire);
  }
});
