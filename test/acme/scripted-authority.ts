import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { AcmeSettings } from '../../src/policy/policy.js';
import { testCertificates } from '../support/certificates.js';
import { freePort } from '../support/free-port.js';
import { writeFileIn } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

/** What a client sent, its JWS opened. */
export interface Asked {
  readonly path: string;
  readonly method: string;
  readonly header: Readonly<Record<string, unknown>>;
  /** Empty where there is none. */
  readonly payload: Readonly<Record<string, unknown>>;
}

/** Answers one request; false: it is answered as ever. */
export type Script = (asked: Asked, response: ServerResponse) => boolean;

export const TOKEN = 'tokenTokenTokenTokenTokenTokenTokenTokenToken';

/**
 * An ACME authority that never comes to an end: its orders and challenges stay pending. What it answers otherwise is said
 * by `script`.
 */
export class ScriptedAuthority implements AsyncDisposable {
  readonly httpPort: number;
  readonly tlsPort: number;
  readonly caFile: string;
  readonly asked: Asked[] = [];
  script: Script = () => false;
  readonly #directory: TemporaryDirectory;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets = new Set<Socket>();
  #nonces = 0;

  private constructor(
    directory: TemporaryDirectory,
    ports: readonly [number, number],
    server: ReturnType<typeof createServer>,
  ) {
    this.#directory = directory;
    this.caFile = directory.file('authority.pem');
    [this.httpPort, this.tlsPort] = ports;
    this.#server = server;
  }

  static async start(): Promise<ScriptedAuthority> {
    const { ca, server: pair } = await testCertificates();
    const directory = new TemporaryDirectory();
    writeFileIn(directory, 'authority.pem', ca, 0o644);
    const server = createServer({ cert: pair.cert, key: pair.key });
    const authority = new ScriptedAuthority(directory, [await freePort(), await freePort()], server);
    server.on('connection', (socket: Socket) => {
      authority.#sockets.add(socket);
      socket.once('close', () => authority.#sockets.delete(socket));
    });
    server.on('request', (request, response) => {
      void authority.#answer(request, response);
    });
    server.listen(0, 'localhost');
    await once(server, 'listening');
    return authority;
  }

  get directoryUrl(): string {
    return this.url('/dir');
  }

  url(path: string): string {
    return `https://localhost:${String((this.#server.address() as AddressInfo).port)}${path}`;
  }

  /** @param type of a problem, without the urn */
  problem(
    response: ServerResponse,
    status: number,
    type: string,
    detail: string,
    fields: Readonly<Record<string, string>> = {},
  ): true {
    this.json(
      response,
      status,
      { type: `urn:ietf:params:acme:error:${type}`, detail },
      { 'content-type': 'application/problem+json', ...fields },
    );
    return true;
  }

  json(response: ServerResponse, status: number, body: unknown, fields: Readonly<Record<string, string>> = {}): void {
    this.#nonces += 1;
    response.writeHead(status, {
      'content-type': 'application/json',
      'replay-nonce': `nonce${String(this.#nonces)}`,
      ...fields,
    });
    response.end(JSON.stringify(body));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const piece of request.setEncoding('utf8') as AsyncIterable<string>) body += piece;
    const jws = body === '' ? {} : (JSON.parse(body) as { readonly protected?: string; readonly payload?: string });
    const opened = (part = ''): Record<string, unknown> =>
      part === '' ? {} : (JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>);
    const asked: Asked = {
      path: request.url ?? '',
      method: request.method ?? '',
      header: opened(jws.protected),
      payload: opened(jws.payload),
    };
    this.asked.push(asked);
    if (this.script(asked, response)) return;
    switch (asked.path) {
      case '/dir':
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end(
          JSON.stringify({
            newNonce: this.url('/nonce'),
            newAccount: this.url('/account'),
            newOrder: this.url('/new-order'),
          }),
        );
        return;
      case '/account':
        this.json(response, 201, { status: 'valid' }, { location: this.url('/account/1') });
        return;
      case '/new-order':
      case '/order/1':
        this.json(
          response,
          asked.path === '/new-order' ? 201 : 200,
          { status: 'pending', authorizations: [this.url('/authorization')], finalize: this.url('/finalize') },
          { location: this.url('/order/1') },
        );
        return;
      case '/authorization':
        this.json(response, 200, {
          status: 'pending',
          identifier: { type: 'dns', value: 'a.example.com' },
          challenges: ['http-01', 'tls-alpn-01', 'dns-01'].map((type) => ({
            type,
            url: this.url(`/challenge/${type}`),
            token: TOKEN,
          })),
        });
        return;
      default:
        this.json(response, 200, {});
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
    this.#directory[Symbol.dispose]();
  }
}

/** What a policy says of it. */
export function settingsOf(authority: ScriptedAuthority): AcmeSettings {
  const caPem = readFileSync(authority.caFile, 'utf8');
  return {
    directory: authority.directoryUrl,
    email: null,
    challenges: ['tls-alpn-01', 'http-01'],
    authority: { caFile: authority.caFile, caPem, crlFile: null, crlPems: [], partialChain: false },
    externalAccount: null,
  };
}
