import type { DescMethod } from "@bufbuild/protobuf";
import type { FastifyRequest } from "fastify";
import { deferred, type Deferred, KithError } from "../../../libs/base/index.js";
import { pb } from "../../../libs/wire/index.js";
import { checkText } from "../json/request.js";
import { readText } from "./body.js";
import { type Answer, type RestContext, tokenOf, writeChunk } from "./context.js";
import { decoded } from "./decoded.js";
import type { HttpCall } from "./http-call.js";

const linesType = { "content-type": "application/x-ndjson; charset=utf-8", "cache-control": "no-store" };
/** Points of a page of an export, where the request names no limit; and of the first page, which tells how large points are. */
const pagePoints = 1_000;
const firstPagePoints = 64;
/** Bytes of a page: what is kept for a client that does not read. */
const pageBytes = 1024 * 1024;
/** Lines that leave as one piece, in characters. */
const pieceLength = 64 * 1024;

/** All pages of a scroll, one point to a line: the next page is read when the client has taken this one. The last line is `{"end":true}`: without it the answer is not whole. */
export async function exportPoints(
  context: RestContext,
  call: HttpCall,
  request: FastifyRequest,
  method: DescMethod,
): Promise<Answer | undefined> {
  const params = request.params as Record<string, string>;
  const text = await readText(request.raw, context.clock, call.signal);
  const bytes = context.readers.encode(method.input, text, [
    { path: ["collection"], value: checkText(params["collection"] ?? "", "the path"), source: "the path" },
  ]);
  const scroll = decoded(pb.ScrollRequest, bytes);
  const limit = scroll.limit === 0 ? pagePoints : scroll.limit;
  scroll.limit = Math.min(limit, firstPagePoints);
  const point = context.descriptors.message("kith.v1.Point");
  let count = 0;
  for (;;) {
    const answer = await context.backend.unary("kith.v1.Points/Scroll", pb.ScrollRequest.encode(scroll).finish(), call);
    const page = pb.ScrollResponse.decode(answer);
    if (count === 0 && !call.response.headersSent) {
      const token = tokenOf(answer, 3);
      call.response.writeHead(200, { ...linesType, ...(token !== undefined && { "kith-token": token }) });
    }
    let lines = "";
    for (const each of page.points) {
      lines += `${context.printers.print(point, pb.Point.encode(each).finish())}\n`;
      if (lines.length < pieceLength) continue;
      await writeChunk(call, lines);
      lines = "";
    }
    count += page.points.length;
    if (lines !== "") await writeChunk(call, lines);
    const fitting = Math.floor((pageBytes * page.points.length) / answer.length);
    scroll.limit = Math.min(limit, Math.max(1, fitting));
    if (page.nextCursor.length === 0) break;
    scroll.cursor = page.nextCursor;
    scroll.from = undefined;
  }
  call.response.end(`{"end":true,"points":${count}}\n`);
  return undefined;
}

/** Answers of a watch that wait for the client before the source is held, in bytes. */
const waitingBytesMax = 256 * 1024;

/** The changes of a collection, one answer to a line, until the client leaves. */
export async function watchChanges(
  context: RestContext,
  call: HttpCall,
  request: FastifyRequest,
): Promise<Answer | undefined> {
  const params = request.params as Record<string, string>;
  const text = await readText(request.raw, context.clock, call.signal);
  const bytes = context.readers.encode(context.descriptors.message("kith.v1.WatchRequest"), text, [
    { path: ["collection"], value: checkText(params["collection"] ?? "", "the path"), source: "the path" },
  ]);
  const message = context.descriptors.message("kith.v1.WatchResponse");
  const { response } = call;
  const over = deferred<KithError | undefined>();
  const waiting: string[] = [];
  let waitingBytes = 0;
  let wake: Deferred<void> = deferred();
  let isOver = false;
  const source = context.backend.answers("kith.v1.Changes/Watch", bytes, call, {
    onMessage(answer) {
      const line = `${context.printers.print(message, answer)}\n`;
      waiting.push(line);
      waitingBytes += line.length;
      if (waitingBytes > waitingBytesMax) source.pause();
      wake.resolve();
    },
    onEnd(error) {
      isOver = true;
      over.resolve(error);
      wake.resolve();
    },
  });
  call.cancellation.addEventListener("abort", () => source.cancel());
  while (!isOver || waiting.length > 0) {
    await call.race(wake.promise);
    wake = deferred();
    const lines = waiting.splice(0).join("");
    waitingBytes = 0;
    if (lines === "") continue;
    if (!response.headersSent) response.writeHead(200, linesType);
    await writeChunk(call, lines);
    source.resume();
  }
  const error = await over.promise;
  if (error !== undefined) throw error;
  if (!response.headersSent) throw new KithError("INTERNAL", "the watch ended before it began");
  response.end();
  return undefined;
}
