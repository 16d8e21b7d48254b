import { expect, test } from "vitest";
import { checkPayload } from "./index.js";

const where = (): string => "points[0]";

test("a payload that begins with a byte-order mark is not JSON: whoever parses it later would fail", () => {
  const payload = Buffer.from('\uFEFF{"a":1}');
  expect(() => checkPayload(payload, where)).toThrow(expect.objectContaining({ code: "INVALID_PAYLOAD" }));
  expect(() => checkPayload(Buffer.from('{"\uFEFFa":"\uFEFF"}'), where)).not.toThrow();
});

test("texts that UTF-8 cannot hold and numbers that no double holds are refused with their path", () => {
  const refusals: [text: string, path: string][] = [
    ['{"a":"x\\ud800y"}', "a"],
    ['{"a":["b",{"c":"\\uDC00"}]}', "a[1].c"],
    ['{"a":{"\\udfffk":1}}', "a"],
    ['{"\\ud83d":1}', ""],
    ['{"__proto__":{"constructor":1e400}}', "__proto__.constructor"],
    ['{"n":[0,-1e309]}', "n[1]"],
    ['{"n":1E+0400}', "n"],
    [`{"n":${"9".repeat(310)}}`, "n"],
    [`{"n":${"9".repeat(300)}e9}`, "n"],
  ];
  for (const [text, path] of refusals) {
    expect(() => checkPayload(Buffer.from(text), where), text).toThrow(
      expect.objectContaining({ code: "INVALID_PAYLOAD", details: { path } }),
    );
  }
  for (const text of [
    '{"a":"\\ud83d\\ude00","b":"\\\\ud800","\\ud83d\\ude00":"😀"}',
    '{"n":-0,"m":1e-400,"o":1.7976931348623157e308,"p":123456789012345678901234567890,"q":"1e400"}',
    `{"n":${"9".repeat(308)}}`,
  ]) {
    expect(() => checkPayload(Buffer.from(text), where), text).not.toThrow();
  }
});
