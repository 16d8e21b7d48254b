import { expect, test } from "vitest";
import { connect } from "./index.js";

test.each([
  ["attempts", "many"],
  ["attempts", Number.NaN],
  ["attempts", Infinity],
  ["initialMs", -1],
  ["maxMs", null],
  ["ratio", "0.1"],
  ["burst", true],
])("retry.%s of %s is refused: calls would be tried again for ever, or never", async (key, value) => {
  // Nothing listens there: what is wrong with the options comes first.
  const options = { retry: { [key]: value } } as unknown as { retry: { attempts: number } };
  await expect(connect("127.0.0.1:1", options)).rejects.toMatchObject({
    code: "LIMIT_OUT_OF_RANGE",
    details: { field: `options.retry.${key}` },
  });
});
