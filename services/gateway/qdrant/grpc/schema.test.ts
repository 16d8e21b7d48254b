import { readFileSync } from "node:fs";
import type { DescMessage } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { qdrantCalls } from "./calls.js";
import { qdrantMethods, shortName } from "./schema.js";

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

test("docs/qdrant-fields.md has each field of each message that requests are made of, once", () => {
  const text = readFileSync(new URL("../../../../docs/qdrant-fields.md", import.meta.url), "utf8");
  const told: string[] = [];
  for (const [, message, fields = ""] of text.matchAll(
    /^\| `([\w.]+)` \| (?:same|note|no effect|refused) \| (.*?) \|/gm,
  )) {
    for (const [, field] of fields.matchAll(/`(\w+)`/g)) told.push(`${message}.${field}`);
  }
  const messages = new Set<DescMessage>();
  const note = (message: DescMessage): void => {
    if (messages.has(message) || !message.typeName.startsWith("qdrant.")) return;
    messages.add(message);
    for (const field of message.fields) if (field.message !== undefined) note(field.message);
  };
  for (const { input } of qdrantMethods().values()) note(input);
  // Values are JSON.
  const isValue = ({ file }: DescMessage): boolean => file.name.endsWith("/value");
  const known = [...messages]
    .filter((message) => !isValue(message))
    .flatMap((message) => message.fields.map(({ name }) => `${shortName(message)}.${name}`));
  expect(told.sort()).toEqual(known.sort());
});
