import { expect, test } from "vitest";
import { refuseNewer } from "./index.js";

test("only what is newer is refused, with the release that reads it", () => {
  for (const format of [1, 2]) refuseNewer("the log in /d", { format }, 2);
  expect(() => refuseNewer("the log in /d", { format: 7, release: "0.9.0" }, 2)).toThrow(
    "the log in /d was written by a newer release (format 7); this release reads up to 2: start release 0.9.0 or a later one",
  );
  expect(() => refuseNewer("the copy", { format: 3 }, 2)).toThrow(
    expect.objectContaining({
      code: "FAILED_PRECONDITION",
      message: expect.stringMatching(/: start the release that wrote it or a later one$/) as string,
      details: { format: 3, formatMax: 2 },
    }) as Error,
  );
});
