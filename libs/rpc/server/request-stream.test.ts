import { Metadata } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { deferred, systemClock, toKithError } from "../../base/index.js";
import { eventually } from "../../base/testing.js";
import { answerEach } from "./index.js";
import { noTrace } from "../../telemetry/index.js";
import { MethodStats } from "../common/call-stats.js";
import { ServerCall } from "./server-call.js";
import type { ServerStream } from "./server-stream.js";

class Call extends ServerCall {
  readonly trace = noTrace;
  protected watchCancellation(): void {
    return;
  }
  expire(): void {
    return;
  }
}

/** A stream that takes `room` answers until it is drained, and that counts what it is told. */
class RecordedStream implements ServerStream<number, number> {
  readonly call = new Call(Infinity, systemClock);
  readonly metadata = new Metadata();
  readonly peer = "test";
  readonly peerCommonName = undefined;
  readonly stats = new MethodStats("test/Stream", { record: () => undefined });
  readonly #ended = deferred<void>();
  readonly ended = this.#ended.promise;
  readonly draining = false;
  readonly written: number[] = [];
  reading = true;
  writable = true;
  #drained = deferred<void>();
  #listener: ((message: number) => void) | undefined;

  onMessage(listener: (message: number) => void): void {
    this.#listener = listener;
  }
  receive(message: number): void {
    if (!this.reading) throw new Error("a paused stream delivers nothing");
    this.#listener?.(message);
  }
  pause(): void {
    this.reading = false;
  }
  resume(): void {
    this.reading = true;
  }
  write(message: number): boolean {
    this.written.push(message);
    // The client reads nothing: the first answer fills the stream.
    this.writable = false;
    return false;
  }
  drained(): Promise<void> {
    return this.writable ? Promise.resolve() : this.#drained.promise;
  }
  drain(): void {
    this.writable = true;
    const before = this.#drained;
    this.#drained = deferred<void>();
    before.resolve();
  }
  end(): void {
    this.#ended.resolve();
  }
  failure(thrown: unknown) {
    return toKithError(thrown);
  }
  open(): void {
    return;
  }
}

test("reading goes on when answers fill the stream again in the moment in which it is drained", async () => {
  const stream = new RecordedStream();
  const answers = new Map<number, (value: number) => void>();
  const run = answerEach(stream, {
    inFlightMax: 16,
    defaultTimeoutMs: 10_000,
    idOf: (request) => request,
    timeoutMsOf: () => 0,
    isCancel: () => false,
    answer: (request) => new Promise<number>((resolve) => answers.set(request, resolve)),
    fail: (request) => -request,
  });
  for (const request of [1, 2]) stream.receive(request);
  answers.get(1)?.(1);
  await eventually(() => !stream.reading);
  // The second answer is on its way when the drain is told, and is written before anybody hears of the drain.
  answers.get(2)?.(2);
  stream.drain();
  await eventually(() => stream.written.length === 2);
  expect(stream.reading).toBe(false);
  stream.drain();
  await eventually(() => stream.reading);
  stream.end();
  await run;
});

test("requests whose answers would be large begin one after the other, and none while the client does not read", async () => {
  const stream = new RecordedStream();
  const begun: number[] = [];
  const answers = new Map<number, (value: number) => void>();
  const run = answerEach(stream, {
    inFlightMax: 1_024,
    defaultTimeoutMs: 10_000,
    answerBytesMax: 250,
    expectedBytesOf: () => 100,
    idOf: (request) => request,
    timeoutMsOf: () => 0,
    isCancel: (request) => request < 0,
    answer: (request) => {
      begun.push(request);
      return new Promise<number>((resolve) => answers.set(request, resolve));
    },
    fail: (request) => -request,
  });
  for (const request of [1, 2, 3]) stream.receive(request);
  expect(begun).toEqual([1, 2]);
  expect(stream.reading).toBe(false);
  answers.get(1)?.(1);
  await eventually(() => stream.written.length === 1);
  // The client does not read the first answer: nothing begins.
  expect(begun).toEqual([1, 2]);
  stream.drain();
  await eventually(() => begun.length === 3);
  for (const request of [2, 3]) {
    answers.get(request)?.(request);
    await eventually(() => stream.written.includes(request));
    stream.drain();
  }
  await eventually(() => stream.reading);
  stream.end();
  await run;
  expect(stream.written).toEqual([1, 2, 3]);
});
