import { type Integer, integer } from "../model/index.js";

const form =
  /^\s*(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?(?: ?(Z|z|UTC|[+-]\d\d(?::?\d\d)?))?)?)?$/;

const microsPerSecond = 1_000_000;
const secondsPerDay = 86_400;

/** First and last microsecond that four digits of a year can write, in UTC. */
const datetimeMin = -62_167_219_200_000_000n;
const datetimeMax = 253_402_300_799_999_999n;

/** Whether microseconds since the Unix epoch are a datetime that can be written: the years 0000 to 9999. */
export function isDatetime(micros: Integer): boolean {
  return micros >= datetimeMin && micros <= datetimeMax;
}

/**
 * Microseconds since the Unix epoch of a datetime as payloads write it, or undefined where the text is none. RFC 3339, and what
 * Qdrant reads beyond it: a space for the T, no seconds, no time, a zone without minutes or colon, no zone (then UTC). Digits
 * after the sixth of a second are cut off.
 */
export function datetimeMicros(text: string): Integer | undefined {
  const match = form.exec(text);
  return match === null ? undefined : microsOf(match);
}

/** As `datetimeMicros`; "no zone" for one that does not say its zone. */
export function zonedDatetimeMicros(text: string): Integer | "no zone" | undefined {
  const match = form.exec(text);
  if (match === null) return undefined;
  const micros = microsOf(match);
  return micros !== undefined && match[8] === undefined ? "no zone" : micros;
}

function microsOf(match: RegExpExecArray): Integer | undefined {
  const [, year, month, day, hour = "0", minute = "0", second = "0", fraction = "", zone = "Z"] = match;
  const days = daysFromEpoch(Number(year), Number(month), Number(day));
  // The second 60 is the leap second: the first of the next minute.
  if (days === undefined || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return undefined;
  const offset = offsetSeconds(zone);
  if (offset === undefined) return undefined;
  const seconds = days * secondsPerDay + Number(hour) * 3600 + Number(minute) * 60 + Number(second) - offset;
  const micros = Number(fraction.slice(0, 6).padEnd(6, "0"));
  const sum = seconds * microsPerSecond + micros;
  return Number.isSafeInteger(sum) ? sum : integer(BigInt(seconds) * BigInt(microsPerSecond) + BigInt(micros));
}

function offsetSeconds(zone: string): number | undefined {
  const sign = zone.startsWith("+") ? 1 : zone.startsWith("-") ? -1 : 0;
  if (sign === 0) return 0;
  const digits = zone.slice(1).replace(":", "");
  const hours = Number(digits.slice(0, 2));
  const minutes = Number(digits.slice(2));
  return hours > 23 || minutes > 59 ? undefined : sign * (hours * 3600 + minutes * 60);
}

const monthDays = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Days of the Gregorian calendar since 1970-01-01; undefined where there is no such day. */
function daysFromEpoch(year: number, month: number, day: number): number | undefined {
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const last = (monthDays[month - 1] ?? 0) + (month === 2 && leap ? 1 : 0);
  if (day < 1 || day > last) return undefined;
  // Counted in years that begin in March, so that the leap day is the last of its year
  // (https://howardhinnant.github.io/date_algorithms.html, days_from_civil).
  const marchYear = month <= 2 ? year - 1 : year;
  const era = Math.floor(marchYear / 400);
  const yearOfEra = marchYear - era * 400;
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

/** A datetime in UTC, as short as it can be written: `2024-05-01T00:00:00Z`, `2024-05-01T00:00:00.25Z`. */
export function formatDatetime(micros: Integer): string {
  const all = BigInt(micros);
  const fraction = ((all % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = (all - fraction) / 1_000_000n;
  const text = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const digits = fraction.toString().padStart(6, "0").replace(/0+$/, "");
  return digits === "" ? `${text}Z` : `${text}.${digits}Z`;
}
