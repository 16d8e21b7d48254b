import { closeSync, openSync } from "node:fs";
import { expect, test } from "vitest";
import { countHandles, leaveHandles } from "./file-handles.js";

test.each([
  [{ open: 60, limit: 120 }, true],
  [{ open: 88, limit: 120 }, false],
  [{ open: 119, limit: 120 }, false],
  [{ open: 890, limit: 1_024 }, true],
  [{ open: 896, limit: 1_024 }, false],
  [{ open: 999_000, limit: 1_000_000 }, true],
  [{ open: 999_800, limit: 1_000_000 }, false],
  [undefined, true],
])("with %o handles a replica may be opened: %s", async (handles, isAllowed) => {
  const asked = leaveHandles(() => Promise.resolve(handles));
  if (isAllowed) return expect(asked).resolves.toBeUndefined();
  await expect(asked).rejects.toMatchObject({
    code: "RESOURCE_EXHAUSTED",
    message: expect.stringContaining(`${handles?.open} of at most ${handles?.limit}`) as string,
  });
});

test.skipIf(process.platform !== "linux")("the handles of this process are counted", async () => {
  const before = await countHandles();
  const files = Array.from({ length: 20 }, () => openSync("/dev/null", "r"));
  const after = await countHandles();
  for (const file of files) closeSync(file);
  expect(before?.limit).toBeGreaterThan(100);
  expect(after?.limit).toBe(before?.limit);
  // Other tests of this process open and close files too.
  expect((after?.open ?? 0) - (before?.open ?? 0)).toBeGreaterThan(10);
});
