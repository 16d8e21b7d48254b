import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { describeSettings } from "./index.js";

test("docs/configuration.md lists every setting as the code has it", () => {
  const rows = describeSettings().map(
    ({ setting, variable, default: value, meaning }) =>
      `| \`${setting}\` | ${variable && `\`${variable}\``} | ${value && `\`${value}\``} | ${meaning} |`,
  );
  const page = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  const listed = page.split("\n").filter((line) => line.startsWith("| `"));
  expect(listed).toEqual(rows);
});
