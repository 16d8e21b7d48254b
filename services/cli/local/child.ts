import {
  backoffMs,
  type Deferred,
  deferred,
  KithError,
  sleep,
  systemClock,
  systemRandom,
  toKithError,
} from "../../../libs/base/index.js";
import type { Launched, ReadyMessage } from "./launch.js";

export interface ChildSpec {
  name: string;
  /** Starts it; `before` is what the child said when it was ready the last time. */
  launch: (before: ReadyMessage | undefined, onLine: (line: string) => void) => Launched;
  /** How long it may take to end in good order before it is ended by force. */
  stopTimeoutMs: number;
}

export interface ChildHooks {
  /** A line of the child's output. */
  onLine: (line: string) => void;
  /** Something about the child that people should know. */
  onNote: (text: string) => void;
  /** The child will not be started again. */
  onGivenUp: (error: KithError) => void;
}

/** A child that dies more often than this within the window is not started again. */
const restartsMax = 5;
const restartWindowMs = 60_000;
const restartBackoff = { initialMs: 500, maxMs: 10_000 };
const linesRemembered = 12;

/** A child process that is started again when it dies. */
export class SupervisedChild {
  readonly name: string;
  readonly #spec: ChildSpec;
  readonly #hooks: ChildHooks;
  readonly #stopping = new AbortController();
  readonly #recentLines: string[] = [];
  readonly #deathsMs: number[] = [];
  #process: Launched | undefined;
  #ready: ReadyMessage | undefined;
  #firstReady: Deferred<ReadyMessage> | undefined;
  #watched: Promise<void> = Promise.resolve();

  constructor(spec: ChildSpec, hooks: ChildHooks) {
    this.name = spec.name;
    this.#spec = spec;
    this.#hooks = hooks;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** What it said when it was ready the last time. */
  get ready(): ReadyMessage | undefined {
    return this.#ready;
  }

  /** Starts it; resolves when it serves. A child that dies before that is not tried again. */
  start(): Promise<ReadyMessage> {
    this.#firstReady = deferred<ReadyMessage>();
    this.#watched = this.#watch();
    return this.#firstReady.promise;
  }

  /** Ends it in good order, by force after its time. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#process;
    if (child !== undefined) {
      child.stop();
      const timer = setTimeout(() => {
        this.#hooks.onNote(`${this.name} did not end within ${this.#spec.stopTimeoutMs} ms and is ended by force`);
        child.kill();
      }, this.#spec.stopTimeoutMs);
      await child.ended.then(undefined, () => undefined);
      clearTimeout(timer);
    }
    await this.#watched;
  }

  /** For the ways out that leave no time. */
  kill(): void {
    this.#stopping.abort();
    this.#process?.kill();
  }

  /** Runs the child again and again until it is stopped, or given up. */
  async #watch(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      let how: string;
      try {
        how = await this.#runOnce();
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        if (this.#ready === undefined) {
          this.#giveUp(toKithError(error));
          return;
        }
        how = `(${toKithError(error).message})`;
      }
      if (this.#stopping.signal.aborted) return;
      const tail = this.#recentLines.map((line) => `\n  ${line}`).join("");
      if (this.#ready === undefined) {
        this.#giveUp(new KithError("FAILED_PRECONDITION", `${this.name} ended ${how} before it was ready:${tail}`));
        return;
      }
      const now = performance.now();
      this.#deathsMs.push(now);
      const recent = this.#deathsMs.filter((deathMs) => now - deathMs < restartWindowMs).length;
      if (recent > restartsMax) {
        this.#giveUp(
          new KithError(
            "INTERNAL",
            `${this.name} ended ${recent} times within a minute, the last time ${how}; its last lines:${tail}`,
          ),
        );
        return;
      }
      const pauseMs = backoffMs(recent - 1, restartBackoff, systemRandom);
      this.#hooks.onNote(
        `${this.name} ended unexpectedly ${how}; starting it again in ${(pauseMs / 1000).toFixed(1)} s`,
      );
      await sleep(systemClock, pauseMs, this.#stopping.signal).catch((error: unknown) => {
        if (!this.#stopping.signal.aborted) throw error;
      });
    }
  }

  #giveUp(error: KithError): void {
    if (this.#ready === undefined) this.#firstReady?.reject(error);
    else this.#hooks.onGivenUp(error);
  }

  /** Starts the child and waits for its end; says how it ended. */
  #runOnce(): Promise<string> {
    const child = this.#spec.launch(this.#ready, (line) => {
      this.#recentLines.push(line);
      if (this.#recentLines.length > linesRemembered) this.#recentLines.shift();
      this.#hooks.onLine(line);
    });
    this.#process = child;
    void child.ready.then((message) => {
      this.#ready = message;
      this.#firstReady?.resolve(message);
    });
    return child.ended;
  }
}
