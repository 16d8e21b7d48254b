import { expect, test } from "vitest";
import { project, projectionOf } from "./index.js";

const payload = '{"a":{"b":1,"c":2},"aa":{"b":3},"a.b":4,"l":[{"b":5,"c":6}],"big":9007199254740993,"x":1.0}';

function part(include: string[], exclude: string[] = [], text = payload): string {
  const projection = projectionOf(include, exclude);
  if (projection === undefined) return text;
  return Buffer.from(project(Buffer.from(text), projection)).toString();
}

test("include keeps what lies at the paths, exclude everything else; numbers keep their digits", () => {
  expect(part(["a.b"])).toBe('{"a":{"b":1}}');
  expect(part(['"a.b"', "l[].c"])).toBe('{"a.b":4,"l":[{"c":6}]}');
  expect(part(["l.c", "l[0].c"])).toBe('{"l":[]}');
  expect(part(["a", "a.b", "big", "x"])).toBe('{"a":{"b":1,"c":2},"big":9007199254740993,"x":1.0}');
  expect(part(["missing"])).toBe("{}");
  expect(part([], ["a", "l[].b", "big"])).toBe('{"aa":{"b":3},"a.b":4,"l":[{"c":6}],"x":1.0}');
  expect(part([], ["l", "a.b", "aa.x"])).toBe('{"a":{"c":2},"aa":{"b":3},"a.b":4,"big":9007199254740993,"x":1.0}');
  expect(part([], ["l[]"], '{"l":[1,2]}')).toBe('{"l":[]}');
  expect(part(["a.b.c"], [], '{"a":{"b":7}}')).toBe('{"a":{"b":7}}');
  expect(part([])).toBe(payload);
  expect(project(new Uint8Array(0), { kind: "include", branches: { keys: new Map(), each: undefined } })).toHaveLength(
    0,
  );
});

test("__proto__ is a key like others", () => {
  expect(part(["__proto__"], [], '{"__proto__":{"x":1},"a":2}')).toBe('{"__proto__":{"x":1}}');
  expect(part([], ["__proto__.x"], '{"__proto__":{"x":1,"y":2}}')).toBe('{"__proto__":{"y":2}}');
});

test("paths that are none are refused with their place, and both lists together", () => {
  const failure = (include: string[], exclude: string[] = []): unknown => {
    try {
      return part(include, exclude);
    } catch (error) {
      return error;
    }
  };
  expect(failure(["a", "b..c"])).toMatchObject({ code: "INVALID_ARGUMENT", details: { path: "select.include[1]" } });
  expect(failure([], ["a["])).toMatchObject({ code: "INVALID_ARGUMENT", details: { path: "select.exclude[0]" } });
  expect(failure(["a"], ["b"])).toMatchObject({ code: "INVALID_ARGUMENT", details: { path: "select" } });
});
