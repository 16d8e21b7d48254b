import { KithError } from "../base/index.js";

/*
 * What both sides of a connection say first, and the one thing that every version of the link has in common:
 *
 *   "kithlink" | u16 version | u16 length | that much JSON in UTF-8
 *
 * The router begins: which node it is, and which one it wants. The shard node answers which node it is, or why it refuses.
 */

/** The version of everything behind the greeting. Two nodes understand each other only at the same one. */
export const linkVersion = 1;
/** By these bytes a port that also serves gRPC tells the link's connections. */
export const preface = Buffer.from("kithlink");
const headBytes = preface.length + 4;
const textBytesMax = 4_096;

export interface Greeting {
  version: number;
  /** Who speaks. */
  node: string;
  /** The router's: the node that it wants to reach; "" for whoever answers. */
  wanted: string;
  /** The shard node's, where it ends the connection: why. */
  refusal: string;
  /** That it is a node of the cluster, where there is a secret by which that is known. */
  proof?: string;
}

export function encodeGreeting(greeting: Omit<Greeting, "version">): Buffer {
  const text = Buffer.from(JSON.stringify(greeting));
  const head = Buffer.alloc(headBytes);
  preface.copy(head);
  head.writeUInt16LE(linkVersion, preface.length);
  head.writeUInt16LE(text.length, preface.length + 2);
  return Buffer.concat([head, text]);
}

/**
 * The greeting at the beginning of `bytes`, with its length; undefined where not all of it has come. FAILED_PRECONDITION
 * where whoever speaks does not speak the link at all.
 */
export function decodeGreeting(bytes: Buffer): { greeting: Greeting; length: number } | undefined {
  const known = Math.min(bytes.length, preface.length);
  if (bytes.compare(preface, 0, known, 0, known) !== 0) {
    throw new KithError("FAILED_PRECONDITION", "what answers there does not speak the link of this release");
  }
  if (bytes.length < headBytes) return undefined;
  const textBytes = bytes.readUInt16LE(preface.length + 2);
  if (textBytes > textBytesMax) throw new KithError("FAILED_PRECONDITION", `a greeting of ${textBytes} bytes`);
  const length = headBytes + textBytes;
  if (bytes.length < length) return undefined;
  const version = bytes.readUInt16LE(preface.length);
  return { greeting: { version, ...fieldsOf(bytes.toString("utf8", headBytes, length)) }, length };
}

function fieldsOf(text: string): Omit<Greeting, "version"> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KithError("FAILED_PRECONDITION", "the greeting is no JSON", { cause });
  }
  const fields = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  // Fields that are missing or of another type are as if nothing was said: another version may say other things.
  const textOf = (name: string): string => {
    const field = fields[name];
    return typeof field === "string" ? field : "";
  };
  return { node: textOf("node"), wanted: textOf("wanted"), refusal: textOf("refusal"), proof: textOf("proof") };
}

/** What the proofs of the two greetings are for. The answer's is for one greeting alone. */
export const greetingPurpose = {
  ask: (node: string, wanted: string): string => `link from ${node} to ${wanted}`,
  answer: (node: string, asked: string): string => `link of ${node} for ${asked}`,
};
