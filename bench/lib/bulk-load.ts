import type { ClientDuplexStream } from "@grpc/grpc-js";
import { deferred, sleep, systemClock } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";
import type { Api } from "./api.js";
import type { Matrix } from "./data.js";
import { Histogram } from "./histogram.js";

export interface BulkLoadOptions {
  collection: string;
  /** The id of row i is `firstId` + i. */
  vectors: Matrix;
  firstId?: number;
  ack: "log" | "applied";
  batchPoints: number;
  /** Batches that wait for their answer at the same time. */
  inFlight: number;
  /** JSON bytes of each payload; 0: none. */
  payloadBytes: number;
  /** The payload of a row as JSON, instead of one of so many bytes. */
  payloadAt?: (row: number) => Uint8Array;
}

export interface BulkLoadResult {
  points: number;
  seconds: number;
  pointsPerSecond: number;
  /** From sending a batch to its answer. */
  batchLatency: Histogram;
  /** Batches that were refused for overload and sent again. */
  retries: number;
}

/** Writes all rows through one UpsertStream, columnar. The first error that is not an overload ends it. */
export async function bulkLoad(api: Api, options: BulkLoadOptions): Promise<BulkLoadResult> {
  const method = pb.PointsService.upsertStream;
  const stream = api.client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
  return new BulkLoad(stream, options).run();
}

class BulkLoad {
  readonly #stream: ClientDuplexStream<pb.UpsertStreamRequest, pb.UpsertStreamResponse>;
  readonly #options: BulkLoadOptions;
  readonly #latency = new Histogram();
  readonly #key = Math.random().toString(36).slice(2, 10);
  readonly #sent = new Map<number | bigint, { fromRow: number; atMs: number }>();
  readonly #finished = deferred<void>();
  #nextRow = 0;
  #nextRequest = 1;
  #written = 0;
  #retries = 0;

  constructor(stream: ClientDuplexStream<pb.UpsertStreamRequest, pb.UpsertStreamResponse>, options: BulkLoadOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  async run(): Promise<BulkLoadResult> {
    const startMs = performance.now();
    this.#stream.on("data", (answer: pb.UpsertStreamResponse) => this.#answered(answer));
    this.#stream.on("error", (error) => this.#finished.reject(error));
    this.#stream.on("end", () => this.#finished.reject(new Error("the server ended the UpsertStream early")));
    for (let i = 0; i < this.#options.inFlight; i++) this.#sendNext();
    try {
      await this.#finished.promise;
    } finally {
      this.#stream.end();
    }
    const seconds = (performance.now() - startMs) / 1000;
    return {
      points: this.#written,
      seconds,
      pointsPerSecond: this.#written / seconds,
      batchLatency: this.#latency,
      retries: this.#retries,
    };
  }

  #sendNext(): void {
    const { rowCount } = this.#options.vectors;
    if (this.#nextRow >= rowCount) {
      if (this.#sent.size === 0) this.#finished.resolve();
      return;
    }
    const fromRow = this.#nextRow;
    this.#nextRow = Math.min(rowCount, fromRow + this.#options.batchPoints);
    this.#send(this.#nextRequest++, fromRow);
  }

  #send(requestId: number | bigint, fromRow: number): void {
    this.#sent.set(requestId, { fromRow, atMs: performance.now() });
    this.#stream.write({
      requestId,
      columns: columnsOf(this.#options, fromRow, `bulk-${this.#key}-${fromRow}`),
      traceparent: "",
    });
  }

  #answered({ requestId, outcome }: pb.UpsertStreamResponse): void {
    const sent = this.#sent.get(requestId);
    if (sent === undefined) {
      this.#finished.reject(new Error(`the server answered the unknown request ${requestId}`));
      return;
    }
    if (outcome?.$case === "response") {
      this.#latency.record((performance.now() - sent.atMs) * 1000);
      this.#written += outcome.value.upserted;
      const refused = outcome.value.errors[0];
      if (refused !== undefined) {
        this.#finished.reject(new Error(`row ${sent.fromRow + refused.index}: ${refused.code}: ${refused.message}`));
        return;
      }
      this.#sent.delete(requestId);
      this.#sendNext();
      return;
    }
    const failure = outcome?.value;
    if (failure?.retryable !== true) {
      this.#finished.reject(new Error(`UpsertStream: ${failure?.code}: ${failure?.message}`));
      return;
    }
    this.#retries++;
    sleep(systemClock, failure.retryAfterMs || 50).then(
      () => this.#send(requestId, sent.fromRow),
      (error: unknown) => this.#finished.reject(error),
    );
  }
}

function columnsOf(options: BulkLoadOptions, fromRow: number, idempotencyKey: string): pb.UpsertColumnsRequest {
  const { vectors, collection, batchPoints, firstId = 0, ack, payloadBytes, payloadAt } = options;
  const toRow = Math.min(vectors.rowCount, fromRow + batchPoints);
  const ids = new BigUint64Array(toRow - fromRow);
  for (let i = 0; i < ids.length; i++) ids[i] = BigInt(firstId + fromRow + i);
  const matrix = vectors.values.subarray(fromRow * vectors.dimension, toRow * vectors.dimension);
  const payloads: Uint8Array[] = [];
  if (payloadAt !== undefined) for (let row = fromRow; row < toRow; row++) payloads.push(payloadAt(row));
  else if (payloadBytes > 0)
    for (let row = fromRow; row < toRow; row++) payloads.push(payloadOf(firstId + row, payloadBytes));
  return {
    collection,
    idColumn: { $case: "nums", value: new Uint8Array(ids.buffer) },
    sparseVectors: [],
    vectors: [{ name: "", matrix: new Uint8Array(matrix.buffer, matrix.byteOffset, matrix.byteLength), rows: [] }],
    payloads,
    mode: pb.UpsertMode.UNSPECIFIED,
    options: { ack: ack === "log" ? pb.Ack.LOG : pb.Ack.APPLIED, idempotencyKey },
    expectedVersions: [],
    onlyIf: undefined,
    expiresAtMs: [],
  };
}

/** A JSON object of about the size. */
export function payloadOf(id: number, sizeBytes: number): Uint8Array {
  const head = `{"row":${id},"text":"`;
  return Buffer.from(
    `${head}${"abcdefgh ".repeat(Math.ceil(sizeBytes / 9)).slice(0, Math.max(0, sizeBytes - head.length - 2))}"}`,
  );
}
