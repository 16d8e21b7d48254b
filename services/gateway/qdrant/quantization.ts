import { getOwn } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { member, objectOf, optional, wordOf } from "./values.js";

/*
 * Qdrant's datatypes and quantizations as the datatypes of Kith's indexes. Both keep the vectors as they were written beside the codes, and score results by them.
 */

/** How an index keeps the vectors of a field: pb.VectorField of the same names. */
export interface Codes {
  readonly datatype: pb.Datatype;
  readonly originals?: boolean;
}

interface Kind {
  readonly metric: pb.Metric;
  readonly multivector?: pb.Multivector | undefined;
}

const words = ["float32", "uint8", "float16", "turbo4", "turbo8", "turbo16"] as const;
const whole: Codes = { datatype: pb.Datatype.F32 };
const eightBits: Codes = { datatype: pb.Datatype.I8, originals: true };
const fourBits: Codes = { datatype: pb.Datatype.I4 };
const datatypes: Readonly<Record<(typeof words)[number], Codes>> = {
  float32: whole,
  uint8: whole,
  float16: { datatype: pb.Datatype.F16 },
  turbo4: fourBits,
  turbo8: eightBits,
  turbo16: { datatype: pb.Datatype.F16 },
};

const compressions = ["x4", "x8", "x16", "x32", "x64"] as const;
/** By how many times less they take than numbers of four bytes. */
const products: Readonly<Record<(typeof compressions)[number], Codes>> = {
  x4: eightBits,
  x8: fourBits,
  x16: { datatype: pb.Datatype.PQ16 },
  x32: { datatype: pb.Datatype.PQ32 },
  x64: { datatype: pb.Datatype.PQ64 },
};

/** By the datatype alone. Matrices are kept without what was written. */
function codesOfDatatype(datatype: JsonValue | undefined, at: string, { multivector }: Kind): Codes {
  if (datatype === undefined || datatype === null) return whole;
  const codes = datatypes[wordOf(words)(datatype, at)];
  const isSmall = codes === eightBits || codes === fourBits;
  return isSmall && multivector !== undefined ? { datatype: pb.Datatype.I8 } : codes;
}

/** Those of a quantization; undefined where Kith has none like it: codes of matrices, whose originals are not kept. */
function codesOfQuantization(config: JsonValue, at: string, { metric, multivector }: Kind): Codes | undefined {
  if (multivector !== undefined || config === "Disabled") return undefined;
  const object = objectOf(config, at);
  // Codes of one bit keep directions alone.
  const oneBit = metric === pb.Metric.COSINE ? { datatype: pb.Datatype.BINARY } : undefined;
  if (member(object, "scalar") !== undefined) return eightBits;
  const product = optional(object, "product", at, objectOf);
  if (product !== undefined) return products[wordOf(compressions)(product["compression"], `${at}.product.compression`)];
  const binary = optional(object, "binary", at, objectOf);
  if (binary !== undefined) return (member(binary, "encoding") ?? "one_bit") === "one_bit" ? oneBit : fourBits;
  const turbo = optional(object, "turbo", at, objectOf);
  if (turbo === undefined) return undefined;
  const bits = member(turbo, "bits") ?? "bits4";
  return bits === "bits1" ? oneBit : bits === "bits8" ? eightBits : fourBits;
}

/** Of a field with these parameters in a collection with this `quantization_config`. */
export function codesOf(params: JsonObject, ofCollection: JsonValue | undefined, at: string, kind: Kind): Codes {
  const config = member(params, "quantization_config") ?? ofCollection;
  const codes = config === undefined ? undefined : codesOfQuantization(config, `${at}.quantization_config`, kind);
  return codes ?? codesOfDatatype(params["datatype"], `${at}.datatype`, kind);
}

/** Whether a field is not quantized as these settings say: Kith has nothing of the kind. */
export function isUnquantized(settings: JsonObject, fields: readonly pb.VectorField[]): boolean {
  const vectors = isJsonObject(settings["vectors"]) ? settings["vectors"] : {};
  return fields.some((field) => {
    const own = getOwn(vectors, field.name);
    const config =
      (isJsonObject(own) ? member(own, "quantization_config") : undefined) ?? settings["quantization_config"];
    if (config === undefined || config === null || config === "Disabled") return false;
    return codesOfQuantization(config, "quantization_config", field) === undefined;
  });
}
