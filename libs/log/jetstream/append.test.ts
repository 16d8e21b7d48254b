import { expect, test } from "vitest";
import type { KithError } from "../../base/index.js";
import { ManualClock } from "../../base/testing.js";
import { type NatsLink, NatsOutage } from "../../nats/index.js";
import { Appender } from "./append.js";
import { naming } from "./streams.js";

test("a server that is there and acknowledges nothing, as with a full disk, is told as LOG_UNAVAILABLE within ten seconds", async () => {
  const clock = new ManualClock();
  let attempts = 0;
  // As a nats-server does with a stream that it could not write: it answers all else.
  const link = {
    available: true,
    onAvailability: () => () => undefined,
    request: async () => {
      attempts++;
      await new Promise<void>((resolve) => clock.setTimer(resolve, 2_500));
      throw new NatsOutage("timeout", "timeout");
    },
  } as unknown as NatsLink;
  const appender = new Appender(link, clock);
  const startMs = clock.monotonicMs();
  let failed: { error: KithError; afterMs: number } | undefined;
  appender.append("c-0", naming("kith", "c-0"), new Uint8Array(1), { messageId: "a" }).catch((error: KithError) => {
    failed = { error, afterMs: clock.monotonicMs() - startMs };
  });
  await clock.advance(10_000);
  expect(failed?.error).toMatchObject({ code: "LOG_UNAVAILABLE", retryable: true });
  expect(failed?.error.message).toMatch(/disk was full/);
  expect(failed?.afterMs).toBeGreaterThan(5_000);
  expect(attempts).toBe(3);
});
