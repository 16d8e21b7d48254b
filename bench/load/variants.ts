import type { Api } from "../lib/api.js";
import type { BenchData } from "../lib/data.js";
import { ProcessWatch, type ProcessUsage, endedChildrenCpuSeconds } from "../lib/process-stats.js";
import { EventLoopDelayWatch } from "../lib/prometheus.js";
import type { Session } from "../lib/session.js";
import type { DriverKind, DriverOptions, Mode, QueryDriver } from "./driver.js";
import { grpcStreamDriver, grpcUnaryDriver } from "./grpc-drivers.js";
import { runH2load } from "./h2load.js";
import { http2StreamDriver, http2UnaryDriver } from "./http2-drivers.js";
import { type LoadPlan, type LoadSample, runLoad } from "./loop.js";
import { encodeRequests, type QueryShape } from "./requests.js";

/** One combination of what is asked and how. */
export interface Variant {
  session: Session;
  driver: DriverKind;
  mode: Mode;
  ef: number;
  plan: LoadPlan;
}

export interface RunOptions {
  shape: Omit<QueryShape, "ef">;
  connections: number;
  warmupMs: number;
  durationMs: number;
}

export interface VariantSample extends LoadSample {
  server: ProcessUsage | undefined;
  client: ProcessUsage | undefined;
  eventLoopP99Ms: number | undefined;
  notes: string[];
}

const openers: Record<"http2" | "grpc-js", Record<Mode, (options: DriverOptions) => Promise<QueryDriver>>> = {
  http2: { unary: http2UnaryDriver, stream: http2StreamDriver },
  "grpc-js": { unary: grpcUnaryDriver, stream: grpcStreamDriver },
};

export function describePlan(plan: LoadPlan): string {
  return plan.kind === "closed" ? `${plan.concurrency} in flight` : `${plan.ratePerSecond}/s ${plan.clock}`;
}

/** Runs one variant once; in the measured window, and only there, the processes are watched. */
export async function runVariant(
  data: BenchData,
  variant: Variant,
  options: RunOptions,
  round: number,
): Promise<VariantSample> {
  const { session } = variant;
  const requests = encodeRequests({ ...options.shape, ef: variant.ef }, data.queries);
  const server = new ProcessWatch(session.pids());
  const client = new ProcessWatch([process.pid]);
  const delay = new EventLoopDelayWatch(session.metricsUrl);
  let serverUsage: ProcessUsage | undefined;
  let clientUsage: ProcessUsage | undefined;
  const onWindow = (edge: "start" | "end"): void => {
    if (edge === "start") {
      server.start();
      client.start();
      delay.start();
    } else {
      serverUsage = server.stop();
      clientUsage = client.stop();
    }
  };
  const sample = await runOnce(variant, options, requests, round, onWindow, (cores) => {
    if (clientUsage !== undefined) clientUsage = { ...clientUsage, cores: clientUsage.cores + cores };
  });
  const { p99Ms, failure } = await delay.stop();
  return {
    ...sample,
    server: serverUsage,
    client: clientUsage,
    eventLoopP99Ms: p99Ms,
    notes: failure === undefined ? [] : [`event loop: ${failure}`],
  };
}

async function runOnce(
  variant: Variant,
  options: RunOptions,
  requests: Buffer[],
  round: number,
  onWindow: (edge: "start" | "end") => void,
  addClientCores: (cores: number) => void,
): Promise<LoadSample> {
  const { session, driver, mode, plan } = variant;
  const { connections, warmupMs, durationMs } = options;
  const { target } = session;
  if (driver !== "h2load") {
    const open = (onDone: DriverOptions["onDone"]): Promise<QueryDriver> =>
      openers[driver][mode]({ target, connections, requests, onDone });
    return runLoad({ plan, warmupMs, durationMs, queryCount: requests.length, open, onWindow });
  }
  if (mode !== "unary" || plan.kind !== "closed") {
    throw new RangeError("h2load drives unary calls in a closed loop only");
  }
  // Another query each round: one query alone may be an easy or a hard one.
  const request = requests[(round * 101) % requests.length] as Buffer;
  await checkReplay(session.api, request);
  const childrenBefore = endedChildrenCpuSeconds();
  const sample = await runH2load({
    target,
    request,
    connections,
    concurrency: plan.concurrency,
    warmupMs,
    durationMs,
    onWindow,
  });
  const clientSeconds = endedChildrenCpuSeconds() - childrenBefore;
  addClientCores(clientSeconds / (sample.windowSeconds + Math.max(1, warmupMs / 1000)));
  await checkReplay(session.api, request);
  return sample;
}

/** h2load takes any answer for a success, so a call of our own must show that the request is answered with points. */
async function checkReplay(api: Api, request: Buffer): Promise<void> {
  const bytes = await api.queryRaw(request);
  if (bytes.length === 0) throw new Error("the request for h2load is answered without points");
}
