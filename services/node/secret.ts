import { type Runtime } from "../../libs/base/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import { ClusterSecret } from "../../libs/link/index.js";
import { readSetting } from "./adapters.js";
import { type Reloadable } from "./reload.js";

/** The secret of the cluster, where the settings name one. */
export async function openSecret(
  config: NodeConfig,
  runtime: Runtime,
): Promise<(Reloadable & { secret: ClusterSecret }) | undefined> {
  const read = async ({ link }: NodeConfig): Promise<string | undefined> =>
    link.secretFile === undefined ? link.secret : (await readSetting("link.secretFile", link.secretFile)).toString();
  let text = await read(config);
  if (text === undefined) return undefined;
  const secret = new ClusterSecret(text, runtime);
  return {
    secret,
    async prepare(fresh) {
      const next = (await read(fresh)) ?? "";
      // Throws where it is none.
      new ClusterSecret(next, runtime);
      return () => {
        if (next === text) return [];
        secret.replace(next);
        text = next;
        return ["link.secretFile"];
      };
    },
  };
}
