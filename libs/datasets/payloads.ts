import { KithError } from "../base/index.js";
import { openSource } from "./byte-reader.js";
import type { DatasetBatch, DatasetPayload, DatasetSource } from "./types.js";

const lineMaxBytes = 1024 * 1024;

/**
 * Adds payloads to rows that have none, from JSON lines beside the vectors: line n (from 0) belongs to row n. An empty line or
 * null is no payload. INVALID_ARGUMENT, with the line, where a line is no JSON object or the file is too short.
 */
export async function* withPayloads(
  batches: AsyncIterable<DatasetBatch>,
  source: DatasetSource,
  options: { name?: string; signal?: AbortSignal } = {},
): AsyncGenerator<DatasetBatch, void, undefined> {
  const { reader } = await openSource(source, options);
  let line = 0;
  const next = (): Promise<Uint8Array | undefined> => reader.line(lineMaxBytes, () => line + 1);
  const fail = (message: string, cause?: unknown): KithError =>
    new KithError("INVALID_ARGUMENT", `${reader.name}, line ${line + 1}: ${message}`, {
      details: { file: reader.name, line: line + 1 },
      cause,
    });
  try {
    for await (const batch of batches) {
      for (; line < batch.firstRow; line++) {
        if ((await next()) === undefined) throw fail(`the file ends here, but there is a row ${batch.firstRow}`);
      }
      const payloads: (DatasetPayload | undefined)[] = [];
      for (; line < batch.endRow; line++) {
        const bytes = await next();
        if (bytes === undefined) throw fail(`the file ends here, but there is a row ${line}`);
        payloads.push(parsePayload(Buffer.from(bytes).toString("utf8").trim(), fail));
      }
      yield { ...batch, payloads };
    }
  } finally {
    await reader.close();
  }
}

function parsePayload(text: string, fail: (message: string, cause?: unknown) => KithError): DatasetPayload | undefined {
  if (text === "" || text === "null") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw fail(`this is not JSON: ${(cause as Error).message}`, cause);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return text;
  throw fail("a payload must be a JSON object");
}
