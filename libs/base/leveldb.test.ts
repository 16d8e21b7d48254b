import { expect, test } from "vitest";
import { KithError, levelError } from "./index.js";

function thrown(message: string, code?: string, cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), code !== undefined && { code });
}

const notOpen = (cause: Error): Error => thrown("Database failed to open", "LEVEL_DATABASE_NOT_OPEN", cause);

test.each([
  ["of another process", notOpen(thrown("lock", "LEVEL_LOCKED")), "FAILED_PRECONDITION", /\/d is in use/],
  ["damaged", notOpen(thrown("bad block", "LEVEL_CORRUPTION")), "CORRUPT_DATA", /\/d is damaged: .*: bad block/],
  ["damaged, by its text", thrown("Corruption: checksum mismatch"), "CORRUPT_DATA", /checksum mismatch/],
  [
    "without one of its files",
    notOpen(thrown("IO error: /d/7.ldb: No such file or directory", "LEVEL_IO_ERROR")),
    "CORRUPT_DATA",
    /7\.ldb/,
  ],
  [
    "on a full disk",
    thrown("IO error: /d/7.log: No space left on device", "LEVEL_IO_ERROR"),
    "DISK_FULL",
    /\/d is full/,
  ],
  ["on a full disk, by its code", thrown("write", "ENOSPC"), "DISK_FULL", /\/d is full/],
  [
    "without file handles",
    notOpen(thrown("IO error: /d/000004.log: Too many open files", "LEVEL_IO_ERROR")),
    "RESOURCE_EXHAUSTED",
    /cannot be used now: .*ulimit/,
  ],
  [
    "without handles of the system",
    thrown("IO error: /d/MANIFEST-000002: Too many open files in system", "LEVEL_IO_ERROR"),
    "RESOURCE_EXHAUSTED",
    /MANIFEST-000002/,
  ],
  ["without memory", thrown("IO error: /d/5.ldb: Cannot allocate memory"), "RESOURCE_EXHAUSTED", /5\.ldb/],
  [
    "of another user",
    notOpen(thrown("IO error: /d/LOCK: Permission denied", "LEVEL_IO_ERROR")),
    "FAILED_PRECONDITION",
    /may not be read and written by this user/,
  ],
  [
    "on a disk for reading",
    notOpen(thrown("IO error: /d/LOCK: Read-only file system")),
    "FAILED_PRECONDITION",
    /Read-only/,
  ],
  ["in a folder of another user", thrown("mkdir", "EACCES"), "FAILED_PRECONDITION", /this user/],
  ["that fails otherwise", thrown("IO error: read", "LEVEL_IO_ERROR"), "INTERNAL", /\/d failed: IO error: read/],
])("a database %s", (_, error, code, message) => {
  const found = levelError(error, "/d");
  expect(found).toMatchObject({ code, message: expect.stringMatching(message) as string, cause: error });
  expect(found.details).toEqual({ directory: "/d" });
});

test("what is an error of Kith already stays as it is", () => {
  const known = new KithError("SHUTTING_DOWN", "closing");
  expect(levelError(known, "/d")).toBe(known);
});
