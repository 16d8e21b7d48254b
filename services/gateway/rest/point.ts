import type { FastifyRequest } from "fastify";
import { type ErrorCode, isErrorCode, KithError } from "../../../libs/base/index.js";
import { idFromNum, isUuid } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { checkText } from "../json/request.js";
import { readText } from "./body.js";
import { type Answer, parametersOf, type RestContext, tokenOf } from "./context.js";
import { decoded } from "./decoded.js";
import type { HttpCall } from "./http-call.js";
import { withStatus } from "./problem.js";

/** One point at a path of its own; its version is its ETag. */
export function serveById(
  context: RestContext,
  call: HttpCall,
  request: FastifyRequest,
  verb: "GET" | "PUT" | "DELETE",
): Promise<Answer> {
  const params = request.params as Record<string, string>;
  const partition = parametersOf(request).get("partition");
  const at = {
    collection: checkText(params["collection"] ?? "", "the path"),
    id: idOf(params["id"] ?? ""),
    ...(partition !== null && { partition: checkText(partition, "partition") }),
  };
  if (verb === "GET") return get(context, call, request, at);
  return verb === "PUT" ? put(context, call, request, at) : remove(context, call, request, at);
}

interface Place {
  collection: string;
  id: pb.PointId;
  /** Its value of the partition key. */
  partition?: string;
}

/** Digits are a number, a UUID is one, anything else is a name. */
function idOf(text: string): pb.PointId {
  checkText(text, "the id in the path");
  if (/^\d{1,20}$/.test(text)) {
    const value = BigInt(text);
    // INVALID_ID beyond u64.
    idFromNum(value);
    return { id: { $case: "num", value } };
  }
  return { id: { $case: isUuid(text) ? "uuid" : "name", value: text } };
}

async function get(context: RestContext, call: HttpCall, request: FastifyRequest, at: Place): Promise<Answer> {
  const parameters = parametersOf(request);
  const select = { payload: parameters.get("payload") !== "false", allVectors: parameters.get("vectors") === "true" };
  const found = await ask(context, call, at, select, tokenHeader(context, request));
  const [point] = found.response.points;
  if (point === undefined) {
    const { id } = at.id;
    throw new KithError("POINT_NOT_FOUND", `there is no point ${String(id?.value)} in "${at.collection}"`, {
      details: { id: String(id?.value), collection: at.collection },
    });
  }
  const etag = `"${point.version}"`;
  const headers = { etag, ...found.headers };
  if (etagsOf(request, "if-none-match")?.includes(etag) === true) return { status: 304, headers, body: "" };
  const message = context.descriptors.message("kith.v1.Point");
  return { headers, body: context.printers.print(message, pb.Point.encode(point).finish()) };
}

async function ask(
  context: RestContext,
  call: HttpCall,
  { collection, id, partition }: Place,
  select: { payload: boolean; allVectors: boolean },
  consistency: pb.Consistency | undefined,
) {
  const message = pb.GetPointsRequest.fromPartial({ collection, ids: [id], select, partition });
  const bytes = pb.GetPointsRequest.encode({ ...message, consistency }).finish();
  const answer = await context.backend.unary("kith.v1.Points/Get", bytes, call);
  const token = tokenOf(answer, 2);
  return {
    response: pb.GetPointsResponse.decode(answer),
    headers: token === undefined ? undefined : { "kith-token": token },
  };
}

function tokenHeader(context: RestContext, request: FastifyRequest): pb.Consistency | undefined {
  const token = request.headers["kith-token"];
  if (typeof token !== "string") return undefined;
  const consistency = context.descriptors.message("kith.v1.Consistency");
  return decoded(pb.Consistency, context.readers.encode(consistency, JSON.stringify({ atLeast: token })));
}

async function put(context: RestContext, call: HttpCall, request: FastifyRequest, at: Place): Promise<Answer> {
  const text = await readText(request.raw, context.clock, call.signal);
  const id = pb.PointId.encode(at.id).finish();
  const bytes = context.readers.encode(context.descriptors.message("kith.v1.Point"), text, [
    { path: ["id"], value: id, source: "the path" },
  ]);
  const mode = request.headers["if-none-match"] === "*" ? pb.UpsertMode.INSERT_ONLY : pb.UpsertMode.UNSPECIFIED;
  const message = pb.UpsertRequest.fromPartial({ collection: at.collection, mode });
  const encoded = pb.UpsertRequest.encode({
    ...message,
    points: [decoded(pb.Point, bytes)],
    expectedVersions: expectedVersions(request),
    options: optionsOf(request),
  }).finish();
  const answer = await context.backend.unary("kith.v1.Points/Upsert", encoded, call);
  const response = pb.UpsertResponse.decode(answer);
  refuseItem(response.errors, at);
  return answerOf(context, "kith.v1.UpsertResponse", answer, 3);
}

async function remove(context: RestContext, call: HttpCall, request: FastifyRequest, at: Place): Promise<Answer> {
  const message = pb.DeletePointsRequest.fromPartial({
    collection: at.collection,
    ids: [at.id],
    partition: at.partition,
  });
  const encoded = pb.DeletePointsRequest.encode({
    ...message,
    expectedVersions: expectedVersions(request),
    options: optionsOf(request),
  }).finish();
  const answer = await context.backend.unary("kith.v1.Points/Delete", encoded, call);
  refuseItem(pb.DeletePointsResponse.decode(answer).errors, at);
  return answerOf(context, "kith.v1.DeletePointsResponse", answer, 2);
}

function answerOf(context: RestContext, type: string, answer: Uint8Array, tokenField: number): Answer {
  const token = tokenOf(answer, tokenField);
  return {
    body: context.printers.print(context.descriptors.message(type), answer),
    ...(token !== undefined && { headers: { "kith-token": token } }),
  };
}

function optionsOf(request: FastifyRequest): pb.WriteOptions {
  const key = request.headers["idempotency-key"];
  const ack = parametersOf(request).get("ack");
  const acks: Readonly<Record<string, pb.Ack>> = { log: pb.Ack.LOG, applied: pb.Ack.APPLIED, all: pb.Ack.ALL };
  const known = ack === null ? pb.Ack.UNSPECIFIED : Object.hasOwn(acks, ack) ? acks[ack] : undefined;
  if (known === undefined) throw new KithError("INVALID_ARGUMENT", "ack is one of log, applied, all");
  return { ack: known, idempotencyKey: typeof key === "string" ? key : "" };
}

/** The tags of a header; undefined where it is missing. */
function etagsOf(request: FastifyRequest, name: string): string[] | undefined {
  const header = request.headers[name];
  return typeof header === "string" ? header.split(",").map((each) => each.trim()) : undefined;
}

function expectedVersions(request: FastifyRequest): number[] {
  const tags = etagsOf(request, "if-match");
  if (tags === undefined) return [];
  const [tag] = tags;
  const version = /^"(\d{1,16})"$/.exec(tag ?? "")?.[1];
  if (tags.length !== 1 || version === undefined || Number(version) === 0) {
    throw new KithError("INVALID_ARGUMENT", 'If-Match must be one version as ETag gives it, like "17"');
  }
  return [Number(version)];
}

/** The one item that was refused is the whole request here. What a header has made a condition is a failed precondition. */
function refuseItem(errors: readonly pb.ItemError[], at: Place): void {
  const [first] = errors;
  if (first === undefined) return;
  const code: ErrorCode = isErrorCode(first.code) ? first.code : "INTERNAL";
  const error = new KithError(code, first.message, { details: { collection: at.collection } });
  throw code === "POINT_EXISTS" ? withStatus(error, 412) : error;
}
