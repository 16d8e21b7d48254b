import { BinaryReader } from "@bufbuild/protobuf/wire";
import type { FastifyRequest } from "fastify";
import type { Clock, KithError } from "../../../libs/base/index.js";
import type { Printers } from "../json/answer.js";
import type { Descriptors } from "../json/descriptors.js";
import type { Readers } from "../json/request.js";
import type { Backend } from "./backend.js";
import type { HttpCall } from "./http-call.js";
import type { LargeBody } from "./large-body.js";

/** What a handler makes of a request. */
export interface Answer {
  status?: number;
  headers?: Record<string, string>;
  /** JSON text; "" for none. */
  body: string | LargeBody;
}

/** What the handlers of routes share. */
export interface RestContext {
  readonly clock: Clock;
  readonly backend: Backend;
  readonly readers: Readers;
  readonly printers: Printers;
  readonly descriptors: Descriptors;
  /** Logs what was thrown, and makes it the error that clients may see. */
  report(thrown: unknown, call: HttpCall, method: string): KithError;
}

const parts = new WeakMap<KithError, Readonly<Record<string, number | string>>>();

/** The same error, whose problem also tells how far the work came. */
export function withPart(error: KithError, part: Readonly<Record<string, number | string>>): KithError {
  parts.set(error, part);
  return error;
}

export function partOf(error: KithError): Readonly<Record<string, number | string>> | undefined {
  return parts.get(error);
}

const noParameters = new URLSearchParams();

export function parametersOf(request: FastifyRequest): URLSearchParams {
  const url = request.raw.url ?? "";
  const at = url.indexOf("?");
  return at < 0 ? noParameters : new URLSearchParams(url.slice(at + 1));
}

/** The token of an answer, as text. */
export function tokenOf(answer: Uint8Array, number: number): string | undefined {
  const reader = new BinaryReader(answer);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === number) return Buffer.from(reader.bytes()).toString("base64url");
    reader.skip(wireType, field);
  }
  return undefined;
}

/** Writes to a response without a bound on its size: resolves when more may be written. */
export async function writeChunk(call: HttpCall, text: string): Promise<void> {
  const { response } = call;
  if (response.write(text)) return;
  await call.race(
    new Promise<void>((resolve) => {
      response.once("drain", resolve);
    }),
  );
}
