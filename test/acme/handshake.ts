import type { X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';

export interface HandshakeOptions {
  /** PEM; left out, nobody is trusted and anybody is fine. */
  readonly ca?: string;
  readonly alpn?: string;
  readonly maxVersion?: 'TLSv1.2';
}

/** The certificate that a client gets, or the code of its error. @param servername empty: it names none */
export function shakeHands(
  port: number,
  servername: string,
  { ca, alpn, maxVersion }: HandshakeOptions = {},
): Promise<X509Certificate | string> {
  return new Promise((resolve) => {
    const socket = connect({
      port,
      ...(servername === '' ? {} : { servername }),
      ...(ca === undefined ? { rejectUnauthorized: false } : { ca }),
      ...(alpn === undefined ? {} : { ALPNProtocols: [alpn] }),
      ...(maxVersion === undefined ? {} : { maxVersion }),
    });
    socket.on('secureConnect', () => {
      resolve(socket.getPeerX509Certificate() ?? 'no certificate');
      socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code ?? 'an error');
    });
  });
}

/** Serial number of the certificate that is shown for a name. */
export async function serialAt(port: number, servername: string): Promise<string> {
  const shown = await shakeHands(port, servername);
  if (typeof shown === 'string') throw new Error(`no handshake: ${shown}`);
  return shown.serialNumber;
}

/** Names of the certificate, or the code of the error in its place. */
export function namesOf(shown: X509Certificate | string): string {
  return typeof shown === 'string' ? shown : (shown.subjectAltName ?? '');
}
