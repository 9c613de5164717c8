import { once } from 'node:events';
import { type Socket, connect } from 'node:net';
import { type Server, type TLSSocket, type TlsOptions, createServer } from 'node:tls';
import { RecordingUpstream, type RecordingUpstreamOptions } from '../support/recording-upstream.js';

/** A service on another machine, as far as anybody can tell: TLS in front of an upstream that records what it is sent. */
export class FarSide implements AsyncDisposable {
  readonly upstream: RecordingUpstream;
  /** Of each connection whose handshake succeeded, in order. */
  readonly handshakes: { readonly resumed: boolean; readonly servername: string; readonly shown: string | null }[] = [];
  readonly #options: TlsOptions;
  readonly #sockets = new Set<Socket>();
  #server: Server | null = null;
  #port = 0;

  private constructor(upstream: RecordingUpstream, options: TlsOptions) {
    this.upstream = upstream;
    this.#options = options;
  }

  static async start(options: TlsOptions, upstream: RecordingUpstreamOptions = {}): Promise<FarSide> {
    const far = new FarSide(await RecordingUpstream.start({ allowHalfOpen: true, ...upstream }), options);
    await far.open();
    return far;
  }

  get port(): number {
    return this.#port;
  }

  /** As a policy's `upstream:` wants it. */
  get url(): string {
    return `https://localhost:${String(this.#port)}`;
  }

  /** Where it was before, if it was anywhere. */
  async open(): Promise<void> {
    const server = createServer({ ALPNProtocols: ['http/1.1'], allowHalfOpen: true, ...this.#options }, (socket) => {
      this.#pass(socket);
    });
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('tlsClientError', (_error, socket) => {
      socket.destroy();
    });
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new TypeError('no port');
    this.#port = address.port;
    this.#server = server;
  }

  /** New handshakes get this. */
  show(options: { readonly cert: string; readonly key: string }): void {
    this.#server?.setSecureContext({ ...this.#options, ...options });
  }

  /** Nobody listens there any more, and every connection breaks. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    this.upstream[Symbol.dispose]();
  }

  #pass(socket: TLSSocket): void {
    const { subject } = socket.getPeerCertificate() as { readonly subject?: { readonly CN?: string } };
    this.handshakes.push({
      resumed: socket.isSessionReused(),
      servername: typeof socket.servername === 'string' ? socket.servername : '',
      shown: subject?.CN ?? null,
    });
    const behind = connect({ host: '127.0.0.1', port: this.upstream.port, allowHalfOpen: true });
    for (const [one, other] of [
      [socket, behind],
      [behind, socket],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroySoon());
    }
    socket.pipe(behind);
    behind.pipe(socket);
  }
}
