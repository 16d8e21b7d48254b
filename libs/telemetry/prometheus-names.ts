/** UCUM units as Prometheus writes them behind a name: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics */
const unitWords: Record<string, string> = { s: "seconds", By: "bytes", "1": "ratio" };

/** The name of a metric on the page for Prometheus, without `_total` of counters: `kith.query.duration` in `s` is `kith_query_duration_seconds`. */
export function prometheusName(name: string, unit: string): string {
  const word = unitWords[unit];
  const plain = name.replaceAll(".", "_");
  return word === undefined || plain.endsWith(`_${word}`) ? plain : `${plain}_${word}`;
}
