import { syncBuiltinESMExports } from "node:module";
import zlib, { type ZlibOptions } from "node:zlib";

type Callback = (error: Error | null, result: Buffer) => void;

/** At once, where Node's threads end when they end, which no seed tells. To be imported before what takes these functions. */
function atOnce(run: (content: Uint8Array, options: ZlibOptions) => Buffer) {
  return (content: Uint8Array, options: ZlibOptions, callback: Callback): void => {
    let result: Buffer;
    try {
      result = run(content, options);
    } catch (error) {
      callback(error as Error, Buffer.alloc(0));
      return;
    }
    callback(null, result);
  };
}

const functions = zlib as unknown as Record<string, unknown>;
functions["deflateRaw"] = atOnce(zlib.deflateRawSync);
functions["inflateRaw"] = atOnce(zlib.inflateRawSync);
syncBuiltinESMExports();
