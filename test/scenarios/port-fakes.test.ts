/**
 * What stands in for a port in tests behaves as the port does: it passes the port's conformance suite, `describe<Port>` in a
 * `*.conformance.ts`. Otherwise tests prove what holds for the fake alone.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url).pathname;

const sources = ["libs", "services", "test", "bench"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.includes("/gen/"))
    .map((path) => ({ path: join(folder, path), text: readFileSync(join(root, folder, path), "utf8") })),
);
const ports = sources
  .filter(({ path }) => path.endsWith(".conformance.ts"))
  .flatMap(({ text }) => [...text.matchAll(/^export function describe(\w+)\(/gm)].map(([, port]) => port as string));

interface Fake {
  path: string;
  name: string;
  /** What it implements and has a suite. */
  ports: string[];
}

const fakes = sources.flatMap(({ path, text }): Fake[] =>
  [...text.matchAll(/^(?:export )?class (\w+)(?:.*? implements ([^{]+))?/gm)].flatMap(([, name = "", list = ""]) => {
    const isForTests = name.startsWith("Fake") || /\.(test|fixture)\.ts$|\/testing\//.test(path);
    const implemented = list.split(",").map((each) => each.trim());
    return isForTests ? [{ path, name, ports: ports.filter((port) => implemented.includes(port)) }] : [];
  }),
);

test("the ports that both sides of the cluster are written against have suites", () => {
  expect(ports.sort()).toEqual(["Catalog", "Log", "ShardApi"]);
});

test.each(fakes.filter((fake) => fake.name.startsWith("Fake")))("$name stands in for a port with a suite", (fake) => {
  expect(fake.ports, `${fake.path}: write the suite, or give the class another name`).not.toEqual([]);
});

test.each(fakes.flatMap((fake) => fake.ports.map((port) => ({ ...fake, port }))))(
  "$name passes the suite of $port",
  ({ name, port }) => {
    const uses = (word: string) => new RegExp(`\\b${word}\\b`);
    const suites = sources.filter(({ path, text }) => path.endsWith(".test.ts") && text.includes(`describe${port}(`));
    const passed = suites.filter(({ text }) => uses(`(new ${name}|${name}\\.open)`).test(text));
    expect(passed.map(({ path }) => path)).not.toEqual([]);
  },
);
