import { X509Certificate, createHash } from 'node:crypto';
import { type SocketConstructorOpts, isIP } from 'node:net';
import { type ConnectionOptions, type SecureContext, connect, createSecureContext } from 'node:tls';
import type { Upstream, UpstreamTls } from '../policy/policy.js';
import type { Connected, Connecting } from './connect.js';
import { GivenUp } from './upstream-failure.js';
import { stayReadable } from './upstream-socket.js';

/** From the look-up of the name to the end of the handshake. */
const CONNECT_MS = 10_000;
const KEEP_ALIVE_MS = 15_000;

/**
 * Opens connections to an upstream on another machine. Its certificate is verified whatever the environment says: a chain
 * to the authorities of the policy, the name, and the pinned key where there is one. The last session is resumed, so that
 * a heartbeat every few seconds does not cost a handshake each time.
 */
export class SecureConnector {
  readonly #upstream: Upstream;
  readonly #tls: UpstreamTls;
  readonly #context: SecureContext;
  /** Of a connection whose certificate was good, until it is not any more. */
  #session: { readonly ticket: Buffer; readonly notAfterMs: number } | null = null;

  constructor(upstream: Upstream, tls: UpstreamTls) {
    const { authority, certificate } = tls;
    this.#upstream = upstream;
    this.#tls = tls;
    this.#context = createSecureContext({
      minVersion: 'TLSv1.2',
      ...(authority === null ? {} : { ca: authority.caPem }),
      ...(authority?.partialChain === true ? { allowPartialTrustChain: true } : {}),
      ...(certificate === null ? {} : { cert: certificate.certPem, key: certificate.key.reveal() }),
    });
  }

  open(done: Connected): Connecting {
    const { target } = this.#upstream;
    if (target.kind !== 'tcp') throw new TypeError('TLS is spoken with another machine');
    const { serverName } = this.#tls;
    const session = this.#usableSession();
    let notAfterMs = session?.notAfterMs ?? 0;
    let verified = false;
    let ticket: Buffer | null = null;
    const options: ConnectionOptions & SocketConstructorOpts = {
      host: target.host,
      port: target.port,
      // RFC 6066 §3: addresses are no names to be asked for.
      servername: isIP(serverName) === 0 ? serverName : '',
      secureContext: this.#context,
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: true,
      // A WebSocket's directions end one by one; without it Node closes the other for us.
      allowHalfOpen: true,
      ...(session === null ? {} : { session: session.ticket }),
      // Asked when the chain is good, and not at all of a session that is resumed.
      checkServerIdentity: (_name, { raw }) => {
        const certificate = new X509Certificate(raw);
        notAfterMs = Date.parse(certificate.validTo);
        return wrongServer(certificate, this.#tls);
      },
    };
    const socket = stayReadable(connect(options));
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const keep = (): void => {
      if (verified && ticket !== null) this.#session = { ticket, notAfterMs };
    };
    // In TLS 1.3 tickets come when they come; in 1.2 before it is known whose they are.
    socket.on('session', (given: Buffer) => {
      ticket = given;
      keep();
    });
    const settle: Connected = (result) => {
      clearTimeout(timer);
      socket.off('secureConnect', onConnect);
      socket.off('error', onError);
      if ('error' in result) {
        this.#session = null;
        // A late error of a socket that nobody uses must not become an uncaught one.
        socket.on('error', () => undefined);
        socket.destroy();
      }
      done(result);
    };
    const onConnect = (): void => {
      verified = true;
      keep();
      settle(socket);
    };
    const onError = (error: Error): void => {
      settle({ error });
    };
    const timer = setTimeout(() => {
      settle({ error: new GivenUp('upstream_timeout') });
    }, CONNECT_MS);
    socket.on('secureConnect', onConnect);
    socket.on('error', onError);
    return {
      cancel: () => {
        clearTimeout(timer);
        socket.off('secureConnect', onConnect);
        socket.off('error', onError);
        socket.on('error', () => undefined);
        socket.destroy();
      },
    };
  }

  #usableSession(): { readonly ticket: Buffer; readonly notAfterMs: number } | null {
    if (this.#session !== null && this.#session.notAfterMs <= Date.now()) this.#session = null;
    return this.#session;
  }
}

/**
 * RFC 9525: only what the certificate says as subjectAltName counts, and a wildcard stands for one whole label. Node's own
 * check falls back to the common name.
 */
function wrongServer(certificate: X509Certificate, { serverName, spki }: UpstreamTls): GivenUp | undefined {
  const named =
    isIP(serverName) === 0
      ? certificate.checkHost(serverName, { subject: 'never', partialWildcards: false, multiLabelWildcards: false })
      : certificate.checkIP(serverName);
  if (named === undefined) return new GivenUp('upstream_certificate_wrong_name');
  if (spki === null) return undefined;
  const key = certificate.publicKey.export({ type: 'spki', format: 'der' });
  const pin = createHash('sha256').update(key).digest('base64');
  return spki.has(pin) ? undefined : new GivenUp('upstream_certificate_wrong_key');
}
