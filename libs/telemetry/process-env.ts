/* eslint-disable no-restricted-properties -- OpenTelemetry's SDK and its exporters read process.env, and take nothing else */
import type { Env } from "./otel-env.js";

/** Runs `body`, which is synchronous, with the OTEL_* variables of `env` as those of the process. */
export function withEnvironment<T>(env: Env, body: () => T): T {
  if (env === process.env) return body();
  const names = [...Object.keys(process.env), ...Object.keys(env)].filter((name) => name.startsWith("OTEL_"));
  const before = names.map((name) => [name, process.env[name]] as const);
  const put = (name: string, value: string | undefined): void => {
    if (value === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = value;
  };
  for (const name of names) put(name, env[name]);
  try {
    return body();
  } finally {
    for (const [name, value] of before) put(name, value);
  }
}
