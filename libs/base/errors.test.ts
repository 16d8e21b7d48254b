import { expect, test } from "vitest";
import { KithError, reasonOf } from "./errors.js";

test.each([
  ["the log server is away, try again", "the log server is away"],
  ["the index is still being built; try again later", "the index is still being built"],
  ["9 bytes of writes wait; slow down and try again", "9 bytes of writes wait"],
  [
    "appending failed: its outcome is unknown; try again with the same idempotency key",
    "appending failed: its outcome is unknown",
  ],
  ["there is no try again in the middle; of it", "there is no try again in the middle; of it"],
  ["the disk is full", "the disk is full"],
])("the reason of %j has no advice at its end", (message, reason) => {
  expect(reasonOf(new KithError("LOG_UNAVAILABLE", message))).toBe(reason);
});
