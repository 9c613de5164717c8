/** Many event streams at once, over TLS, or without it where the service itself is asked. */
import { connect as connectPlain } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { monotonicMs } from './clock.js';
import type { Guard } from './peers/peer.js';

const OPENING_AT_ONCE = 32;

export function openSocket(guard: Guard, ready: (socket: Socket) => void): Socket {
  const { protocol, hostname, port } = new URL(guard.url);
  if (protocol === 'http:') {
    const socket = connectPlain({ host: hostname, port: Number(port) }, () => {
      ready(socket);
    });
    return socket.setNoDelay(true);
  }
  const socket = connectTls(
    {
      host: hostname,
      port: Number(port),
      servername: 'localhost',
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
    },
    () => {
      ready(socket);
    },
  );
  return socket.setNoDelay(true);
}

export class EventStreams {
  readonly #sockets: Socket[] = [];
  #events = 0;
  #took: number[] = [];
  #lost = 0;

  /** @returns when every one has had its first bytes */
  async open(guard: Guard, path: string, count: number): Promise<void> {
    let next = 0;
    await Promise.all(
      Array.from({ length: OPENING_AT_ONCE }, async () => {
        while (next < count) {
          next += 1;
          await this.#one(guard, path);
        }
      }),
    );
  }

  /** Events since the last call, the milliseconds that each took, and streams that have ended. */
  take(): { readonly events: number; readonly took: readonly number[]; readonly lost: number } {
    const taken = { events: this.#events, took: this.#took, lost: this.#lost };
    this.#events = 0;
    this.#took = [];
    return taken;
  }

  close(): void {
    for (const socket of this.#sockets) socket.removeAllListeners('close').destroy();
    this.#sockets.length = 0;
  }

  #one(guard: Guard, path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      let open = false;
      const socket = openSocket(guard, () => {
        socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${guard.credential}\r\n\r\n`);
      });
      this.#sockets.push(socket);
      socket.setEncoding('latin1');
      socket.on('data', (text: string) => {
        if (!open) {
          if (!text.startsWith('HTTP/1.1 200')) {
            reject(new Error(`${guard.url} answered ${text.slice(0, 60)}`));
            return;
          }
          open = true;
          resolve();
        }
        const now = monotonicMs();
        for (const [, sent] of text.matchAll(/data: ([\d.]+)\n\n/g)) {
          this.#events += 1;
          this.#took.push(now - Number(sent));
        }
      });
      socket.once('error', reject);
      socket.once('close', () => {
        this.#lost += 1;
        reject(new Error(`${guard.url} ended a stream`));
      });
    });
  }
}
