import { expect, test } from "vitest";
import { KithError, systemClock } from "../../base/index.js";
import { noTrace } from "../../telemetry/index.js";
import { ServerCall } from "./server-call.js";

class Call extends ServerCall {
  readonly trace = noTrace;
  watched = 0;

  constructor(private readonly gone: boolean) {
    super(Infinity, systemClock);
  }
  protected watchCancellation(): void {
    this.watched++;
    if (this.gone) this.clientGone();
  }
  expire(): void {
    this.abort(new KithError("DEADLINE_EXCEEDED", "late"));
  }
}

test("a client that went away before anybody listened is still noticed, by listener and by signal", async () => {
  for (const listen of [
    (call: Call) => new Promise<void>((resolve) => call.addEventListener("abort", resolve)),
    (call: Call) => Promise.resolve(expect(call.signal.aborted).toBe(true)),
  ]) {
    const call = new Call(true);
    expect(call.aborted).toBe(false);
    await listen(call);
    expect(call.reason).toMatchObject({ code: "CANCELLED" });
    expect(call.watched).toBe(1);
  }
});

test("many parts of a call listen to its signal without a warning", async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);
  process.on("warning", onWarning);
  const { signal } = new Call(false);
  for (let i = 0; i < 50; i++) signal.addEventListener("abort", () => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", onWarning);
  expect(warnings).toEqual([]);
});

test("listeners and the signal hear of the first reason, once; those that left do not", () => {
  const call = new Call(false);
  const heard: string[] = [];
  const leaving = (): void => void heard.push("left");
  call.addEventListener("abort", leaving);
  call.addEventListener("abort", () => heard.push("stayed"));
  call.signal.addEventListener("abort", () => heard.push("signal"));
  call.removeEventListener("abort", leaving);
  expect(call.watched).toBe(1);
  call.expire();
  call.abort(new KithError("CANCELLED", "second"));
  expect(heard.sort()).toEqual(["signal", "stayed"]);
  expect(call.signal.reason).toMatchObject({ code: "DEADLINE_EXCEEDED" });
});
