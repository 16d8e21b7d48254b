import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadNodeConfig } from "../../libs/config/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";

/** What came back: the status, the headers, and the body as text and as JSON where it is JSON. */
export interface Reply {
  status: number;
  headers: Headers;
  text: string;
  json: Record<string, unknown>;
}

/** A whole database in this process with its REST API on a free port. */
export class TestServer {
  private constructor(
    readonly node: RunningNode,
    private readonly folder: string,
  ) {}

  /** `env`: the OTEL_* variables. */
  static async start(http: object = {}, flags: object = {}, env: Record<string, string> = {}): Promise<TestServer> {
    const folder = mkdtempSync(join(tmpdir(), "kith-rest-"));
    const config = loadNodeConfig({
      flags: {
        nodeId: "rest",
        roles: ["router", "shard", "coordinator"],
        data: folder,
        listen: { port: 0 },
        http: { port: 0, ...http },
        drainTimeoutMs: 2_000,
        ...flags,
      },
    });
    const node = await startNode(config, { version: "test", env, logger: () => silentLogger });
    return new TestServer(node, folder);
  }

  get url(): string {
    return `http://${this.node.httpAddress}`;
  }

  /** `body`: an object becomes JSON, a text goes as it is. */
  async call(
    method: string,
    path: string,
    body?: object | string | Uint8Array<ArrayBuffer>,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    const isBytes = typeof body === "string" || body instanceof Uint8Array;
    const sent = body === undefined ? null : isBytes ? body : JSON.stringify(body);
    const response = await fetch(this.url + path, {
      method,
      headers: { ...(sent !== null && { "content-type": "application/json" }), ...headers },
      body: sent,
    });
    const text = await response.text();
    const isJson = /^application\/(problem\+)?json;/.test(response.headers.get("content-type") ?? "");
    const json = isJson ? (JSON.parse(text) as Record<string, unknown>) : {};
    return { status: response.status, headers: response.headers, text, json };
  }

  async close(): Promise<void> {
    await this.node.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
