import { expect, test } from "vitest";
import { checkPayload } from "./index.js";

const where = (): string => "points[0]";

test("a payload that begins with a byte-order mark is not JSON: whoever parses it later would fail", () => {
  const payload = Buffer.from('\uFEFF{"a":1}');
  expect(() => checkPayload(payload, where)).toThrow(expect.objectContaining({ code: "INVALID_PAYLOAD" }));
  expect(() => checkPayload(Buffer.from('{"\uFEFFa":"\uFEFF"}'), where)).not.toThrow();
});
