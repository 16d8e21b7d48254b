import type { BinaryReader } from "@bufbuild/protobuf/wire";
import { KithError } from "../base/index.js";

/** A string id; INVALID_ID where its bytes are not UTF-8, as those of a lone surrogate are not. */
export function readName(reader: BinaryReader): string {
  try {
    return reader.string(true);
  } catch (cause) {
    throw new KithError("INVALID_ID", "a string id is not valid UTF-8; encode it as UTF-8, without lone surrogates", {
      cause,
    });
  }
}
