import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { KithError, sleep, systemClock, toKithError, makeFolder } from "../base/index.js";
import { download, goInstall, tryLock, versionOf } from "./fetch.js";
import { type Download, downloadFor, isAtLeast, minimumVersion, pinnedVersion, platformName } from "./releases.js";

export interface ResolveOptions {
  /** A NATS server that runs already: nothing is looked for. */
  url?: string;
  /** The search path for `nats-server` and `go`, as in the PATH variable. */
  searchPath?: string;
  /** Where a fetched server is kept; made if it is not there. */
  cacheDirectory: string;
  /** Told what takes time, and of a server that is found in the end, why others were not used; in plain lines. */
  log?: (line: string) => void;
  /** Whether one is fetched where none is found; default: true. */
  fetch?: boolean;
  /** Overrides the table of release archives. */
  download?: Download | "none";
}

export type NatsServer =
  | { kind: "external"; url: string }
  | { kind: "binary"; path: string; version: string; source: "path" | "cache" | "download" | "go" };

type Binary = Extract<NatsServer, { kind: "binary" }>;

async function findExecutable(name: string, searchPath: string): Promise<string | undefined> {
  for (const directory of searchPath.split(delimiter)) {
    if (directory === "") continue;
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    }
  }
  return undefined;
}

async function usable(
  path: string,
  source: Binary["source"],
  tried: (line: string) => void,
): Promise<Binary | undefined> {
  const version = await versionOf(path);
  if (version === undefined) {
    tried(`${path} cannot be run`);
    return undefined;
  }
  if (!isAtLeast(version, minimumVersion)) {
    tried(
      `${path} is version ${version}, older than ${minimumVersion}: such servers have known faults in compare-and-set and can lose data`,
    );
    return undefined;
  }
  return { kind: "binary", path, version, source };
}

/** Where fetched servers lie: the version is in the name, so that another one never takes the place of the pinned one. */
function cachedPath(cacheDirectory: string, version: string): string {
  return join(cacheDirectory, `nats-server-${version}`);
}

/**
 * Finds a nats-server to start, or says which one to use: the given URL, the search path, the cache; else it fetches
 * one, by `go install` of the pinned release where Go is present, else as a release archive with a pinned checksum.
 * Rejects with FAILED_PRECONDITION, naming all that was tried, when none of these works. Several processes may call it
 * at once with the same cache.
 */
export async function resolveNatsServer(options: ResolveOptions): Promise<NatsServer> {
  if (options.url !== undefined) return { kind: "external", url: options.url };
  const attempts: string[] = [];
  const found = await findOrFetch(options, (line) => void attempts.push(line));
  if (found === undefined) throw notFound(attempts);
  // Where there is none, the error tells them.
  for (const line of attempts) options.log?.(line);
  return found;
}

async function findOrFetch(options: ResolveOptions, tried: (line: string) => void): Promise<Binary | undefined> {
  const searchPath = options.searchPath ?? "";
  const onPath = await findExecutable("nats-server", searchPath);
  const found = onPath === undefined ? undefined : await usable(onPath, "path", tried);
  if (found !== undefined) return found;
  if (onPath === undefined) tried("no nats-server on the PATH");

  const archive =
    options.download === "none"
      ? undefined
      : (options.download ?? downloadFor(platformName(process.platform, process.arch)));
  const versions = archive === undefined ? [pinnedVersion] : [pinnedVersion, archive.version];
  const cached = async (): Promise<Binary | undefined> => {
    for (const version of versions) {
      const path = cachedPath(options.cacheDirectory, version);
      const binary = (await versionOf(path)) === undefined ? undefined : await usable(path, "cache", tried);
      if (binary !== undefined) return binary;
    }
    return undefined;
  };
  const inCache = await cached();
  if (inCache !== undefined) return inCache;
  if (options.fetch === false) {
    tried("none in the cache");
    return undefined;
  }
  return locked(options.cacheDirectory, cached, () => fetchServer(options, searchPath, archive, tried), options.log);
}

function notFound(attempts: readonly string[]): KithError {
  const tried = attempts.join("; ");
  return new KithError(
    "FAILED_PRECONDITION",
    `no usable nats-server was found (${tried}). Install nats-server ${pinnedVersion} and put it on the PATH, ` +
      "or set KITH_NATS_URL to a server that runs, or use `kith dev`, which needs none",
    { details: { minimumVersion, pinnedVersion, tried } },
  );
}

/** Lets one process fetch while the others wait for what it puts into the cache. */
async function locked(
  cacheDirectory: string,
  cached: () => Promise<Binary | undefined>,
  work: () => Promise<Binary | undefined>,
  log: ResolveOptions["log"],
): Promise<Binary | undefined> {
  await makeFolder(cacheDirectory);
  for (let waits = 0; ; waits++) {
    const unlock = await tryLock(join(cacheDirectory, "nats-server.lock"));
    if (unlock === undefined) {
      if (waits === 1) log?.("waiting for another process, which fetches nats-server");
      await sleep(systemClock, 100);
      continue;
    }
    try {
      return (await cached()) ?? (await work());
    } finally {
      await unlock();
    }
  }
}

async function fetchServer(
  options: ResolveOptions,
  searchPath: string,
  archive: Download | undefined,
  tried: (line: string) => void,
): Promise<Binary | undefined> {
  // Go comes first: it gives the pinned release, the known archives are of an earlier patch.
  const go = await findExecutable("go", searchPath);
  if (go === undefined) tried("no go on the PATH to build nats-server with");
  else {
    const path = cachedPath(options.cacheDirectory, pinnedVersion);
    options.log?.(`building nats-server ${pinnedVersion} with ${go}, about a minute`);
    try {
      await goInstall(pinnedVersion, path, go);
      const binary = await usable(path, "go", tried);
      if (binary !== undefined) return binary;
    } catch (error) {
      tried(toKithError(error).message);
    }
  }
  if (archive === undefined) {
    tried(`no release archive with a known checksum for ${platformName(process.platform, process.arch)}`);
    return undefined;
  }
  const path = cachedPath(options.cacheDirectory, archive.version);
  options.log?.(`downloading ${archive.url}`);
  try {
    await download(archive, path);
    return await usable(path, "download", tried);
  } catch (error) {
    tried(toKithError(error).message);
    return undefined;
  }
}
