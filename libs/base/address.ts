/** Where Kith listens, and where clients look for it, unless told otherwise. */
export const defaultTarget = "127.0.0.1:7700";

/** "host:port" as everyone dials it: with brackets around an IPv6 address. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
