import { setMaxListeners } from "node:events";
import { Socket } from "node:net";
import { type JetStreamClient, type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream";
import {
  type Authenticator,
  connect,
  credsAuthenticator,
  errors,
  type NatsConnection,
  type NodeConnectionOptions,
  type Status,
} from "@nats-io/transport-node";
import { backoffMs, type Clock, KithError, type Random, type Runtime, sleep, toKithError } from "../base/index.js";
import { classify, NatsOutage } from "./failure.js";

export interface NatsConnectOptions extends Runtime {
  /** One or several URLs, such as nats://user:password@host:4222; all of one cluster. */
  servers: string | readonly string[];
  /** Shown in the server's list of connections. */
  name?: string;
  /** Content of a credentials file (JWT and seed), as it is when a connection is made. */
  credentials?: () => Uint8Array;
  /** Left out: as the server wants it. Else no server is spoken to without TLS; asked for whenever a connection is made. */
  tls?: () => NatsTls;
  /** How long to try before the first connection stands; default 10 000. */
  connectTimeoutMs?: number;
  /** Gives up the first connection. */
  signal?: AbortSignal;
  /** Told of every change of the connection, in plain lines. */
  onEvent?: (event: { level: "info" | "warn"; message: string }) => void;
}

/** PEM. Without authorities those of the system are trusted. */
export interface NatsTls {
  ca: string | undefined;
  cert: string | undefined;
  key: string | undefined;
}

/** Older servers have known faults in compare-and-set and can lose data. */
const minimumVersion = [2, 12] as const;

/** A server that hangs with its socket open is noticed when two pings have no answer: after 4 to 6 s. A killed one at once. */
const pingIntervalMs = 2_000;
const reconnectDelayMs = 100;
const reconnectJitterMs = 100;
const requestTimeoutMs = 5_000;
const probeTimeoutMs = 1_000;
const probeBackoff = { initialMs: 50, maxMs: 1_000 };
const defaultConnectTimeoutMs = 10_000;

/**
 * One connection to NATS, shared by all that a process does there. It reconnects for ever; `available` says whether
 * JetStream answers on it at the moment.
 */
export class NatsLink {
  readonly connection: NatsConnection;
  readonly jetstream: JetStreamClient;
  readonly manager: JetStreamManager;
  /** Of those who use the connection too. The library's own pings and timeouts are the host's. */
  readonly clock: Clock;
  readonly #random: Random;
  readonly #onEvent: NonNullable<NatsConnectOptions["onEvent"]>;
  readonly #listeners = new Set<(available: boolean) => void>();
  readonly #underWay = new Set<(error: NatsOutage) => void>();
  readonly #closing = new AbortController();
  #connected = true;
  #ready = true;
  #probing: Promise<void> | undefined;

  constructor(connection: NatsConnection, manager: JetStreamManager, options: NatsConnectOptions) {
    this.connection = connection;
    this.manager = manager;
    this.jetstream = jetstream(connection, { timeout: requestTimeoutMs });
    this.clock = options.clock;
    this.#random = options.random;
    this.#onEvent = options.onEvent ?? ((): void => undefined);
    // One listener per call that waits for the server; their number is bounded by the callers' own queues.
    setMaxListeners(0, this.#closing.signal);
    this.#follow().catch((error: unknown) =>
      this.#event("warn", `following the connection failed: ${toKithError(error).message}`),
    );
  }

  get available(): boolean {
    return this.#connected && this.#ready && !this.closed;
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  get serverVersion(): string {
    return this.connection.info?.version ?? "unknown";
  }

  /** Called on every change of `available`. Returns the unsubscriber. */
  onAvailability(listener: (available: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when `available`; rejects when the signal aborts or the link is closed. */
  whenAvailable(signal: AbortSignal): Promise<void> {
    if (this.available) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        unsubscribe();
        signal.removeEventListener("abort", onAbort);
        this.#closing.signal.removeEventListener("abort", onClose);
        settle();
      };
      const onAbort = (): void => end(() => reject(new NatsOutage("disconnected", "NATS is not available")));
      const onClose = (): void => end(() => reject(new NatsOutage("closed", "the connection to NATS is closed")));
      const unsubscribe = this.onAvailability((available) => {
        if (available) end(resolve);
      });
      signal.addEventListener("abort", onAbort, { once: true });
      this.#closing.signal.addEventListener("abort", onClose, { once: true });
      if (signal.aborted) onAbort();
      else if (this.closed) onClose();
    });
  }

  /**
   * Makes a request that ends at once, with a NatsOutage, when the connection breaks meanwhile. Errors of the NATS
   * library that mean "away" become a NatsOutage too.
   */
  request<T>(work: () => Promise<T>): Promise<T> {
    if (this.closed) return Promise.reject(new NatsOutage("closed", "the connection to NATS is closed"));
    if (!this.#connected) return Promise.reject(new NatsOutage("disconnected", "NATS is not reachable"));
    return new Promise<T>((resolve, reject) => {
      const fail = (error: unknown): void => {
        this.#underWay.delete(fail);
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- classify keeps what was thrown
        reject(classify(error));
      };
      this.#underWay.add(fail);
      work().then((value) => {
        this.#underWay.delete(fail);
        resolve(value);
      }, fail);
    });
  }

  /** Somebody had no answer: asks whether JetStream is there, and is unavailable until it is. */
  suspect(): void {
    if (this.available) this.#probe();
  }

  async close(): Promise<void> {
    if (this.closed) return;
    const wasAvailable = this.available;
    this.#closing.abort(new KithError("SHUTTING_DOWN", "the connection to NATS is closed"));
    this.#breakOff(new NatsOutage("closed", "the connection to NATS is closed"));
    if (wasAvailable) this.#announce();
    await this.#probing;
    await this.connection.close();
  }

  async #follow(): Promise<void> {
    for await (const status of this.connection.status()) this.#onStatus(status);
  }

  #onStatus(status: Status): void {
    switch (status.type) {
      case "disconnect":
        this.#event("warn", `lost the connection to NATS at ${status.server}`);
        this.#lost();
        break;
      case "reconnect":
        this.#event("info", `connected to NATS again at ${status.server}`);
        this.#connected = true;
        this.#probe();
        break;
      case "staleConnection":
        this.#event("warn", "NATS does not answer pings; connecting anew");
        this.#lost();
        // The library first waits until the socket has taken what was written: with a hung server, for ever.
        socketOf(this.connection)?.destroy();
        break;
      case "ldm":
        // The server is about to end: another one of the cluster takes over without waiting for the break.
        this.#event("info", `the NATS server at ${status.server} is shutting down`);
        if (this.connection.info?.connect_urls !== undefined && this.connection.info.connect_urls.length > 1) {
          this.connection.reconnect().catch((error: unknown) => this.#event("warn", toKithError(error).message));
        }
        break;
      case "error":
        this.#event("warn", `NATS reports: ${status.error.message}`);
        break;
      case "slowConsumer":
        this.#event("warn", `a subscription holds ${status.pending} messages`);
        break;
      case "update":
        this.#event("info", `NATS servers: ${JSON.stringify({ added: status.added, deleted: status.deleted })}`);
        break;
      case "close":
        this.#change(() => {
          this.#connected = false;
        });
        this.#breakOff(new NatsOutage("closed", "the connection to NATS is closed"));
        break;
      case "reconnecting":
      case "forceReconnect":
      case "ping":
        break;
    }
  }

  /** Asks until JetStream answers. */
  #probe(): void {
    this.#probing ??= this.#untilReady().finally(() => {
      this.#probing = undefined;
    });
  }

  async #untilReady(): Promise<void> {
    for (let attempt = 0; this.#connected && !this.closed; attempt++) {
      try {
        checkVersion(this.serverVersion);
        await this.connection.request("$JS.API.INFO", undefined, { timeout: probeTimeoutMs });
        if (this.#connected) this.#change(() => (this.#ready = true));
        return;
      } catch (error) {
        if (attempt === 0) this.#event("warn", `JetStream is not ready: ${toKithError(classify(error)).message}`);
        this.#change(() => (this.#ready = false));
        await sleep(this.clock, backoffMs(attempt, probeBackoff, this.#random), this.#closing.signal).catch(
          (stopped: unknown) =>
            // The only rejection is our own closing, which the loop's condition sees.
            this.#event("info", toKithError(stopped).message),
        );
      }
    }
  }

  #lost(): void {
    this.#change(() => {
      this.#connected = false;
      this.#ready = false;
    });
    this.#breakOff(new NatsOutage("disconnected", "the connection to NATS broke"));
  }

  #breakOff(error: NatsOutage): void {
    for (const fail of [...this.#underWay]) fail(error);
  }

  #change(change: () => void): void {
    const before = this.available;
    change();
    if (this.available !== before) this.#announce();
  }

  #announce(): void {
    const available = this.available;
    for (const listener of [...this.#listeners]) listener(available);
  }

  #event(level: "info" | "warn", message: string): void {
    this.#onEvent({ level, message });
  }
}

/** The connection's socket; the library has no public way to it. */
function socketOf(connection: NatsConnection): Socket | undefined {
  const { protocol } = connection as { protocol?: { transport?: { socket?: unknown } } };
  const socket = protocol?.transport?.socket;
  return socket instanceof Socket ? socket : undefined;
}

function checkVersion(version: string): void {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > minimumVersion[0] || (major === minimumVersion[0] && minor >= minimumVersion[1])) return;
  throw new KithError(
    "INVALID_CONFIG",
    `the NATS server is version ${version}; Kith needs ${minimumVersion.join(".")} or newer, because older ones have known ` +
      "faults in compare-and-set and can lose acknowledged data: upgrade it, or run one process with the embedded log (log.kind), which needs none",
    { details: { version, minimumVersion: minimumVersion.join(".") } },
  );
}

/** Servers as the library wants them, and the user that their URLs name. */
function parseServers(servers: NatsConnectOptions["servers"]): {
  hosts: string[];
  user: Partial<NodeConnectionOptions>;
} {
  let user: Partial<NodeConnectionOptions> = {};
  const hosts = (typeof servers === "string" ? servers.split(",") : [...servers]).map((text) => {
    const trimmed = text.trim();
    const full = trimmed.includes("://") ? trimmed : `nats://${trimmed}`;
    if (!URL.canParse(full) || new URL(full).host === "") {
      throw new KithError(
        "INVALID_CONFIG",
        `${JSON.stringify(text)} is not the URL of a NATS server; write nats://host:4222`,
      );
    }
    const url = new URL(full);
    if (url.username !== "") {
      const name = decodeURIComponent(url.username);
      user = url.password === "" ? { token: name } : { user: name, pass: decodeURIComponent(url.password) };
    }
    return `${url.protocol}//${url.host}`;
  });
  return { hosts, user };
}

/**
 * Connects to NATS and checks that the server will do: INVALID_CONFIG when it is older than 2.12 or has no JetStream,
 * UNAUTHENTICATED when it refuses the user, LOG_UNAVAILABLE when none answers, or JetStream is not ready, within `connectTimeoutMs`.
 */
export async function connectNats(options: NatsConnectOptions): Promise<NatsLink> {
  const { hosts, user } = parseServers(options.servers);
  const endMs = options.clock.monotonicMs() + (options.connectTimeoutMs ?? defaultConnectTimeoutMs);
  const connection = await dial(hosts, options, user, endMs);
  try {
    checkVersion(connection.info?.version ?? "0.0");
    const manager = await jetstreamManager(connection, { timeout: requestTimeoutMs, checkAPI: false });
    await untilJetStreamAnswers(connection, manager, options, endMs);
    return new NatsLink(connection, manager, options);
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/** Servers that start together need some seconds before JetStream has a leader; one without JetStream never answers. */
async function untilJetStreamAnswers(
  connection: NatsConnection,
  manager: JetStreamManager,
  { clock, random }: Runtime,
  endMs: number,
): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await manager.getAccountInfo();
      return;
    } catch (error) {
      const failure = classify(error);
      const server = connection.getServer();
      const away = failure instanceof NatsOutage;
      if (!away || (failure.reason === "no-responders" && connection.info?.jetstream !== true)) {
        throw new KithError(
          "INVALID_CONFIG",
          `the NATS server at ${server} does not offer JetStream: ${toKithError(failure).message}; enable it with a jetstream block in its configuration`,
          { cause: error },
        );
      }
      if (clock.monotonicMs() >= endMs) {
        throw new KithError("LOG_UNAVAILABLE", `JetStream on ${server} is not ready: ${failure.message}`, {
          cause: error,
        });
      }
      await sleep(clock, backoffMs(attempt, probeBackoff, random));
    }
  }
}

/** Asked at each connection. */
function credentialsOf(current: () => Uint8Array): Authenticator {
  return (nonce) => credsAuthenticator(current())(nonce);
}

/** The library reads them at each connection: getters give what the files have by then. */
function tlsOptionsOf(current: () => NatsTls): NonNullable<NodeConnectionOptions["tls"]> {
  return {
    get ca() {
      return current().ca;
    },
    get cert() {
      return current().cert;
    },
    get key() {
      return current().key;
    },
  };
}

async function dial(
  hosts: string[],
  options: NatsConnectOptions,
  user: Partial<NodeConnectionOptions>,
  endMs: number,
): Promise<NatsConnection> {
  const { clock, random } = options;
  for (let attempt = 0; ; attempt++) {
    const leftMs = Math.max(250, endMs - clock.monotonicMs());
    try {
      options.signal?.throwIfAborted();
      return await connect({
        servers: hosts,
        name: options.name ?? "kith",
        ...user,
        ...(options.credentials === undefined ? {} : { authenticator: credentialsOf(options.credentials) }),
        ...(options.tls === undefined ? {} : { tls: tlsOptionsOf(options.tls) }),
        timeout: Math.min(5_000, leftMs),
        maxReconnectAttempts: -1,
        reconnectDelayHandler: () => reconnectDelayMs + Math.floor(random.float() * reconnectJitterMs),
        ignoreAuthErrorAbort: true,
        pingInterval: pingIntervalMs,
        maxPingOut: 2,
        noAsyncTraces: true,
      });
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof errors.AuthorizationError) {
        throw new KithError(
          "UNAUTHENTICATED",
          `the NATS server at ${hosts.join(", ")} refuses this user or its credentials (${error.message}): give them in the URL (nats://user:password@host:4222), or name a credentials file (log.credentials, KITH_NATS_CREDENTIALS)`,
          { cause: error },
        );
      }
      if (clock.monotonicMs() >= endMs) {
        throw new KithError(
          "LOG_UNAVAILABLE",
          `no NATS server answers at ${hosts.join(", ")}: ${toKithError(error).message}`,
          {
            cause: error,
          },
        );
      }
      await sleep(clock, Math.min(backoffMs(attempt, probeBackoff, random), leftMs));
    }
  }
}
