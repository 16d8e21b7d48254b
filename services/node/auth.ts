import { Authenticator, KeyStore } from "../../libs/auth/index.js";
import { KithError, type Runtime } from "../../libs/base/index.js";
import type { Catalog } from "../../libs/catalog/index.js";
import { isAuthRequired, type NodeConfig } from "../../libs/config/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { readSetting } from "./adapters.js";

export interface OpenedAuth {
  authenticator: Authenticator;
  store: KeyStore;
  close(): Promise<void>;
}

/** Who may call this node's router, by its settings and by the keys and roles in the catalog. */
export async function openAuth(
  config: NodeConfig,
  catalog: Catalog,
  { clock, random }: Runtime,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<OpenedAuth> {
  const { certificates, keysStaleMs } = config.auth;
  const store = new KeyStore(catalog, clock, random);
  await store.start(signal);
  const isRequired = isAuthRequired(config);
  const bootstrapKey = await bootstrapKeyOf(config);
  const authenticator = new Authenticator({
    ...{ store, catalog, clock, isRequired, bootstrapKey, keysStaleMs },
    certificateRoles: certificates && new Map(Object.entries(certificates)),
  });
  if (isRequired && bootstrapKey !== undefined) {
    const isUnchanged = store.keys().every(({ role }) => role !== "admin");
    const advice = isUnchanged
      ? "make a key with the role admin, and take this one out of the settings (auth.required: true stays)"
      : "there are other keys of administrators: take it out of the settings (auth.required: true stays)";
    logger.warn(`the administrator's key of the settings is in force: ${advice}`);
  }
  if (!isRequired && store.keys().length > 0) {
    logger.warn("the catalog has API keys, and this router asks nobody for one: set auth.required");
  }
  return {
    authenticator,
    store,
    async close() {
      authenticator.close();
      await store.close();
    },
  };
}

async function bootstrapKeyOf({ auth }: NodeConfig): Promise<string | undefined> {
  const { adminKey, adminKeyFile } = auth;
  if (adminKeyFile === undefined) return adminKey;
  if (adminKey !== undefined) {
    throw new KithError("INVALID_CONFIG", "auth.adminKey and auth.adminKeyFile are both given; leave one of them out");
  }
  const key = (await readSetting("auth.adminKeyFile", adminKeyFile)).toString().trim();
  if (key.length >= keyLengthMin && !/\s/.test(key)) return key;
  throw new KithError(
    "INVALID_CONFIG",
    `auth.adminKeyFile ${adminKeyFile} must have one line of ${keyLengthMin} random characters or more`,
  );
}

const keyLengthMin = 32;
