import { hash, timingSafeEqual } from "node:crypto";
import { KithError, type Random } from "../base/index.js";
import type { AccessLimits } from "./usage.js";

/** One secret of a key. Two are good at once while a key is rotated. */
export interface KeySecret {
  /** SHA-256 of the whole key, as hexadecimal text. */
  readonly hash: string;
  readonly sinceMs: number;
  /** Wall clock; missing: as long as the key. */
  readonly untilMs?: number;
}

/** A key as the catalog has it. */
export interface KeyRecord {
  /** Public: part of the key, and of what is logged. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  readonly role: string;
  /** Patterns that narrow those of the role. */
  readonly collections: readonly string[];
  readonly createdAtMs: number;
  /** Wall clock; missing: it does not expire. */
  readonly expiresAtMs?: number;
  readonly secrets: readonly KeySecret[];
  readonly limits?: AccessLimits;
}

const idBytes = 8;
/** 256 bits: nobody guesses one, so that its plain hash gives nothing away. */
const secretBytes = 32;
const shape = /^kith_([0-9a-f]{16})_[A-Za-z0-9_-]{43}$/;
const idShape = /^[0-9a-f]{16}$/;

export function newKeyId(random: Random): string {
  return random.bytes(idBytes).toString("hex");
}

/** A key with a new secret, which is known to nobody else from now on. */
export function newKey(id: string, random: Random): string {
  return `kith_${id}_${random.bytes(secretBytes).toString("base64url")}`;
}

/** The public id in a key; undefined for what is no key. */
export function idOfKey(key: string): string | undefined {
  return shape.exec(key)?.[1];
}

/** NOT_FOUND for what cannot be the id of a key. */
export function checkKeyId(id: string): void {
  if (!idShape.test(id)) throw noKey(id);
}

export function noKey(id: string): KithError {
  return new KithError("NOT_FOUND", `there is no key ${JSON.stringify(id.slice(0, 32))}`, {
    details: { key: id.slice(0, 32) },
  });
}

/**
 * SHA-256, and not one of the slow hashes of passwords: those make guessing dear, and a secret of 256 random bits cannot be guessed. A call
 * would take a hundred milliseconds instead of 2 µs.
 */
export function hashOfKey(key: string): Buffer {
  return hash("sha256", key, "buffer");
}

/** Whether the hashes are the same; takes as long whatever they are. */
export function isSameHash(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}
