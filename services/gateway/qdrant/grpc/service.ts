import type { DescMethod } from "@bufbuild/protobuf";
import { assert, KithError } from "../../../../libs/base/index.js";
import { isJsonObject, type JsonObject } from "../../../../libs/model/index.js";
import type { UnaryContext } from "../../../../libs/rpc/server/index.js";
import { Encoded, pb } from "../../../../libs/wire/index.js";
import type { Backend } from "../../rest/backend.js";
import { deadlineAfter, type Self } from "../api.js";
import { type QdrantCall, qdrantCalls } from "./calls.js";
import { nearestResponse, readNearest } from "./nearest.js";
import { payloadResponse } from "./payload-response.js";
import { MessageReaders } from "./reader.js";
import { qdrantMethods } from "./schema.js";
import { textIn } from "./source.js";
import { MessageWriters } from "./writer.js";

/** Fields that REST has in the path. */
const inPath = ["collection_name", "snapshot_name", "field_name", "vector_name"];
/** Fields that REST has as parameters. */
const parameters = ["wait", "ordering", "consistency", "timeout"];

/** Answers the calls of Qdrant's services by the operations of its REST API. */
export class QdrantService {
  readonly #backend: Backend;
  readonly #self: Self;
  readonly #methods = qdrantMethods();
  readonly #readers = new MessageReaders();
  readonly #writers = new MessageWriters();

  constructor(backend: Backend, self: Self) {
    this.#backend = backend;
    this.#self = self;
  }

  /** `name`: "Points/Query". The answer is the bytes of its message. */
  async answer(name: string, bytes: Uint8Array, call: UnaryContext): Promise<Encoded<object>> {
    const startMs = call.clock.monotonicMs();
    const nearest = name === "Points/Query" ? readNearest(bytes) : undefined;
    if (nearest !== undefined) {
      const found = await this.#backend.encoded(pb.PointsService.query, nearest, call);
      const seconds = (call.clock.monotonicMs() - startMs) / 1000;
      const hasPayloads = nearest.select?.payload === true;
      const answer = hasPayloads ? payloadResponse(found, seconds) : nearestResponse(found, seconds);
      assert(answer !== undefined || hasPayloads, "ids and scores were asked for, and points have more");
      if (answer !== undefined) return new Encoded(answer);
    }
    const method = this.#methods.get(name);
    const found = qdrantCalls.get(name);
    assert(method !== undefined && found !== undefined, `nothing answers ${name}`);
    const request = this.#decode(method, bytes);
    const path = Object.fromEntries(inPath.map((key) => [key, textIn(request[key])]));
    const params = paramsOf(request);
    const timeout = params.get("timeout");
    if (timeout !== undefined) shorten(call, startMs, deadlineAfter(timeout));
    const body = bodyOf(found, request);
    const backend = this.#backend;
    const gathering = backend.gathered.begin();
    try {
      const reply = await found.operation({ backend, call, path, params, body, gathering, self: this.#self });
      const time = (call.clock.monotonicMs() - startMs) / 1000;
      const written = this.#writers.encode(method.output, { ...found.answer(reply), time }, call.clock);
      return new Encoded(written instanceof Promise ? await written : written);
    } finally {
      gathering.release();
    }
  }

  #decode(method: DescMethod, bytes: Uint8Array): JsonObject {
    try {
      const value = this.#readers.decode(method.input, bytes);
      assert(isJsonObject(value), `${method.input.typeName} is no object of JSON`);
      return value;
    } catch (cause) {
      if (cause instanceof KithError) throw cause;
      const why = (cause as Error).message;
      throw new KithError("INVALID_ARGUMENT", `the request is no ${method.input.typeName}: ${why}`, { cause });
    }
  }
}

function paramsOf(request: JsonObject): Map<string, string> {
  const params = new Map<string, string>();
  for (const name of parameters) {
    const value = request[name];
    const text = textIn(value);
    if (text !== "") params.set(name, text);
  }
  return params;
}

function bodyOf({ body }: QdrantCall, request: JsonObject): JsonObject {
  return body === undefined ? request : body(request);
}

/** The call ends no later than what its request says. */
function shorten(call: UnaryContext, startMs: number, timeoutMs: number): void {
  const deadlineMs = startMs + timeoutMs;
  // The sweep of the server reads it at every tick.
  if (deadlineMs < call.deadlineMs) (call as { deadlineMs: number }).deadlineMs = deadlineMs;
}
