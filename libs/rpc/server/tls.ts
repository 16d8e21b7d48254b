/** PEM contents. With `ca`, clients must show a certificate that it signed. */
export interface ServerTls {
  cert: Buffer;
  key: Buffer;
  ca?: Buffer;
}
