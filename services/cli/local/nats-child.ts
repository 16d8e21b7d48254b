import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import { KithError } from "../../../libs/base/index.js";
import { startNatsServer } from "../../../libs/nats-server/index.js";
import type { Io } from "../io.js";
import { endLeftover, writePidFile } from "./pid-file.js";
import { whole } from "../values.js";

/**
 * The keeper of a nats-server: a child of `kith up`, and the parent of the server. Node cannot tie a foreign program's
 * life to its own, but it learns when its own parent is gone, even by kill -9, because the channel between them closes;
 * then it stops the server. It also keeps the server out of the terminal's process group, so that Ctrl-C does not stop it
 * before the nodes that need it.
 */
export function natsChildCommand(io: Io): Command {
  return new Command("nats-child")
    .description("run a nats-server for as long as the parent lives (used by kith up)")
    .requiredOption("--binary <path>", "the nats-server program")
    .requiredOption("--data <folder>", "its store")
    .option("--port <port>", "0 takes a free one", whole(0, 65_535), 0)
    .action(async (flags: { binary: string; data: string; port: number }) => {
      const { parent } = io;
      if (parent === undefined) {
        throw new KithError(
          "FAILED_PRECONDITION",
          "nats-child is started by kith up, not by hand; run nats-server itself",
        );
      }
      // nats-server does not lock its store: two of them on one store would destroy it (tried with 2.14.9).
      await mkdir(flags.data, { recursive: true });
      const pidFile = join(flags.data, "nats-server.pid");
      await endLeftover(pidFile, flags.data, (text) => void io.stderr.write(`${text}\n`));
      const server = await startNatsServer({
        binary: flags.binary,
        dataDirectory: flags.data,
        port: flags.port,
        log: (line) => void io.stderr.write(`${line}\n`),
      });
      await writePidFile(pidFile, server.pid);
      const { url, port, monitorUrl, pid } = server;
      parent.send({ kind: "ready", url, port, monitorUrl, pid });
      const told = new Promise<undefined>((resolve) => {
        const tell = (): void => resolve(undefined);
        if (io.signal.aborted) tell();
        io.signal.addEventListener("abort", tell, { once: true });
        parent.onGone(tell);
      });
      const exited = await Promise.race([told, server.exited]);
      if (exited !== undefined) {
        throw new KithError(
          "INTERNAL",
          `nats-server ended with ${exited.signal ?? `code ${exited.code}`}; its last lines are above`,
        );
      }
      await server.stop();
      await rm(pidFile, { force: true });
    });
}
