import { Agent, request as httpRequest } from "node:http";
import type { DescMethod } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { errorTable, type Random } from "../../libs/base/index.js";
import { fromServiceError } from "../../libs/rpc/common/index.js";
import { type QdrantRoute, qdrantRoutes } from "../../services/gateway/testing/routes.js";
import { generateMessage, type Words } from "./generate.js";
import { mutate } from "./mutate.js";
import { mutateJson, mutateMessage } from "./mutate-fields.js";
import { grpcCollection, restCollection } from "./qdrant-traffic.js";
import type { RecordedRequest } from "./recording-proxies.js";
import { atOnce, concurrent, count, type Door, pick, type Tally, within } from "./sending.js";
import { publicMethods, type Recorded, type Target } from "./target.js";

/** What would make a log for each collection that it names, or changes the schema, for which all others then wait. */
const rare = /^\/qdrant\.(Collections|Snapshots|Points\/(Create|Delete)(FieldIndex|VectorName)$)/;
const rarePath = /\/index(\?|$)|^\/collections\/[^/]+(\?|$)/;
const rareRoute = /\/(index|vectors|snapshots|cluster|shards|aliases|recover)\b|^\/collections\/:collection_name$/;
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

/** Of requests of both kinds, those that are made from what the descriptors allow, or to any path that there is. */
const generatedShare = 0.4;

export const qdrantWords: Words = {
  collections: [...Array.from({ length: 8 }, () => grpcCollection), restCollection, "nosuch", ""],
  keys: ["year", "tags", "title", "rating", "at", "place", "cast", "cast[].age", "none", ""],
  payloads: [],
  others: ["text", "text", "image", "tokens", "words", "dune", "a", "t1", "2020-01-01T00:00:00Z", ""],
};

/** A call of Qdrant's gRPC services, with a request of its own. */
export function generatedGrpc(method: DescMethod, random: Random): Recorded {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    bytes: generateMessage(method.input, qdrantWords, random),
  };
}

export function qdrantGrpcDoor({ node, qdrant }: Target): Door {
  const asker = new QdrantGrpcAsker(node.qdrantGrpcAddress);
  const common = qdrant.grpc.filter(({ path }) => !rare.test(path));
  const methods = publicMethods("qdrant");
  const commonMethods = methods.filter(({ parent, name }) => !rare.test(`/${parent.typeName}/${name}`));
  return {
    name: "Qdrant's gRPC",
    share: 125,
    send: (total, random, tally: Tally) =>
      atOnce(total, async () => {
        const isRare = random.float() < rareShare;
        const { path, bytes } =
          random.float() < generatedShare
            ? generatedGrpc(pick(isRare ? methods : commonMethods, random), random)
            : pick(isRare ? qdrant.grpc : common, random);
        const chance = random.float();
        const sent =
          chance < 0.3
            ? bytes
            : chance < 0.6
              ? mutate(bytes, pick(common, random).bytes, random)
              : mutateMessage(bytes, random);
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
      // Without its length the body of a DELETE would be taken for a request of its own.
      const headers = { ...(body.length > 0 && { "content-type": "application/json", "content-length": body.length }) };
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

/** A call of Qdrant's REST API by its route, with the body of another one. */
export function routedRest(
  { verb, path }: QdrantRoute,
  recorded: readonly RecordedRequest[],
  random: Random,
): RecordedRequest {
  const bound = path.replaceAll(/:(\w+)/g, (_, name: string) =>
    name === "collection_name"
      ? pick(qdrantWords.collections, random) || "x"
      : pick(["1", "a", "text", "tags"], random),
  );
  return { method: verb, path: bound, body: verb === "GET" ? "" : pick(recorded, random).body };
}

export function qdrantRestDoor({ node, qdrant }: Target): Door {
  const asker = new QdrantRestAsker(node.qdrantAddress);
  const withBody = qdrant.rest.filter(({ body }) => body !== "");
  const common = withBody.filter(({ path }) => !rarePath.test(path));
  const commonRoutes = qdrantRoutes.filter(({ path }) => !rareRoute.test(path));
  return {
    name: "Qdrant's REST",
    share: 125,
    send: (total, random, tally) =>
      atOnce(total, async () => {
        const isRare = random.float() < rareShare;
        const { method, path, body }: RecordedRequest =
          random.float() < generatedShare
            ? routedRest(pick(isRare ? qdrantRoutes : commonRoutes, random), withBody, random)
            : pick(isRare ? withBody : common, random);
        const other = pick(withBody, random).body;
        const sent =
          body === ""
            ? Buffer.alloc(0)
            : random.float() < 0.3
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
