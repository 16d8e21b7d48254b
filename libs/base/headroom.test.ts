import { expect, test } from "vitest";
import { giveHeadroom, takeHeadroom } from "./index.js";

test("room before bytes is given once, where it was told of and is large enough", () => {
  const whole = new Uint8Array(20).fill(7);
  const bytes = whole.subarray(8);
  expect(takeHeadroom(bytes, 4)).toBeUndefined();
  giveHeadroom(bytes);
  expect(takeHeadroom(bytes, 9)).toBeUndefined();
  const taken = takeHeadroom(bytes, 4);
  expect([taken?.byteOffset, taken?.length]).toEqual([4, 16]);
  taken?.fill(1, 0, 4);
  expect([...whole]).toEqual([7, 7, 7, 7, 1, 1, 1, 1, ...new Array<number>(12).fill(7)]);
  expect(takeHeadroom(bytes, 4)).toBeUndefined();
});
