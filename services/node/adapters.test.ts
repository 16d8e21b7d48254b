import { expect, test } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { untilNatsAnswers } from "./adapters.js";
import { checkCluster } from "./encryption.js";

test("a node whose catalog goes away while it starts waits for it, and says so once", async () => {
  const catalog = await FakeCatalog.open();
  const said: string[] = [];
  let asked = 0;
  catalog.available = false;
  const ask = (): Promise<void> => {
    asked++;
    return checkCluster(catalog, undefined, false);
  };
  const logger = { ...silentLogger, warn: (message: string) => void said.push(message) };
  const started = untilNatsAnswers(ask, systemRuntime, logger, undefined);
  await eventually(() => expect(asked).toBeGreaterThan(1));
  catalog.available = true;
  await started;
  expect(said).toEqual([expect.stringContaining("waits until NATS answers")]);
});
