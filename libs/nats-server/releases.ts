/** Older servers are refused for clusters: they have known faults in compare-and-set and can lose data. */
export const minimumVersion = "2.12.0";

/** The release that the project is tested with; built from source where Go is present. */
export const pinnedVersion = "2.14.9";

export interface Download {
  version: string;
  url: string;
  /** Of the archive, hexadecimal. */
  sha256: string;
}

/**
 * Release archives whose checksums are known here; nothing else is ever downloaded. The checksums are those that
 * nats-io/nats-docker pins in 2.14.x/alpine3.22/Dockerfile, of which 2.14.5 is the latest known to this project.
 */
const downloadVersion = "2.14.5";
const checksums: Readonly<Record<string, string>> = {
  "linux-amd64": "5e3b603d47c447bda1f77f9ac16dbf91c90aac4ff3681f8fbbc7201e4ed99355",
  "linux-arm64": "673a98d3faa79dde3f9ebf16d6dfac36a5f694e7ad2015e4954dd7939c85cd4c",
};

export function platformName(platform: string, architecture: string): string {
  return `${platform}-${architecture === "x64" ? "amd64" : architecture}`;
}

/** The archive for a platform as release pages name it ("linux-amd64"), where its checksum is known. */
export function downloadFor(platform: string): Download | undefined {
  const sha256 = checksums[platform];
  if (sha256 === undefined) return undefined;
  const archive = `nats-server-v${downloadVersion}-${platform}.tar.gz`;
  return {
    version: downloadVersion,
    url: `https://github.com/nats-io/nats-server/releases/download/v${downloadVersion}/${archive}`,
    sha256,
  };
}

/** Compares versions such as "2.12.0" and "v2.14.0-RC.1" by their three numbers; a pre-release comes before its release. */
export function isAtLeast(version: string, minimum: string): boolean {
  const parse = (text: string): number[] | undefined => {
    const match = /^v?(\d+)\.(\d+)\.(\d+)(-.+)?/.exec(text);
    return match === null ? undefined : [+(match[1] ?? 0), +(match[2] ?? 0), +(match[3] ?? 0), match[4] ? 0 : 1];
  };
  const have = parse(version);
  const want = parse(minimum);
  if (have === undefined || want === undefined) return false;
  for (const [index, wanted] of want.entries()) {
    const found = have[index] as number;
    if (found !== wanted) return found > wanted;
  }
  return true;
}
