import { setMaxListeners } from "node:events";
import { abortReason, type Cancellation, KithError, toKithError } from "../../libs/base/index.js";
import type { CallContext } from "../../libs/call/index.js";
import { untraced } from "../../libs/telemetry/index.js";
import type { Process, World } from "./world.js";

/** A peer that is not heard of for so long is given up, and what it was asked fails. */
const aliveCheckMs = 7_500;
/** How soon the end of a process is seen by those that are connected to it. */
const resetMs = 2;

export interface NetworkFaults {
  /** Share of messages that come late, and how late they come at most. */
  lateShare: number;
  lateMs: number;
  /** Share of connections that break when an answer is sent: the caller learns of a broken connection, and of nothing else. */
  lostAnswerShare: number;
  /** Share of requests that come twice. */
  duplicateShare: number;
}

/** What a call fails with where no answer comes. */
export type Broken = (why: string) => KithError;

/** Messages between processes by the names of their nodes: delayed, in order for each pair, and cut where that is said. */
export class Network {
  readonly faults: NetworkFaults = { lateShare: 0.05, lateMs: 30, lostAnswerShare: 0, duplicateShare: 0 };
  readonly #world: World;
  readonly #processes = new Map<string, Process>();
  /** Directed pairs "a>b" over which nothing comes, with the time since when. */
  readonly #cuts = new Map<string, number>();
  /** How often each pair was cut. */
  readonly #cutCounts = new Map<string, number>();
  /** By directed pair: when the last message comes. Those behind it do not overtake it. */
  readonly #arrivals = new Map<string, number>();
  readonly #listeners = new Set<() => void>();

  constructor(world: World) {
    this.#world = world;
  }

  /** From now on the node answers, as this process. */
  join(name: string, process: Process): void {
    this.#processes.set(name, process);
    process.onDeath(() => {
      if (this.#processes.get(name) !== process) return;
      this.#processes.delete(name);
      this.#changedSoon(resetMs);
    });
    this.#changedSoon(0);
  }

  /** The process of the node, where it answers. */
  find(name: string): Process | undefined {
    return this.#processes.get(name);
  }

  /** Nothing comes from `from` to `to` any more. */
  cut(from: string, to: string): void {
    const pair = `${from}>${to}`;
    if (!this.#cuts.has(pair)) this.#cuts.set(pair, this.#world.nowMs);
    this.#cutCounts.set(pair, (this.#cutCounts.get(pair) ?? 0) + 1);
    this.#changedSoon(aliveCheckMs);
  }

  /** Something has happened to a process of which its peers learn after a while. */
  lookLater(): void {
    this.#changedSoon(aliveCheckMs);
  }

  /** Everything comes again. */
  heal(): void {
    this.#cuts.clear();
    this.#changedSoon(0);
  }

  /** Whether a connection between them is up, as far as `from` knows. */
  isConnected(from: string, to: string): boolean {
    const process = this.#processes.get(to);
    if (process === undefined) return false;
    if (process.isPaused && this.#world.nowMs - process.pausedAtMs >= aliveCheckMs) return false;
    const sinceMs = Math.min(
      this.#cuts.get(`${from}>${to}`) ?? Number.POSITIVE_INFINITY,
      this.#cuts.get(`${to}>${from}`) ?? Number.POSITIVE_INFINITY,
    );
    return this.#world.nowMs - sinceMs < aliveCheckMs;
  }

  /** Told when connections may have come or gone. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Calls `broke` once, when the connection that is there now breaks: the other process has died, or messages were lost, or it is not heard of
   * for too long. Gives what takes it off.
   */
  onBreak(from: string, to: string, broke: () => void): () => void {
    const process = this.#processes.get(to);
    const cutCount = this.#isCut(from, to) ? -1 : this.#cutCount(from, to);
    const stop = this.onChange(() => {
      const isCut = this.#isCut(from, to);
      const wasCut = !isCut && this.#cutCount(from, to) !== cutCount;
      const isGone = this.#processes.get(to) !== process && !isCut;
      if (!wasCut && !isGone && this.isConnected(from, to)) return;
      if (isCut && this.isConnected(from, to)) return;
      stop();
      broke();
    });
    return stop;
  }

  /** Brings a message to the process; nothing where it does not come. */
  send(from: Process, fromName: string, toName: string, receive: (process: Process) => void): void {
    const pair = `${fromName}>${toName}`;
    if (from.isDead || this.#cuts.has(pair)) return;
    this.#world.after(this.#delayMs(pair), () => {
      const process = this.#processes.get(toName);
      if (process === undefined || this.#cuts.has(pair)) return;
      // Not before the process goes on, where it stands still.
      this.#world.after(0, () => receive(process), process);
    });
  }

  /**
   * Asks another node. Ends with the answer, with `broken` where the connection breaks or cannot be made, and with the caller's own end. The
   * other side gets the caller's deadline in its own time, and hears of its cancellation.
   */
  call<T>(
    from: Process,
    fromName: string,
    toName: string,
    context: Pick<CallContext, "signal" | "cancellation" | "deadlineMs">,
    broken: Broken,
    ask: (process: Process, context: CallContext) => Promise<T>,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const cancellation: Cancellation | undefined = context.cancellation ?? context.signal;
      if (cancellation?.aborted === true) {
        reject(abortReason(cancellation));
        return;
      }
      const cancelled = new AbortController();
      let isOver = false;
      const undo: (() => void)[] = [];
      const end = (settle: () => void): void => {
        if (isOver || from.isDead) return;
        isOver = true;
        for (const each of undo) each();
        settle();
      };
      const fail = (why: string, afterMs: number): void => {
        const timer = this.#world.after(afterMs, () => end(() => reject(broken(why))), from);
        undo.push(() => timer.close());
      };
      if (cancellation !== undefined) {
        const onAbort = (): void => {
          end(() => reject(abortReason(cancellation)));
          this.send(from, fromName, toName, () => cancelled.abort());
        };
        // One signal may end many calls.
        if (cancellation instanceof AbortSignal) setMaxListeners(0, cancellation);
        cancellation.addEventListener("abort", onAbort, { once: true });
        undo.push(() => cancellation.removeEventListener("abort", onAbort));
      }
      const leftMs = context.deadlineMs === undefined ? undefined : context.deadlineMs - from.clock.monotonicMs();
      if (leftMs !== undefined) {
        const timer = from.clock.setTimer(
          () => end(() => reject(new KithError("DEADLINE_EXCEEDED", "the deadline passed before the call ended"))),
          leftMs,
        );
        undo.push(() => timer.close());
      }
      if (this.#processes.get(toName) === undefined) return fail(`${toName} does not answer`, resetMs);
      undo.push(this.onBreak(fromName, toName, () => fail(`the connection to ${toName} broke`, 0)));
      const times = this.#world.random.float() < this.faults.duplicateShare ? 2 : 1;
      for (let i = 0; i < times; i++) {
        this.send(from, fromName, toName, (process) => {
          const callee: CallContext = {
            signal: cancelled.signal,
            trace: untraced,
            ...(leftMs !== undefined && { deadlineMs: process.clock.monotonicMs() + leftMs }),
          };
          ask(process, callee).then(
            (answer) => this.#answer(process, toName, fromName, () => end(() => resolve(answer)), fail),
            (error: unknown) =>
              this.#answer(process, toName, fromName, () => end(() => reject(toKithError(error))), fail),
          );
        });
      }
    });
  }

  #answer(
    process: Process,
    processName: string,
    toName: string,
    arrive: () => void,
    fail: (why: string, afterMs: number) => void,
  ): void {
    if (this.#world.random.float() < this.faults.lostAnswerShare) {
      this.#world.trace("network", `an answer of ${processName} to ${toName} is lost`);
      fail(`the connection to ${processName} broke`, resetMs);
      return;
    }
    this.send(process, processName, toName, arrive);
  }

  #isCut(a: string, b: string): boolean {
    return this.#cuts.has(`${a}>${b}`) || this.#cuts.has(`${b}>${a}`);
  }

  #cutCount(a: string, b: string): number {
    return (this.#cutCounts.get(`${a}>${b}`) ?? 0) + (this.#cutCounts.get(`${b}>${a}`) ?? 0);
  }

  #delayMs(pair: string): number {
    const { random, nowMs } = this.#world;
    const { lateShare, lateMs } = this.faults;
    const delayMs = 0.1 + random.float() * 0.9 + (random.float() < lateShare ? random.float() * lateMs : 0);
    const atMs = Math.max(nowMs + delayMs, this.#arrivals.get(pair) ?? 0);
    this.#arrivals.set(pair, atMs);
    return atMs - nowMs;
  }

  #changedSoon(afterMs: number): void {
    this.#world.after(afterMs + 0.001, () => {
      for (const listener of [...this.#listeners]) listener();
    });
  }
}
