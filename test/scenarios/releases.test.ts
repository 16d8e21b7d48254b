/**
 * What names a release agrees with the version of the package: the first release that reads a format cannot be one that is still to
 * come, or its own message would tell users to install what they have.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url).pathname;
const textOf = (path: string): string => readFileSync(join(root, path), "utf8");
const { version } = JSON.parse(textOf("package.json")) as { version: string };

/** Whether release `a` is `b` or came before it. */
function isUpTo(a: string, b: string): boolean {
  const [left, right] = [a, b].map((each) => each.split(".").map(Number));
  const at = left?.findIndex((part, i) => part !== right?.[i]) ?? -1;
  return at < 0 || (left?.[at] ?? 0) < (right?.[at] ?? 0);
}

test("releases are compared by number", () => {
  expect(isUpTo("0.1.9", "0.1.10")).toBe(true);
  expect(isUpTo("0.2.0", "0.2.0")).toBe(true);
  expect(isUpTo("0.2.0", "0.1.9")).toBe(false);
  expect(isUpTo("1.0.0", "0.9.9")).toBe(false);
});

test("no format is first read by a release after this one", () => {
  const sources = readdirSync(join(root, "libs"), { recursive: true, encoding: "utf8" }).filter((path) =>
    /^(?!.*(\.test|testing|\/gen\/|\.d)).*\.ts$/.test(path),
  );
  const named = sources.flatMap((path) =>
    [...textOf(join("libs", path)).matchAll(/(?:R|\br)elease(?: =|:) "(\d+\.\d+\.\d+)"/g)].map(([, release]) => ({
      path,
      release: release as string,
    })),
  );
  // The store, the embedded log, the embedded catalog.
  expect(named.length).toBeGreaterThanOrEqual(3);
  for (const { path, release } of named) expect(isUpTo(release, version), `${path} names ${release}`).toBe(true);
});

test("the lock file, the image and the change log name this version", () => {
  const lock = JSON.parse(textOf("package-lock.json")) as { version: string; packages: { "": { version: string } } };
  expect([lock.version, lock.packages[""].version]).toEqual([version, version]);
  expect(textOf("deploy/kubernetes/kustomization.yaml")).toContain(`newTag: "${version}"`);
  expect(textOf("deploy/README.md")).toContain(`kith:${version} `);
  expect(textOf("CHANGELOG.md")).toMatch(new RegExp(`next release is ${version}|^## \\[?${version}`, "m"));
});
