/** The ports of the test clusters: two clusters that start at once, in one process or in two, never get the same one. */
import { spawnSync } from "node:child_process";
import { type AddressInfo, createServer } from "node:net";
import { expect, test, vi } from "vitest";
import { freePort } from "../../libs/base/testing.js";

const drawn = vi.hoisted(() => [] as number[]);
vi.mock("node:crypto", async (original: () => Promise<{ randomInt(min: number, max: number): number }>) => {
  const crypto = await original();
  return { ...crypto, randomInt: (min: number, max: number) => drawn.shift() ?? crypto.randomInt(min, max) };
});

test("a port that was given out is not given out again, although nobody listens there yet", async () => {
  const port = await freePort();
  drawn.push(port, port);
  expect(await freePort()).not.toBe(port);
  // What another process sees, which draws the same number.
  const bind = `require("net").createServer().listen(${port}, "127.0.0.2").on("error", (e) => { console.log(e.code); })`;
  const other = spawnSync(process.execPath, ["-e", `${bind}.unref()`], { encoding: "utf8" });
  expect(other.stdout).toBe("EADDRINUSE\n");
});

test("a port where somebody listens is not given out", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  drawn.push(port);
  expect(await freePort()).not.toBe(port);
  await new Promise((resolve) => server.close(resolve));
});
