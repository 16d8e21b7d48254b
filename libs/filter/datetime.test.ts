import * as fc from "fast-check";
import { expect, test } from "vitest";
import { datetimeMicros, formatDatetime, isDatetime, zonedDatetimeMicros } from "./datetime.js";

test.each<[string, string]>([
  ["2024-02-29T12:34:56Z", "2024-02-29T12:34:56.000Z"],
  ["2024-02-29t12:34:56.5z", "2024-02-29T12:34:56.500Z"],
  ["2024-02-29 12:34:56+01:30", "2024-02-29T11:04:56.000Z"],
  ["2024-02-29T12:34:56-0800", "2024-02-29T20:34:56.000Z"],
  ["2024-02-29T12:34:56+02", "2024-02-29T10:34:56.000Z"],
  ["2024-02-29 12:34:56 UTC", "2024-02-29T12:34:56.000Z"],
  ["  2024-02-29 12:34:56 +00:00", "2024-02-29T12:34:56.000Z"],
  ["2024-02-29T12:34:56", "2024-02-29T12:34:56.000Z"],
  ["2024-02-29T12:34", "2024-02-29T12:34:00.000Z"],
  ["2024-02-29", "2024-02-29T00:00:00.000Z"],
  ["2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"],
  ["1900-03-01", "1900-03-01T00:00:00.000Z"],
  ["0000-01-01", "0000-01-01T00:00:00.000Z"],
  ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"],
])("%s is a datetime", (text, utc) => {
  expect(BigInt(datetimeMicros(text) ?? 0)).toBe(BigInt(Date.parse(utc)) * 1000n);
});

test.each([
  "",
  "2024",
  "2024-02",
  "2023-02-29",
  "1900-02-29",
  "2024-13-01",
  "2024-00-01",
  "2024-04-31",
  "2024-02-00",
  "2024-02-29T24:00:00Z",
  "2024-02-29T12:60:00Z",
  "2024-02-29T12:00:61Z",
  "2024-02-29T12:34Z",
  "2024-02-29Z",
  "2024-02-29T12:34:56+24:00",
  "2024-02-29T12:34:56+01:60",
  "2024-02-29T12:34:56.Z",
  "2024-02-29T12:34:56Z ",
  "24-02-29",
  "20240229",
])("%s is no datetime", (text) => {
  expect(datetimeMicros(text)).toBeUndefined();
});

test("microseconds are kept, finer digits cut off, also far from today and before 1970", () => {
  expect(datetimeMicros("1970-01-01T00:00:00.123456789Z")).toBe(123456);
  expect(datetimeMicros("1969-12-31T23:59:59.999999Z")).toBe(-1);
  expect(datetimeMicros("9999-12-31T23:59:59.999999Z")).toBe(253_402_300_799_999_999n);
});

test("a datetime without a zone is told apart", () => {
  expect(zonedDatetimeMicros("2024-02-29")).toBe("no zone");
  expect(zonedDatetimeMicros("2024-02-29T00:00:00")).toBe("no zone");
  expect(zonedDatetimeMicros("1970-01-01T00:00:00Z")).toBe(0);
  expect(zonedDatetimeMicros("2024-02-30")).toBeUndefined();
});

test("every instant of the years 0000 to 9999 is printed so that it is read back", () => {
  const instant = fc.bigInt({ min: -62_167_219_200_000_000n, max: 253_402_300_799_999_999n });
  fc.assert(
    fc.property(instant, (micros) => {
      expect(isDatetime(micros)).toBe(true);
      const text = formatDatetime(micros);
      expect(text).toHaveLength(text.includes(".") ? text.length : 20);
      expect(BigInt(zonedDatetimeMicros(text) as bigint)).toBe(micros);
    }),
  );
  expect(isDatetime(-62_167_219_200_000_001n)).toBe(false);
  expect(isDatetime(253_402_300_800_000_000n)).toBe(false);
});
