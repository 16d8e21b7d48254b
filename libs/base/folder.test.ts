import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeFolder } from "./index.js";

test("a folder is made with those above it, and what cannot be made is refused at once", async () => {
  const root = mkdtempSync(join(tmpdir(), "kith-folder-"));
  try {
    for (let i = 0; i < 2; i++) await makeFolder(join(root, "a", "b", "c"));
    expect(statSync(join(root, "a", "b", "c")).isDirectory()).toBe(true);
    writeFileSync(join(root, "file"), "");
    await expect(makeFolder(join(root, "file"))).rejects.toMatchObject({ code: "EEXIST" });
    await expect(makeFolder(join(root, "file", "x"))).rejects.toMatchObject({ code: "ENOTDIR" });
    await expect(makeFolder("/proc/x/y")).rejects.toMatchObject({ code: "ENOENT" });
  } finally {
    rmSync(root, { recursive: true });
  }
});

test("folders below one that is missing can be made at the same time", async () => {
  const root = mkdtempSync(join(tmpdir(), "kith-folder-"));
  try {
    for (let round = 0; round < 50; round++) {
      await makeFolder(join(root, `${round}`));
      const above = join(root, `${round}`, "above");
      const paths = [...Array.from({ length: 16 }, (_, i) => join(above, `${i}`)), above];
      await Promise.all(paths.map(makeFolder));
      for (const path of paths) expect(statSync(path).isDirectory()).toBe(true);
    }
  } finally {
    rmSync(root, { recursive: true });
  }
});
