import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, freePort } from "../../libs/base/testing.js";

interface Server {
  readonly name: string;
  readonly port: number;
  readonly monitor: number;
  readonly config: string;
  child: ChildProcess | undefined;
}

/** Several nats-servers as one cluster, each of which can be killed alone; their streams may have as many copies. */
export class NatsServers {
  readonly #servers: Server[] = [];

  private constructor(
    readonly binary: string,
    readonly directory: string,
  ) {}

  static async start(binary: string, directory: string, count: number): Promise<NatsServers> {
    const servers = new NatsServers(binary, directory);
    const [ports, monitors, routes] = await Promise.all([freePort(count), freePort(count), freePort(count)]);
    const all = Array.from({ length: count }, (_, i) => `nats://127.0.0.1:${routes + i}`).join(", ");
    for (let i = 0; i < count; i++) {
      const name = `nats-${i}`;
      const folder = join(directory, name);
      mkdirSync(folder, { recursive: true });
      const config = join(folder, "nats.conf");
      writeFileSync(
        config,
        `server_name: ${name}
listen: "127.0.0.1:${ports + i}"
http: "127.0.0.1:${monitors + i}"
jetstream { store_dir: ${JSON.stringify(join(folder, "data"))}, sync_interval: always }
cluster { name: chaos, listen: "127.0.0.1:${routes + i}", routes: [${all}] }
`,
      );
      servers.#servers.push({ name, port: ports + i, monitor: monitors + i, config, child: undefined });
    }
    for (let i = 0; i < count; i++) servers.begin(i);
    for (let i = 0; i < count; i++) await servers.healthy(i);
    return servers;
  }

  get count(): number {
    return this.#servers.length;
  }

  /** URLs of all, comma-separated. */
  get url(): string {
    return this.#servers.map(({ port }) => `nats://127.0.0.1:${port}`).join(",");
  }

  /** The server that leads the most of the streams, of the catalog and the logs. */
  async leader(): Promise<number> {
    const counts = await Promise.all(this.#servers.map((server) => this.#leads(server)));
    return counts.indexOf(Math.max(...counts));
  }

  begin(i: number): void {
    const server = this.#at(i);
    if (server.child !== undefined) throw new Error(`${server.name} runs already`);
    const log = openSync(join(this.directory, `${server.name}.log`), "a");
    const child = spawn(this.binary, ["--config", server.config], { stdio: ["ignore", log, log] });
    closeSync(log);
    child.once("exit", () => {
      if (server.child === child) server.child = undefined;
    });
    server.child = child;
  }

  async kill(i: number): Promise<void> {
    const { child } = this.#at(i);
    if (child === undefined) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  signal(i: number, signal: NodeJS.Signals): void {
    this.#at(i).child?.kill(signal);
  }

  /** JetStream serves, and what it holds is up to date. */
  async healthy(i: number, withinMs = 60_000): Promise<void> {
    await eventually(async () => {
      const response = await fetch(`http://127.0.0.1:${this.#at(i).monitor}/healthz`);
      if (!response.ok) throw new Error(`nats-${i}: ${await response.text()}`);
    }, withinMs);
  }

  async close(): Promise<void> {
    await Promise.all(this.#servers.map((_, i) => this.kill(i)));
  }

  /** For the way out that leaves no time. */
  killNow(): void {
    for (const { child } of this.#servers) child?.kill("SIGKILL");
  }

  async #leads({ name, monitor }: Server): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${monitor}/jsz?streams=true`);
    const page = (await response.json()) as {
      account_details?: { stream_detail?: { cluster?: { leader?: string } }[] }[];
    };
    const streams = page.account_details?.flatMap(({ stream_detail }) => stream_detail ?? []) ?? [];
    return streams.filter(({ cluster }) => cluster?.leader === name).length;
  }

  #at(i: number): Server {
    const server = this.#servers[i];
    if (server === undefined) throw new Error(`there is no nats-${i}`);
    return server;
  }
}
