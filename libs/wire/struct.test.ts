import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { isWellFormed } from "../model/index.js";
import { jsonOfStruct, structOfJson } from "./struct.js";
import { Struct } from "./gen/google/protobuf/struct.js";

const bytesOf = (value: unknown): Uint8Array => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const textOf = (struct: Uint8Array): string => Buffer.from(jsonOfStruct(struct, "payload")).toString("utf8");

/** Of the generated code, which the bytes must agree with. */
const generated = (struct: Uint8Array): unknown => JSON.parse(JSON.stringify(Struct.unwrap(Struct.decode(struct))));

const json = fc.dictionary(
  fc.string().filter((key) => key !== "__proto__" && isWellFormed(key)),
  fc.jsonValue({ maxDepth: 4, noUnicodeString: false }),
  { maxKeys: 6 },
);

test("any object of JSON comes back as it was, and is what the generated code reads and writes", () => {
  fc.assert(
    fc.property(json, (value) => {
      const wanted = JSON.parse(JSON.stringify(value)) as { [key: string]: unknown };
      fc.pre(
        isWellFormed(JSON.stringify(wanted)) &&
          !/-0(?![.\d])|\d{16}|__proto__|\\ud[89a-f]/i.test(JSON.stringify(wanted)),
      );
      const struct = structOfJson(bytesOf(wanted));
      expect(JSON.parse(textOf(struct))).toEqual(wanted);
      expect(generated(struct)).toEqual(wanted);
      expect(JSON.parse(textOf(Struct.encode(Struct.wrap(wanted)).finish()))).toEqual(wanted);
    }),
  );
});

test("whole numbers beyond 2^53 become text, others stay numbers, and texts stay what they are", () => {
  const text =
    '{"big":9007199254740993,"neg":-9007199254740993,"safe":9007199254740991,"f":1234567890123456.5,"e":1e300,"s":"9007199254740993 \\" 9007199254740993","a":[18446744073709551615],"9007199254740993":1}';
  expect(JSON.parse(textOf(structOfJson(bytesOf(text))))).toEqual({
    big: "9007199254740993",
    neg: "-9007199254740993",
    safe: 9007199254740991,
    f: 1234567890123456.5,
    e: 1e300,
    s: '9007199254740993 " 9007199254740993',
    a: ["18446744073709551615"],
    "9007199254740993": 1,
  });
});

test("names that all objects have are names like others", () => {
  const text = '{"__proto__":{"x":1},"constructor":null,"toString":[]}';
  expect(textOf(structOfJson(bytesOf(text)))).toBe(text);
});

test("what is no Struct, no number of JSON, or nested too deep is refused", () => {
  const refused = (struct: Uint8Array): unknown => {
    try {
      return textOf(struct);
    } catch (error) {
      return error;
    }
  };
  const entry = (value: (writer: BinaryWriter) => unknown): Uint8Array => {
    const writer = new BinaryWriter();
    writer.uint32(10).fork().uint32(10).string("k").uint32(18).fork();
    value(writer);
    return writer.join().join().finish();
  };
  expect(refused(Uint8Array.of(0xff, 0xff))).toMatchObject({
    code: "INVALID_PAYLOAD",
    message: "payload is no google.protobuf.Struct",
  });
  const infinite = entry((writer) => writer.uint32((2 << 3) | WireType.Bit64).double(Infinity));
  expect(refused(infinite)).toMatchObject({
    code: "INVALID_PAYLOAD",
    message: "payload: the number Infinity is none of JSON",
  });
  // Unknown fields are passed over, and a value of no kind is null.
  expect(refused(entry((writer) => writer.uint32(80).int32(7)))).toBe('{"k":null}');
  for (const kind of [5, 6]) {
    let deep: Uint8Array = new Uint8Array(0);
    for (let i = 0; i < 300; i++) {
      const writer = new BinaryWriter();
      if (kind === 5)
        writer.uint32(10).fork().uint32(18).bytes(new BinaryWriter().uint32(42).bytes(deep).finish()).join();
      else writer.uint32(10).bytes(new BinaryWriter().uint32(50).bytes(deep).finish());
      deep = writer.finish();
    }
    const struct = kind === 5 ? deep : entry((writer) => writer.uint32(50).bytes(deep));
    expect(refused(struct)).toMatchObject({
      code: "INVALID_PAYLOAD",
      message: expect.stringMatching(/^payload: .*nested deeper than 100$/) as string,
    });
  }
});
