import type { Readable } from "node:stream";
import type * as Sdk from "@aws-sdk/client-s3";
import { KithError } from "../../base/index.js";
import { type FileStore, storedBytesMax, type StoredFile, storedTooLarge } from "./port.js";

/** How an object store is reached. */
export interface S3Settings {
  bucket: string;
  /** Of all keys; "" for none. */
  prefix: string;
  region: string;
  /** URL of the service; undefined: Amazon's of the region. */
  endpoint?: string | undefined;
  /** The bucket is a part of the path, and not of the name of the host: what most services other than Amazon's want. */
  pathStyle: boolean;
  accessKeyId: string;
  secretAccessKey: string;
}

/** Objects of a bucket of an S3-compatible store. */
export class S3Store implements FileStore {
  readonly description: string;
  readonly #settings: S3Settings;
  readonly #client: Sdk.S3Client;
  readonly #sdk: typeof Sdk;

  private constructor(settings: S3Settings, client: Sdk.S3Client, sdk: typeof Sdk) {
    this.#settings = settings;
    this.#client = client;
    this.#sdk = sdk;
    this.description = `the bucket ${settings.bucket}${settings.prefix === "" ? "" : ` under ${settings.prefix}`}`;
  }

  static async open(settings: S3Settings): Promise<S3Store> {
    // Loaded where a backup goes there: it is large.
    const sdk = await import("@aws-sdk/client-s3");
    const { region, endpoint, pathStyle, accessKeyId, secretAccessKey } = settings;
    const client = new sdk.S3Client({
      region,
      ...(endpoint !== undefined && { endpoint }),
      forcePathStyle: pathStyle,
      credentials: { accessKeyId, secretAccessKey },
      maxAttempts: 5,
      // Many compatible stores know none of the newer checksums; every file has its own within.
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
    });
    return new S3Store(settings, client, sdk);
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    const command = new this.#sdk.PutObjectCommand({ ...this.#at(key), Body: bytes });
    await this.#guarded(key, () => this.#client.send(command));
  }

  async get(key: string): Promise<Buffer> {
    const command = new this.#sdk.GetObjectCommand(this.#at(key));
    return this.#guarded(key, async () => {
      const { Body, ContentLength = 0 } = await this.#client.send(command);
      if (Body === undefined) throw new KithError("INTERNAL", `${this.description} answered without content`);
      const body = Body as Readable;
      const chunks: Uint8Array[] = [];
      let sizeBytes = 0;
      try {
        for await (const chunk of body as AsyncIterable<Uint8Array>) {
          chunks.push(chunk);
          sizeBytes += chunk.length;
          if (Math.max(sizeBytes, ContentLength) > storedBytesMax) throw storedTooLarge(key, this.description);
        }
      } finally {
        body.destroy();
      }
      return Buffer.concat(chunks, sizeBytes);
    });
  }

  async *list(prefix: string): AsyncGenerator<StoredFile> {
    const { bucket, prefix: root } = this.#settings;
    let token: string | undefined;
    do {
      const command = new this.#sdk.ListObjectsV2Command({
        Bucket: bucket,
        Prefix: `${root}${prefix}`,
        ...(token !== undefined && { ContinuationToken: token }),
      });
      const page = await this.#guarded(prefix, () => this.#client.send(command));
      for (const { Key, Size } of page.Contents ?? []) {
        if (Key !== undefined) yield { key: Key.slice(root.length), sizeBytes: Size ?? 0 };
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async remove(key: string): Promise<void> {
    const command = new this.#sdk.DeleteObjectCommand(this.#at(key));
    await this.#guarded(key, () => this.#client.send(command));
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#settings.bucket, Key: `${this.#settings.prefix}${key}` };
  }

  async #guarded<T>(key: string, request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      throw this.#failed(key, error);
    }
  }

  #failed(key: string, error: unknown): KithError {
    if (error instanceof KithError) return error;
    const { name, message, $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } };
    const status = $metadata?.httpStatusCode ?? 0;
    const text = `${key} in ${this.description}: ${name}: ${message}`;
    const details = { bucket: this.#settings.bucket, status };
    if (name === "NoSuchKey" || name === "NotFound") {
      return new KithError("NOT_FOUND", `there is no file ${key} in ${this.description}`, { details });
    }
    if (status === 401 || status === 403) return new KithError("PERMISSION_DENIED", text, { details, cause: error });
    if (status >= 400 && status < 500) return new KithError("FAILED_PRECONDITION", text, { details, cause: error });
    return new KithError("SERVER_UNREACHABLE", text, { details, cause: error });
  }
}
