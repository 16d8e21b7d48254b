/** The cores that control groups allow, from files as Linux writes them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { quotaCores } from "./testing.js";

const parent = mkdtempSync(join(tmpdir(), "kith-cores-"));
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(parent, "cgroup-"));
});
afterAll(() => rmSync(parent, { recursive: true, force: true }));

/** Writes the files of a folder like /sys/fs/cgroup. */
function groups(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), `${text}\n`);
  }
}

function quota(membership: string): number {
  const path = join(root, "membership");
  writeFileSync(path, membership);
  return quotaCores(path, root);
}

test.each([
  ["of this group", "0::/a/b\n", { "a/b/cpu.max": "200000 100000" }, 2],
  ["rounded up", "0::/a\n", { "a/cpu.max": "250000 100000" }, 3],
  ["of less than a core", "0::/a\n", { "a/cpu.max": "10000 100000" }, 1],
  ["of a group above", "0::/a/b\n", { "a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000" }, 4],
  ["the least of all", "0::/a/b\n", { "a/b/cpu.max": "800000 100000", "a/cpu.max": "300000 100000" }, 3],
  ["in a container", "0::/\n", { "cpu.max": "150000 50000" }, 3],
  ["without a limit", "0::/a\n", { "a/cpu.max": "max 100000" }, 0],
  ["without files", "0::/a\n", {}, 0],
] as const)("version 2, %s", (_, membership, files, cores) => {
  groups(files);
  expect(quota(membership)).toBe(cores);
});

test.each([
  ["of this group", "4:cpu,cpuacct:/a\n1:name=systemd:/x\n", "cpu,cpuacct/a", "200000", 2],
  ["mounted as cpu alone", "4:cpu,cpuacct:/a\n", "cpu/a", "200000", 2],
  ["in a container, whose path is the host's", "4:cpuacct,cpu:/docker/0af3\n", "cpu", "500000", 5],
  ["without a limit", "4:cpu,cpuacct:/a\n", "cpu,cpuacct/a", "-1", 0],
] as const)("version 1, %s", (_, membership, folder, value, cores) => {
  groups({ [`${folder}/cpu.cfs_quota_us`]: value, [`${folder}/cpu.cfs_period_us`]: "100000" });
  expect(quota(membership)).toBe(cores);
});

test("no membership at all", () => {
  expect(quotaCores(join(root, "nothing"), root)).toBe(0);
});
