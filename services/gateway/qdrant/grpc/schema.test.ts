import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { qdrantCalls } from "./calls.js";
import { qdrantMethods } from "./schema.js";

const page = readFileSync(new URL("../../../../docs/qdrant.md", import.meta.url), "utf8");

test("every call of the definitions is answered", () => {
  expect([...qdrantCalls.keys()].sort()).toEqual([...qdrantMethods().keys()].sort());
});

test("docs/qdrant.md has a row for each call, with that of the REST API", () => {
  const rows = [...page.matchAll(/^\| `(\w+\/\w+)` \| `([^`]+)` \|/gm)];
  expect(rows.map(([, call]) => call).sort()).toEqual([...qdrantMethods().keys()].sort());
  for (const [, call, rest] of rows)
    expect(page, call).toMatch(new RegExp(`^\\| \`${rest?.replaceAll(/[{}]/g, "\\$&")}\` \\|`, "m"));
});
