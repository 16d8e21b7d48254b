import { createConnection } from "node:net";
import { systemClock, toKithError } from "../../../libs/base/index.js";
import { readSyncSetting } from "../../../libs/nats/index.js";
import { minimumVersion, pinnedVersion, resolveNatsServer } from "../../../libs/nats-server/index.js";
import type { Finding } from "./machine.js";
import type { Io } from "../io.js";
import { cacheDirectory } from "../local/environment.js";

const timeoutMs = 5_000;

const tooOld = `It is older than ${minimumVersion}: such servers have known faults in compare-and-set and can lose data. Install ${pinnedVersion}.`;

/** The nats-server program that `kith up` would find, or why there is none. Nothing is fetched. */
export async function checkNatsBinary(io: Io): Promise<Finding> {
  const check = "nats-server";
  try {
    const server = await resolveNatsServer({
      searchPath: io.env["PATH"] ?? "",
      cacheDirectory: cacheDirectory(io),
      fetch: false,
    });
    const found = server.kind === "binary" ? `${server.path} is version ${server.version}` : server.url;
    // kith up writes the configuration of the servers that it starts.
    return { check, verdict: "ok", found: `${found}; kith up runs it with sync_interval: always` };
  } catch (thrown) {
    const error = toKithError(thrown);
    if (error.code !== "FAILED_PRECONDITION") throw error;
    return {
      check,
      verdict: "warn",
      found: String(error.details["tried"]),
      remedy: `kith up fetches ${pinnedVersion} if it can; kith dev needs none.`,
    };
  }
}

/** Asks a running server for its version through the greeting that every client gets. */
export async function checkNatsUrl(url: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const each of url.split(",").map((part) => part.trim())) {
    const check = "NATS";
    try {
      const info = await greeting(each);
      const finding = versionFinding(check, info.version, `${each} runs version ${info.version ?? "unknown"}`);
      if (finding.verdict === "ok" && info.jetstream !== true) {
        findings.push({
          check,
          verdict: "fail",
          found: `${each} has no JetStream`,
          remedy: "Enable it: jetstream { store_dir: … } in its configuration.",
        });
      } else findings.push(finding);
    } catch (error) {
      findings.push({
        check,
        verdict: "fail",
        found: `${each}: ${toKithError(error).message}`,
        remedy: "Start the server, or correct the URL (KITH_NATS_URL, --nats).",
      });
    }
  }
  return findings;
}

/** Clients cannot see how a server syncs; its monitoring endpoint tells. */
export async function checkNatsSync(monitorUrl: string | undefined): Promise<Finding> {
  const check = "NATS sync";
  if (monitorUrl === undefined) {
    return {
      check,
      verdict: "warn",
      found: "not visible to clients",
      remedy:
        "Name the monitoring endpoint, --nats-monitor http://host:8222, and see that the server has sync_interval: always.",
    };
  }
  try {
    const setting = await readSyncSetting(monitorUrl, systemClock);
    if (setting.kind === "always") return { check, verdict: "ok", found: "sync_interval: always" };
    return {
      check,
      verdict: "fail",
      found: `sync_interval: ${setting.intervalMs / 1000} s`,
      remedy:
        "A loss of power loses acknowledged writes of a server without it: set jetstream { sync_interval: always }.",
    };
  } catch (error) {
    return { check, verdict: "fail", found: toKithError(error).message, remedy: "Correct --nats-monitor." };
  }
}

function versionFinding(check: string, version: string | undefined, found: string): Finding {
  const enough = version !== undefined && version.localeCompare(minimumVersion, "en", { numeric: true }) >= 0;
  return enough ? { check, verdict: "ok", found } : { check, verdict: "fail", found, remedy: tooOld };
}

interface Greeting {
  version?: string;
  jetstream?: boolean;
}

function greeting(url: string): Promise<Greeting> {
  const { hostname, port } = new URL(url.includes("://") ? url : `nats://${url}`);
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: hostname, port: port === "" ? 4222 : Number(port) });
    let text = "";
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(timeoutMs, () => fail(new Error("no answer")));
    socket.on("error", fail);
    socket.on("end", () => fail(new Error("it closed the connection without a greeting")));
    socket.on("data", (data) => {
      text += data.toString("utf8");
      const line = /^INFO (\{.*\})/.exec(text)?.[1];
      if (line === undefined && text.length < 65_536 && "INFO ".startsWith(text.slice(0, 5))) return;
      socket.destroy();
      try {
        resolve(JSON.parse(line ?? "none") as Greeting);
      } catch (cause) {
        reject(new Error("what answers is not a NATS server", { cause }));
      }
    });
  });
}
