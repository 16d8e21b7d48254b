import { expect, test } from "vitest";
import { hostPort } from "./index.js";

test("IPv6 addresses get brackets, so that the port can be told from them", () => {
  expect(hostPort("127.0.0.1", 7700)).toBe("127.0.0.1:7700");
  expect(hostPort("::1", 7700)).toBe("[::1]:7700");
});
