/** Payloads become Values by their bytes as they do by the objects that these are. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { isJsonObject, parseJson } from "../../../../libs/model/index.js";
import { BackwardWriter } from "../../../../libs/wire/index.js";
import { writeJsonEntries } from "./json-bytes.js";
import { writeEntries } from "./json-value.js";

const writer = new BackwardWriter();

function byBytes(text: string): Buffer {
  const bytes = Buffer.from(text);
  // Other bytes around it.
  writeJsonEntries(writer, 3, Buffer.concat([Buffer.from('"\\'), bytes, Buffer.from('"}')]), 2, 2 + bytes.length);
  return writer.finish();
}

function byObjects(text: string): Buffer {
  const object = parseJson(text);
  if (!isJsonObject(object)) throw new Error("no object");
  writeEntries(writer, 3, object);
  return writer.finish();
}

const numbers = [
  ...[
    "0",
    "-0",
    "7",
    "-7",
    "100",
    "1.0",
    "-0.0",
    "1e3",
    "1E+3",
    "2.5e-3",
    "1e-400",
    "999999999999999",
    "0.1",
    "-0.5",
    "123.456",
  ],
  ...[
    "0.30000000000000004",
    "99999999999999.9",
    "-12345678.000001",
    "0.00000000000001",
    "-0.0000000000000001",
    "10.50",
  ],
  ...["9007199254740991", "9007199254740993", "-9007199254740993", "9223372036854775807", "9223372036854775808"],
  ...["-9223372036854775808", "-9223372036854775809", "18446744073709551615", "123456789012345678901234567890"],
];
test.each([
  "{}",
  ' { "a" : [ ] , "b" : { } ,\n"" : "" }\t',
  '{"a":null,"b":true,"c":false,"d":[null,[true,{"e":[[]]}]]}',
  String.raw`{"\"":"\\","\\\"":"a\\\\","x":"\\\"\n\u00e4\ud83d\ude00","\u0061":"\""}`,
  `{"käse":"日本 😀","long":"${"abc ".repeat(100)}","escaped":"${String.raw`\"é`.repeat(60)}"}`,
  `{"n":[${numbers.join(",")}],"m":{${numbers.map((text, i) => `"${i}": ${text} `).join(",")}}}`,
])("writes what is parsed: %s", (text) => {
  expect(byBytes(text)).toEqual(byObjects(text));
});

test("strings of any length, with an escape anywhere in them, or before them", () => {
  for (let length = 0; length < 60; length++) {
    for (const escape of ['\\"', "\\\\", "\\u0041"]) {
      for (const at of [0, 1, Math.floor(length / 2), length]) {
        const text = `${"a".repeat(Math.min(at, length))}${escape}${"b".repeat(Math.max(0, length - at))}`;
        const whole = `{"${text}":"${"c".repeat(length)}","plain":"${"d".repeat(length)}","e":"${text}"}`;
        expect(byBytes(whole)).toEqual(byObjects(whole));
      }
    }
  }
});

const keys = fc.string({ unit: "grapheme" }).filter((key) => !/^\d+$/.test(key));
const { object } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.constant("null"),
    fc.boolean().map(String),
    fc.constantFrom(...numbers),
    fc
      .tuple(fc.integer(), fc.nat(), fc.nat(9))
      .map(([whole, part, digits]) => `${whole}.${String(part).slice(0, digits + 1)}`),
    fc.integer().map(String),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
    fc.string({ unit: "binary" }).map((text) => JSON.stringify(text)),
    fc.array(tie("value") as fc.Arbitrary<string>).map((items) => `[${items.join(" , ")}]`),
    tie("object") as fc.Arbitrary<string>,
  ),
  object: fc
    .uniqueArray(fc.tuple(keys, tie("value") as fc.Arbitrary<string>), { selector: ([key]) => key })
    .map((members) => `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",")}}`),
}));

test("writes what is parsed, whatever it is", () => {
  fc.assert(
    fc.property(object, (text) => {
      expect(byBytes(text)).toEqual(byObjects(text));
    }),
  );
});

test.each([
  '{"a":1',
  '"a":1}',
  "1}",
  "}",
  "",
  '{"a" 1}',
  '{"a":}',
  '{"a":1,}',
  '{"a":tru}',
  '{"a":"\\x"}',
  '{"a":01}',
  '{"a":--1}',
  '{"a":1.}',
  '{"a":.5}',
  '{"a":1.2.3}',
  '{"a":-}',
  '{"a":00.5}',
  '{"a":1-2}',
  "[1]]",
  "{a:1}",
  '{"a":[1}',
  "{}{}",
])("refuses what is no JSON: %s", (text) => {
  expect(() => byBytes(text)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  writer.clear();
  // What was begun is not left behind.
  expect(byBytes("{}")).toEqual(Buffer.alloc(0));
});
