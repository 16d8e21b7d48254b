import { Agent, request as httpRequest } from "node:http";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { errorTable } from "../../libs/base/index.js";
import { fromServiceError } from "../../libs/rpc/common/index.js";
import { mutate } from "./mutate.js";
import { mutateJson, mutateMessage } from "./mutate-fields.js";
import type { RecordedRequest } from "./recording-proxies.js";
import { atOnce, concurrent, count, type Door, pick, type Tally, within } from "./sending.js";
import type { Target } from "./target.js";

/** What would make a log for each collection that it names, or changes the schema, for which all others then wait. */
const rare = /^\/qdrant\.(Collections|Snapshots|Points\/(Create|Delete)(FieldIndex|VectorName)$)/;
const rarePath = /\/index(\?|$)|^\/collections\/[^/]+(\?|$)/;
const rareShare = 0.01;
const timeoutMs = 1_000;
const asIs = (bytes: Buffer): Buffer => bytes;

/** Asks as a client of Qdrant's gRPC services does. Gives the status; throws where an error is not as clients know it. */
export class QdrantGrpcAsker {
  readonly #client: Client;

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure());
  }

  ask(path: string, bytes: Buffer): Promise<string> {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + timeoutMs;
      this.#client.makeUnaryRequest(path, asIs, asIs, bytes, new Metadata(), { deadline }, (error) => {
        const wrong = error === null ? undefined : faultOf(error);
        if (wrong === undefined) resolve(error === null ? "OK" : (status[error.code] ?? "?"));
        else reject(new Error(`${path} ${bytes.toString("base64")}: ${wrong}: ${error?.message ?? ""}`));
      });
    });
  }

  close(): void {
    this.#client.close();
  }
}

const faults = new Set<number>([status.INTERNAL, status.UNKNOWN, status.DATA_LOSS]);

function faultOf(error: ServiceError): string | undefined {
  if (faults.has(error.code)) return "a fault of the server";
  // The client itself ends what takes longer.
  if (error.code === status.DEADLINE_EXCEEDED) return undefined;
  if (error.metadata.get("grpc-status-details-bin").length === 0) return "an error without details";
  const { code } = fromServiceError(error);
  return Object.hasOwn(errorTable, code) && code !== "INTERNAL" ? undefined : `the code ${code}`;
}

export function qdrantGrpcDoor({ node, qdrant }: Target): Door {
  const asker = new QdrantGrpcAsker(node.qdrantGrpcAddress);
  const common = qdrant.grpc.filter(({ path }) => !rare.test(path));
  return {
    name: "Qdrant's gRPC",
    share: 125,
    send: (total, random, tally: Tally) =>
      atOnce(total, async () => {
        const { path, bytes } = pick(random.float() < rareShare ? qdrant.grpc : common, random);
        const sent =
          random.float() < 0.4 ? mutate(bytes, pick(common, random).bytes, random) : mutateMessage(bytes, random);
        count(tally, await within(path, asker.ask(path, sent)));
      }),
    close: () => asker.close(),
  };
}

/** Asks as a client of Qdrant's REST API does. Gives the status; throws where an answer has not the form that clients know. */
export class QdrantRestAsker {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: concurrent });
  readonly #url: URL;

  constructor(address: string) {
    this.#url = new URL(`http://${address}`);
  }

  ask({ method, path, body }: { method: string; path: string; body: Buffer }): Promise<string> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.#url;
      const headers = { ...(body.length > 0 && { "content-type": "application/json" }) };
      const call = httpRequest({ agent: this.#agent, hostname, port, method, path, headers });
      call.on("error", reject);
      call.on("response", (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("error", reject);
        answer.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          const { statusCode = 0 } = answer;
          const wrong = wrongIn(statusCode, text);
          if (wrong === undefined) resolve(String(statusCode));
          else
            reject(
              new Error(`${method} ${path} ${body.toString("base64")}: ${wrong}: ${statusCode} ${text.slice(0, 400)}`),
            );
        });
      });
      call.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** Statuses of the server's own that are documented: what is not built, and what takes too long or is too much. */
const serverStatuses = new Set([501, 503]);

function wrongIn(statusCode: number, text: string): string | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return `the answer is no JSON (${(error as Error).message})`;
  }
  const { result, status: said, time } = parsed as { result?: unknown; status?: unknown; time?: unknown };
  if (typeof time !== "number") return "an answer without a time";
  if (statusCode === 202) return said === "accepted" && result === null ? undefined : "not said to be accepted";
  if (statusCode === 200) return said === "ok" && result !== undefined ? undefined : "a result without the status ok";
  if (statusCode >= 500 && !serverStatuses.has(statusCode)) return "a fault of the server";
  const { error, code, details } = said as { error?: unknown; code?: unknown; details?: unknown };
  if (typeof error !== "string" || error === "" || result !== null) return "an error that is none of Qdrant's";
  if (typeof code !== "string" || !Object.hasOwn(errorTable, code) || code === "INTERNAL") return "no stable code";
  return typeof details === "object" && details !== null ? undefined : "an error without details";
}

export function qdrantRestDoor({ node, qdrant }: Target): Door {
  const asker = new QdrantRestAsker(node.qdrantAddress);
  const withBody = qdrant.rest.filter(({ body }) => body !== "");
  const common = withBody.filter(({ path }) => !rarePath.test(path));
  return {
    name: "Qdrant's REST",
    share: 125,
    send: (total, random, tally) =>
      atOnce(total, async () => {
        const { method, path, body }: RecordedRequest = pick(random.float() < rareShare ? withBody : common, random);
        const other = pick(withBody, random).body;
        const sent =
          random.float() < 0.3
            ? mutate(Buffer.from(body), Buffer.from(other), random)
            : Buffer.from(mutateJson(body, other, random));
        // Another path to a collection makes one.
        const bent =
          random.float() < 0.05 && path.includes("/points")
            ? path + encodeURIComponent(mutate(Buffer.from("x"), Buffer.from(other), random).toString())
            : path;
        count(tally, await within(`${method} ${bent}`, asker.ask({ method, path: bent, body: sent })));
      }),
    close: () => asker.close(),
  };
}
