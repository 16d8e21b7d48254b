import { expect, test } from "vitest";
import { idFromKey, idFromName } from "./index.js";

test.each(["\uFEFF", "\uFEFFa", "a\uFEFF", "ä"])("the string id %j comes back as it was given", (value) => {
  expect(idFromKey(idFromName(value))).toEqual({ kind: "name", value });
});
