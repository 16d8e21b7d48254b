import { hostPort } from "../../libs/base/index.js";
import { type RpcServer } from "../../libs/rpc/server/index.js";
import type { Closers } from "./closers.js";

export async function listen(
  server: RpcServer,
  { host, port }: { host: string; port: number },
  closers: Closers,
  name: string,
): Promise<string> {
  const bound = await server.listen(host, port);
  closers.add(`${name} service`, () => server.drain(closers.drainMs()));
  return hostPort(host, bound);
}
