import { type Socket, createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { TestAuthority, writeKeyPair } from './certificates.js';
import { requireComponent } from './component.js';
import { freePort } from './free-port.js';
import { writeFileIn } from './policy-builder.js';
import { WatchedProcess } from './process.js';
import { TemporaryDirectory } from './temporary-directory.js';

export interface PebbleOptions {
  /** Of certificates, in seconds. Default: five years. */
  readonly validitySeconds?: number;
  /** Of a hundred good nonces so many are refused. Default: 20. */
  readonly refusedNonces?: number;
  /** Key identifier → key, base64url; who has none of them gets no account. */
  readonly externalAccounts?: Readonly<Record<string, string>>;
  /** Authorizations of a host that are good for its next order too, of a hundred. Default: 0. */
  readonly reusedAuthorizations?: number;
}

/** A DNS server that leads every name to this machine, but for some. */
class TestDns {
  readonly #socket: Socket;
  /** Names that there are none of. */
  readonly lost = new Set<string>();

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async start(): Promise<TestDns> {
    const socket = createSocket('udp4');
    const dns = new TestDns(socket);
    socket.on('message', (query, { address, port }) => {
      socket.send(dns.#answer(query), port, address);
    });
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    return dns;
  }

  get address(): string {
    return `127.0.0.1:${String(this.#socket.address().port)}`;
  }

  close(): void {
    this.#socket.close();
  }

  /** RFC 1035 §4: one question, and for an A of a known name one answer. */
  #answer(query: Buffer): Buffer {
    const { name, end } = nameIn(query);
    const question = query.subarray(12, end + 4);
    const isLost = this.lost.has(name);
    const isAddress = query.readUInt16BE(end) === 1 && !isLost;
    const head = Buffer.from([
      query[0] ?? 0,
      query[1] ?? 0,
      0x81,
      isLost ? 0x83 : 0x80,
      0,
      1,
      0,
      isAddress ? 1 : 0,
      0,
      0,
      0,
      0,
    ]);
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    return Buffer.concat([head, question, ...(isAddress ? [record] : [])]);
  }
}

/** What is asked about, and where its type stands. */
function nameIn(query: Buffer): { readonly name: string; readonly end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 1 };
}

interface PebbleParts {
  readonly command: string;
  readonly port: number;
  readonly managementPort: number;
  readonly directory: TemporaryDirectory;
  readonly dns: TestDns;
  readonly options: PebbleOptions;
  /** PEM: who vouches for the authority's own TLS. */
  readonly ca: string;
}

/**
 * A real ACME authority of a test's own (Let's Encrypt's pebble), with a DNS that leads every name here. It connects to
 * `httpPort` and `tlsPort` where others would to 80 and 443. It knows nothing any more once it was started again.
 */
export class Pebble {
  readonly httpPort: number;
  readonly tlsPort: number;
  /** PEM file: who vouches for the authority's own TLS. */
  readonly caFile: string;
  readonly #parts: PebbleParts;
  #process: WatchedProcess | null = null;

  private constructor(parts: PebbleParts, httpPort: number, tlsPort: number) {
    this.#parts = parts;
    this.httpPort = httpPort;
    this.tlsPort = tlsPort;
    this.caFile = parts.directory.file('authority.pem');
  }

  /** Null after marking the test as skipped: there is no pebble here. */
  static async start(t: TestContext, options: PebbleOptions = {}): Promise<Pebble | null> {
    const command = requireComponent('pebble', t);
    if (command === null) return null;
    const directory = new TemporaryDirectory(t);
    const dns = await TestDns.start();
    t.after(() => {
      dns.close();
    });
    const authority = await TestAuthority.create('authority of the authority');
    const { certFile, keyFile } = writeKeyPair(directory, await authority.issue(), 'pebble');
    writeFileIn(directory, 'authority.pem', authority.ca, 0o644);
    const [port, managementPort, httpPort, tlsPort] = [
      await freePort(),
      await freePort(),
      await freePort(),
      await freePort(),
    ];
    const { validitySeconds, externalAccounts } = options;
    const config = {
      pebble: {
        listenAddress: `127.0.0.1:${String(port)}`,
        managementListenAddress: `127.0.0.1:${String(managementPort)}`,
        certificate: certFile,
        privateKey: keyFile,
        httpPort,
        tlsPort,
        ocspResponderURL: '',
        externalAccountBindingRequired: externalAccounts !== undefined,
        ...(externalAccounts === undefined ? {} : { externalAccountMACKeys: externalAccounts }),
        ...(validitySeconds === undefined ? {} : { certificateValidityPeriod: validitySeconds }),
      },
    };
    writeFileIn(directory, 'pebble.json', JSON.stringify(config), 0o600);
    const pebble = new Pebble(
      { command, port, managementPort, directory, dns, options, ca: authority.ca },
      httpPort,
      tlsPort,
    );
    t.after(() => pebble.stop());
    await pebble.startAgain();
    return pebble;
  }

  get directoryUrl(): string {
    return `https://localhost:${String(this.#parts.port)}/dir`;
  }

  /** Names that lead nowhere. */
  get lost(): Set<string> {
    return this.#parts.dns.lost;
  }

  /** Of all it has said. */
  get output(): string {
    return this.#process?.stdout ?? '';
  }

  /** At the same address, with another root and without any account. */
  async startAgain(): Promise<void> {
    const { command, directory, dns, options } = this.#parts;
    const running = new WatchedProcess(
      command,
      ['-config', directory.file('pebble.json'), '-strict', '-dnsserver', dns.address],
      {
        env: {
          PEBBLE_VA_NOSLEEP: '1',
          PEBBLE_WFE_NONCEREJECT: String(options.refusedNonces ?? 20),
          PEBBLE_AUTHZREUSE: String(options.reusedAuthorizations ?? 0),
        },
      },
    );
    this.#process = running;
    await running.waitForOutput(/ACME directory available at/);
  }

  /** As a crash would. */
  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = null;
  }

  /** PEM of what its certificates end in. */
  async root(): Promise<string> {
    const { request } = await import('node:https');
    const { managementPort, ca } = this.#parts;
    const asked = request({ host: 'localhost', port: managementPort, path: '/roots/0', ca });
    asked.end();
    const [response] = (await once(asked, 'response')) as [AsyncIterable<Buffer>];
    const pieces: Buffer[] = [];
    for await (const piece of response) pieces.push(piece);
    return Buffer.concat(pieces).toString('latin1');
  }
}
